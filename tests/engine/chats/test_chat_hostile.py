"""Hostile chat templates: refused with one line, in bounded time and memory, nothing executed; honest ones go on."""

import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from farthing.engine.chats.chat import MAX_REQUEST_BYTES, ChatTemplate
from farthing.engine.chats.template_process import MAX_MEMORY_BYTES
from farthing.errors import ChatTemplateError

MAX_SECONDS = 6  # 1 s to render; the rest is a slow machine that starts Python
HELLO = [{"role": "user", "content": "Hello"}]
LATE = "took more than 1 s"
NO_MEMORY = "MemoryError" if sys.platform == "linux" else f"MemoryError|8,388,608 characters|{LATE}"  # macOS: no limit
DOUBLING = "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}STEP{% endfor %}{{ ns.x }}"
LISTS = "{% set ns = namespace(x=[]) %}STEP{{ ns.x | tojson }}"

REFUSED_BY_A_BUDGET = {
    "{% for i in range(10**9) %}x{% endfor %}": "Range too big",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}": "numbers in ranges",
    "{{ 'a' * 10**9 }}": "8,388,608 characters",
    "{{ 10**9 * 'a' }}": "8,388,608 characters",
    "{{ [0] * 10**8 }}": "8,388,608 characters",
    "{{ ('a' * 10**6) * 10**6 }}": "8,388,608 characters",
    "{{ '%1000000000d' % 1 }}": "8,388,608 characters",
    "{{ '%.1000000000f' % 1 }}": "8,388,608 characters",
    "{{ '%(a)1000000000d' % {'a': 1} }}": "8,388,608 characters",
    "{{ '%*d' % (1000000000, 1) }}": "8,388,608 characters",
    "{{ 10 ** (10 ** 10) }}": "4,096 bits",
    "{{ 9 ** (9 ** 9) }}": "4,096 bits",
    "{{ (2 ** 4000) * (2 ** 4000) }}": "4,096 bits",
    "{{ 'a'.ljust(10**9) }}": "8,388,608 characters",
    "{{ 'a'.rjust(width=10**9) }}": "8,388,608 characters|keyword",
    "{{ 'a'.center(10**9) }}": "8,388,608 characters",
    "{{ 'a'.zfill(10**9) }}": "8,388,608 characters",
    "{{ '\t'.expandtabs(10**9) }}": "8,388,608 characters",
    "{{ 'a' | center(10**9) }}": "8,388,608 characters",
    "{{ 'a\n' | indent(10**9) }}": "8,388,608 characters",
    "{{ [1] | batch(10**9, 'x') | list }}": "8,388,608 characters",
    "{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}": "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = ns.x ~ ns.x %}"): "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = ns.x + ns.x %}"): "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = [ns.x, ns.x] | join %}"): "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = ns.x.join(['', '', '']) %}"): "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = ns.x.replace('a', 'aa') %}"): f"8,388,608 characters|{LATE}",
    DOUBLING.replace("STEP", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"): "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = '{0}{0}'.format(ns.x) %}"): "8,388,608 characters",
    DOUBLING.replace("STEP", "{% set ns.x = '%s%s' | format(ns.x, ns.x) %}"): "8,388,608 characters",
}
REFUSED_BY_THE_SANDBOX = {
    "{{ ''.__class__ }}": "'__class__'",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}": "'__class__'",
    "{{ ().__class__.__bases__[0].__subclasses__() }}": "'__class__'",
    "{{ cycler.__init__.__globals__.os.popen('touch FILE').read() }}": "'__init__'",
    "{{ joiner.__init__.__globals__.os.system('touch FILE') }}": "'__init__'",
    "{{ lipsum.__globals__['os'].popen('touch FILE').read() }}": "lipsum",
    "{{ namespace.__init__.__globals__ }}": "'__init__'",
    "{{ self.__init__.__globals__ }}": "'__init__'",
    "{{ raise_exception.__globals__ }}": "'__globals__'",
    "{{ strftime_now.__self__ }}": "'__self__'",
    "{{ range.__self__.loader }}": "'__self__'",
    "{{ ''['__class__'] }}": "'__class__'",
    "{{ '' | attr('__class__') }}": "'__class__'",
    "{{ [''] | map(attribute='__class__') | list }}": "'__class__'",
    "{{ messages | map('attr', '__class__') | list }}": "'__class__'",
    "{{ '{0.__class__}'.format(1) }}": "'__class__'",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}": "'__class__'",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}": "a namespace can't hold",
    "{% set ns = namespace(__call__=1) %}": "a namespace can't hold",
    "{{ messages.append(1) }}": "'append'",
    "{{ messages[0].update({'role': 'system'}) }}": "'update'",
    "{{ (messages | map('upper')).gi_frame.f_globals }}": "'gi_frame'",
    "{% include '/etc/passwd' %}": "no loader",
    "{% import '/etc/passwd' as x %}": "no loader",
    "{% extends '/etc/passwd' %}": "no loader",
    "{{ open('/etc/passwd').read() }}": "'open' is undefined",
    "{{ __import__('os').system('touch FILE') }}": "undefined",
    "{{ request.application }}": "'request' is undefined",
    "{% for %}": "TemplateSyntaxError",
    "{{ 1 / 0 }}": "ZeroDivisionError",
}
REFUSED_BY_THE_PROCESS = {
    "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}": NO_MEMORY,
    "{{ ('a' * 10**6) | replace('a', 'b' * 10**6) }}": NO_MEMORY,
    "{{ ('a' * 10**6).join(['b'] * 10**6) }}": NO_MEMORY,
    "{{ ('a' * 10**6).translate({97: 'b' * 10**6}) }}": f"MemoryError|{LATE}",
    "{{ '{:1000000000}'.format(1) }}": NO_MEMORY,
    "{{ '{:{w}}'.format(1, w=10**9) }}": NO_MEMORY,
    "{{ '%1000000000d' | format(1) }}": NO_MEMORY,
    "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}": "RecursionError",
    "{% for a in [[[]]] recursive %}{{ loop([[[]]]) }}{% endfor %}": "RecursionError",
    LISTS.replace("STEP", "{% for i in range(90000) %}{% set ns.x = [ns.x] %}{% endfor %}"):
        f"RecursionError|ended its process|{LATE}",
    LISTS.replace("STEP", "{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"): f"MemoryError|{LATE}",
    "{{ " + "(" * 100_000 + "1" + ")" * 100_000 + " }}": f"RecursionError|ended its process|{LATE}",
    "{{ 1" + "+1" * 200_000 + " }}": f"RecursionError|MemoryError|ended its process|{LATE}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000: f"RecursionError|SyntaxError|ended its process|{LATE}",
    "{{ 1.5 | round(10**9, 'ceil') }}": f"MemoryError|OverflowError|{LATE}",
    "{{ [1] | slice(10**9) | list }}": f"MemoryError|{LATE}",
    "{% for i in range(1000) %}{% for j in range(900) %}{% for k in 'a' * 1000 %}" + "{% endfor %}" * 3: LATE,
    "x" * 10_000_000: "10,000,000 characters",
}  # fmt: skip
ALL = REFUSED_BY_A_BUDGET | REFUSED_BY_THE_SANDBOX | REFUSED_BY_THE_PROCESS


@pytest.fixture(scope="module")
def honest() -> Iterator[ChatTemplate]:
    """A template of which the messages decide what it does: {"do": source part} picks a branch."""
    source = (
        "{% for m in messages %}{% if m.do == 'loop' %}{% for i in range(1000) %}{% for j in range(990) %}"
        "{% for k in 'a' * 1000 %}{% endfor %}{% endfor %}{% endfor %}{% elif m.do == 'memory' %}"
        "{{ ('a' * 10**6).replace('a', 'b' * 10**6) }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
    )
    template = ChatTemplate(source, special_tokens={})
    yield template
    template.close()


@pytest.mark.parametrize(("source", "cause"), ALL.items(), ids=[source[:50] for source in ALL])
def test_a_hostile_template_is_refused_before_anything_is_served(source, cause, tmp_path):
    file, before = tmp_path / "made", helpers()
    started = time.monotonic()
    with pytest.raises(ChatTemplateError) as caught:
        ChatTemplate(source.replace("FILE", str(file)), special_tokens={"bos_token": "<s>"})
    assert time.monotonic() - started < MAX_SECONDS
    text = str(caught.value)
    assert re.search(cause, text), text
    assert "\n" not in text and len(text) < 600 and caught.value.fix.startswith("use a checkpoint")
    assert not file.exists()
    assert not set(helpers()) - set(before)


def test_a_template_that_is_too_slow_on_one_request_serves_the_next(honest):
    before = honest.render(HELLO)
    started = time.monotonic()
    with pytest.raises(ChatTemplateError, match=LATE):
        honest.render([{"do": "loop"}])
    assert time.monotonic() - started < MAX_SECONDS
    assert honest.render(HELLO) == before == "Hello"
    assert len(helpers()) == 1


def test_a_template_that_takes_too_much_memory_on_one_request_serves_the_next(honest):
    (helper,) = helpers()
    with pytest.raises(ChatTemplateError, match=NO_MEMORY):
        honest.render([{"do": "memory"}])
    assert honest.render(HELLO) == "Hello"
    assert helpers() != [helper], "a process that ran out of memory is replaced"


def test_a_helper_that_dies_is_replaced(honest):
    honest.render(HELLO)
    (helper,) = helpers()
    helper.kill()
    helper.wait(5)
    assert honest.render(HELLO) == "Hello"


def test_messages_above_the_limit_are_refused(honest):
    with pytest.raises(ChatTemplateError, match="the messages have more than 32 MiB"):
        honest.render([{"role": "user", "content": "x" * MAX_REQUEST_BYTES}])


def test_a_long_conversation_is_no_attack(honest):
    text = "Zürich 你好 🙂 " * 200_000
    assert honest.render([{"role": "user", "content": text}]) == text


def test_an_error_text_of_a_template_is_one_short_printable_line():
    with pytest.raises(ChatTemplateError) as caught:
        ChatTemplate("{{ raise_exception('\x1b[31mred\r\n\u202e' * 1000) }}", special_tokens={})
    text = str(caught.value)
    assert text.isprintable() and len(text) < 600


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_helper_has_no_files_no_secrets_and_little_memory(honest, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    honest.close()
    with Path(__file__).open():
        honest.render(HELLO)
    (helper,) = helpers()
    process = Path("/proc") / str(helper.pid)
    assert sorted(int(fd.name) for fd in (process / "fd").iterdir()) == [0, 1, 2]
    assert set(helper.environ()) <= {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LC_CTYPE"}
    limits = (process / "limits").read_text()
    assert re.search(rf"Max address space +{MAX_MEMORY_BYTES} +{MAX_MEMORY_BYTES} ", limits)
    assert re.search(r"Max open files +3 +3 ", limits) and re.search(r"Max file size +0 +0 ", limits)
    assert os.getsid(helper.pid) == helper.pid
    assert helper.memory_info().rss < 64 * 2**20


def test_a_closed_template_leaves_no_process():
    template = ChatTemplate("{{ messages[0].content }}", special_tokens={})
    count = len(helpers())
    template.close()
    assert len(helpers()) == count - 1


def helpers() -> list[psutil.Process]:
    """The helper processes of this test process."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended
            if "template_process" in " ".join(child.cmdline()):
                found.append(child)
    return found
