"""The helper process that renders chat templates: a sandbox with budgets, asked and answered in lines of JSON.

A template is code from a download. It runs here, in a process that can open no file, start no child and take no more
than MAX_MEMORY_BYTES, and that chat.py kills when it takes too long. What templates may use is what the transformers
library gives them, less what could only harm. The budgets refuse the usual bombs with a clear text; what they miss
meets the limits of the process (on macOS, which does not limit the memory of a process, only that of time).
"""

import datetime
import json
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import reduce, wraps
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

MAX_MEMORY_BYTES = 512 * 2**20
MAX_TEXT_CHARACTERS = 8 * 2**20  # of anything that a template makes; a context of 1M tokens is about 4M characters
MAX_RANGE_NUMBERS = 1_000_000  # of all ranges of one rendering together
MAX_INTEGER_BITS = 4096
MAX_ERROR_CHARACTERS = 300
ORPHAN_SECONDS = 10  # a helper whose parent has died ends itself

_PADDING = frozenset(("batch", "center", "expandtabs", "indent", "ljust", "rjust", "zfill"))
_CONVERSION = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")


class NamedValues(Namespace):
    """`namespace(...)` without names that begin with an underscore: Python looks for its hooks there."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        Namespace.__init__(self)
        for name, value in dict(*rest, **kwargs).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"a namespace can't hold {str(name)[:40]!r}")
        super().__setitem__(name, value)


class GenerationTag(Extension):
    """`{% generation %}` marks what an assistant said, for training; here it is its content."""

    tags = {"generation"}  # noqa: RUF012 - the type that Jinja declares

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class JoinsAsAdditions(NodeTransformer):
    """Rewrites `a ~ b` to `a|string + b|string`, because the sandbox can watch additions and not joins."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        line = node.lineno
        texts: list[nodes.Expr] = [nodes.Filter(n, "string", [], [], None, None, lineno=line) for n in node.nodes]
        return reduce(lambda left, right: nodes.Add(left, right, lineno=line), texts)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as transformers sets it up for chat templates, with budgets on what its operations make."""

    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
        self._numbers_left = MAX_RANGE_NUMBERS
        self._now = datetime.datetime.min
        self.filters["tojson"] = _tojson
        self.filters = {name: _bounded_filter(name, function) for name, function in self.filters.items()}
        self.globals.update(
            dict=_dict,
            namespace=NamedValues,
            raise_exception=_raise_exception,
            range=self._range,
            strftime_now=self._strftime_now,
        )
        del self.globals["lipsum"]

    def compile_source(self, source: str) -> jinja2.Template:
        tree = JoinsAsAdditions().visit(self.parse(source))
        return self.from_string(tree.set_environment(self))

    def render(self, template: jinja2.Template, variables: Mapping[str, Any], now: str) -> str:
        """The rendered text; `now` (ISO date and time) is all that a template learns about the world."""
        self._numbers_left = MAX_RANGE_NUMBERS
        self._now = datetime.datetime.fromisoformat(now)
        return template.render(variables)

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """The exception as it is; Jinja would read source files here, to improve a traceback that nobody sees."""
        raise

    def concat(self, parts: Iterable[str]) -> str:
        """Jinja joins the parts of a block, of a macro and of the whole text by this."""
        taken, length = [], 0
        for part in parts:
            taken.append(part)
            length += len(part)
            _require_length(length)
        return "".join(taken)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        numbers = isinstance(left, int) and isinstance(right, int)
        if operator == "+":
            _require_length(_length(left) + _length(right))
        elif operator == "*" and numbers:
            _require_bits(left.bit_length() + right.bit_length())
        elif operator == "*":
            _require_length(max(_length(left) * _count(right), _length(right) * _count(left)))
        elif operator == "**" and numbers:
            _require_bits(left.bit_length() * abs(right))
        elif operator == "%" and isinstance(left, str):
            widths = [width for found in _CONVERSION.findall(left) for width in found if width]
            _require_length(sum(MAX_TEXT_CHARACTERS + 1 if width == "*" else int(width) for width in widths))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(getattr(__obj, "__self__", None), (str, bytes)):
            _check_padding(__obj.__name__, (*args, *kwargs.values()))
        result = super().call(__context, __obj, *args, **kwargs)
        _require_length(_length(result))
        return result

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """An underscore attribute is an attack and ends the rendering; other unsafe ones are undefined, as usual."""
        if attribute.startswith("_"):
            raise SecurityError(f"access to the attribute {attribute[:40]!r}")
        return super().unsafe_undefined(obj, attribute)

    def _range(self, *bounds: int) -> range:
        numbers = safe_range(*bounds)
        self._numbers_left -= len(numbers)
        if self._numbers_left < 0:
            raise SecurityError(f"more than {MAX_RANGE_NUMBERS:,} numbers in ranges")
        return numbers

    def _strftime_now(self, format: str) -> str:
        return self._now.strftime(format)


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the HTML escapes of Jinja's own filter."""
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _bounded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)  # keeps the mark by which Jinja passes its environment
    def bounded(*args: Any, **kwargs: Any) -> Any:
        _check_padding(name, (*args, *kwargs.values()))
        result = function(*args, **kwargs)
        _require_length(_length(result))
        return result

    return bounded


def _check_padding(name: str, arguments: Iterable[Any]) -> None:
    if name in _PADDING:
        _require_length(max((_count(argument) for argument in arguments), default=0))


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes, list, tuple, dict)) else 0


def _count(value: Any) -> int:
    return max(value, 0) if isinstance(value, int) else 0


def _require_length(length: int) -> None:
    if length > MAX_TEXT_CHARACTERS:
        raise SecurityError(f"a text or list of more than {MAX_TEXT_CHARACTERS:,} characters or items")


def _require_bits(bits: int) -> None:
    if bits > MAX_INTEGER_BITS:
        raise SecurityError(f"a number of more than {MAX_INTEGER_BITS:,} bits")


def _confine() -> None:
    """Limits of this process, as far as the platform has them: memory, no new files, no children, no writing."""
    limits = {"RLIMIT_AS": MAX_MEMORY_BYTES, "RLIMIT_NOFILE": 3, "RLIMIT_NPROC": 0, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, limit in limits.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (limit, limit))


def main() -> None:
    """Answers requests until stdin ends: {"source"} compiles, {"variables", "now"} renders.

    Answers {"text"} or {"error"}; "worn" tells that memory or stack ran out and that the next rendering deserves a
    new process. The first line, {"ready"}, comes when all is loaded and the limits are in force.
    """
    environment = ChatEnvironment()
    # What Python loads on first use is loaded now, before files can't be opened any more.
    template = environment.compile_source("{{ strftime_now('%Y') }}{{ 'a'|wordwrap }}{{ 'a'|pprint }}")
    environment.render(template, {}, "2000-01-01T00:00:00")
    _confine()
    _answer(json.dumps({"ready": True}))
    for line in sys.stdin.buffer:
        signal.alarm(ORPHAN_SECONDS)
        try:
            request = json.loads(line)
            if "source" in request:
                template = environment.compile_source(request["source"])
                answer = json.dumps({"text": ""})
            else:
                answer = json.dumps({"text": environment.render(template, request["variables"], request["now"])})
        except Exception as error:
            worn = isinstance(error, (MemoryError, RecursionError))
            text = f"{type(error).__name__} {error}"[:MAX_ERROR_CHARACTERS]
            answer = json.dumps({"error": text, "worn": worn})
        signal.alarm(0)
        _answer(answer)


def _answer(line: str) -> None:
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()
