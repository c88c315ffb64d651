"""Hostile grammars, schemas, patterns and tools: an error of their own request or an ordinary answer, in 2 s, and the
engine lives (the rule is in attack.py, the classes of attack in test_attacks_requests.py).

What a grammar may ask for is tested in tests/engine/; here it is what the processes withstand.
"""

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attack import Reply, Target, under_attack
from server_process import serving

ANY = frozenset((200, 400))


@pytest.fixture(scope="module")
def target(long_folder: Path) -> Iterator[Target]:
    with serving(long_folder, engine={"context": 8192}) as server, under_attack(server) as target:
        yield target


def response_format(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def tool(name: str, parameters: object, *, strict: bool = False) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}}


def chain(keyword: str, length: int) -> dict[str, Any]:
    """Each definition refers twice to the next one: 2^length ways through."""
    defs: dict[str, Any] = {
        f"d{i}": {keyword: [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**defs, f"d{length}": {"type": "object"}}}


def nested(depth: int, *, kind: str = "object") -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = (
            {"type": "object", "properties": {"a": schema}} if kind == "object" else {"type": "array", "items": schema}
        )
    return schema


PATTERNS = [
    "(a?){60}a{60}", "(x+x+)+y", "(.*a){20}.*", "(.*a.*b){12}", "((a{0,100}){0,100}){0,100}", "a{1000000000}", "(?=a)b",
    "(a|aa)+$", "[a-z]{1,10000}[a-z]{1,10000}", "(.{0,200}x){50}", ".*" * 200, "(" * 5000 + "a" + ")" * 5000, "\\", "[",
    "(?i)" + "ß" * 5000, "(a*)*b", "\\p{L}{5000}", "(?P<n>a)(?P=n)", ".{1,9999}a.{1,500}", "(.*[ab]){1,40}c.{20}",
    "&".join(f"(.*{c}.*)" for c in "abcdefghijklmnop"), "a{2}{3}{4}{5}{6}{7}{8}{9}", "x{,}{", "*", "(?:", "\x00",
    "a" * 70_000,
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: ascii(pattern)[:40])
def test_patterns(target: Target, pattern: str):
    target.withstands(lambda: target.complete(guided_regex=pattern), ANY)
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}
    target.withstands(lambda: target.chat(response_format=response_format(schema)), ANY)


LARK = [
    "start: " + "(" * 3000 + '"a"' + ")" * 3000,
    "start: start",
    'start: start start | "a" | ',
    "start: %json {",
    "start: [",
    "start: X\nX: " + " & ".join(f"/(.*{c}.*)/" for c in "abcdefghijklmnopqrst"),
    'start: %json {"$ref": "#"}',
    "",
    "\x00",
    "start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(60)) + '\nr60: "a"',
    "start: <[99999999999]>",
    "start: X\nX: ~(~(/(.|\\n)*a(.|\\n){18}/) /.{15}/)",
    'start: a a a a a\na: b*\nb: c*\nc: /[a-z]*/ c? | ""',
    "start: <|x|>",
    "start: x\n" * 5000,
    "%import common.X\nstart: X",
    'start: "a"{1000000000}',
    "start: a\na: b\nb: a",
    "%ignore /.*/\nstart: /.*/",
]


@pytest.mark.parametrize("source", LARK, ids=lambda source: ascii(source)[:40])
def test_grammars(target: Target, source: str):
    target.withstands(lambda: target.complete(guided_grammar=source), ANY)


SCHEMAS = {
    "an exponential chain of allOf": chain("allOf", 40),
    "an exponential chain of anyOf": chain("anyOf", 40),
    "a product": {"allOf": [{"anyOf": [{"pattern": f"^{chr(97 + i)}{j}"} for j in range(10)]} for i in range(12)]},
    "itself": {"$ref": "#"},
    "itself by allOf": {"allOf": [{"$ref": "#"}]},
    "itself as what it needs": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "30 deep": nested(30),
    "lists 28 deep": nested(28, kind="array"),
    "many properties": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(1500)}},
    "many values": {"enum": [f"e{i}" for i in range(3000)]},
    "a large value": {"const": "x" * 60_000},
    "elsewhere": {"$ref": "http://169.254.169.254/latest"},
    "a file": {"$ref": "file:///etc/passwd"},
    "no type": {"type": "strin"},
    "a type that is a number": {"type": 1},
    "a pattern that is none": {"type": "string", "pattern": "["},
    "a pattern that is a number": {"pattern": 5},
    "a format that is a path": {"type": "string", "format": "../../x"},
    "properties that are a list": {"properties": [1]},
    "required that is a number": {"required": -1},
    "definitions that are text": {"$defs": "x", "$ref": "#/$defs/0"},
    "names that overwrite": {"type": "object", "properties": {"__proto__": {"type": "string"}, "": {"type": "null"}}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas(target: Target, name: str):
    target.withstands(lambda: target.chat(response_format=response_format(SCHEMAS[name])), ANY)
    target.withstands(lambda: target.chat(tools=[tool("f", SCHEMAS[name])], tool_choice="required"), ANY)


NUMBERS: list[dict[str, Any]] = [
    {"type": "string", "minLength": 2**63},
    {"type": "string", "maxLength": 2**63},
    {"type": "string", "minLength": 10**400},
    {"type": "string", "minLength": -1},
    {"type": "string", "maxLength": 1e300},
    {"type": "string", "minLength": "9" * 400},
    {"type": "number", "multipleOf": 1e-300},
    {"type": "integer", "multipleOf": 5e-324},
    {"type": "number", "multipleOf": 0},
    {"type": "number", "multipleOf": -1},
    {"type": "integer", "multipleOf": 2**53, "minimum": 1},
    {"type": "array", "minItems": 10**9},
    {"type": "array", "minItems": 2**64},
    {"type": "array", "maxItems": -1},
    {"type": "integer", "maximum": 10**400},
    {"type": "integer", "minimum": -(10**400)},
    {"type": "integer", "minimum": -(2**70), "maximum": 2**70, "multipleOf": 7919},
    {"type": "number", "minimum": 1e308, "maximum": 1e308},
    {"type": "number", "exclusiveMinimum": 1e-320, "exclusiveMaximum": 2e-320},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"type": "object", "minProperties": 2**64},
    {"type": "object", "maxProperties": -5},
    {
        "type": "array",
        "items": {"type": "array", "minItems": 9999, "items": {"type": "string", "minLength": 9999}},
        "minItems": 9999,
    },
    {"type": "string", "pattern": "a{9223372036854775807}"},
    {"type": "string", "pattern": "a{99999999999999999999999}"},
    {"type": "string", "maxLength": 10**6, "pattern": ".*a.*b"},
    {"enum": [10**400, -(10**400), 1e-300]},
    {"const": 10**400},
]


@pytest.mark.parametrize("schema", NUMBERS, ids=lambda schema: ascii(schema)[:60])
def test_numbers_that_overflow(target: Target, schema: dict[str, Any]):
    target.withstands(lambda: target.chat(response_format=response_format(schema)), ANY)


TOOLS = [
    [tool("f", {"type": "object", "properties": {"a": {"type": "string", "pattern": "["}}}, strict=True)],
    [tool("f", {"type": "object", "properties": {"a": {"type": "nothing"}}}, strict=True)],
    [tool("f", "text")],
    [tool("f", [1])],
    [tool("f", -1)],
    [{"type": "function"}],
    [{"type": "x" * 10_000}],
    [{}],
    [tool("x" * 300, {})],
    [tool("", {})],
    [tool('f"}\n{"name": "g', {})] * 2,
    [tool(f"f{i}", {}) for i in range(600)],
    [tool(f"f{i}", {"type": "object"}) for i in range(512)],
    [tool("f", {}), tool("f", {"type": "object"})],
    [tool(f"f{i}", nested(25)) for i in range(60)],
]


@pytest.mark.parametrize("number", range(len(TOOLS)))
def test_tools(target: Target, number: int):
    target.withstands(lambda: target.chat(tools=TOOLS[number], tool_choice="auto"), ANY)


@pytest.mark.parametrize("strict", [False, True])
def test_many_tools_take_no_longer_than_one(target: Target, strict: bool):
    """Each schema is refused only after some work."""
    slow = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(900)}}
    tools = [tool(f"f{i}", {**slow, "title": str(i)}, strict=strict) for i in range(60)]
    target.withstands(lambda: target.chat(tools=tools), ANY)


def test_a_broken_grammar_after_a_good_one_is_its_own_error_and_the_next_good_one_is_served(target: Target):
    for broken in ("start: [", "start: start", "start: /(/"):
        assert target.complete(guided_grammar='start: "a" | "b"').json["choices"][0]["text"] in ("a", "b")
        assert target.withstands(lambda broken=broken: target.complete(guided_grammar=broken)).status == 400
    assert target.complete(guided_grammar='start: "a" | "b"').json["choices"][0]["text"] in ("a", "b")


@pytest.mark.parametrize("turn", range(2))
def test_schemas_that_are_all_different_fill_neither_memory_nor_disk(target: Target, turn: int):
    """100 at a time; by the second time whatever is kept is full."""

    def different() -> Reply:
        for i in range(100):
            name = f"p{turn}_{i}"
            schema = {"type": "object", "properties": {name: {"type": "string", "pattern": f"^[a-z]{{{i + 1}}}$"}}}
            reply = target.chat(max_tokens=1, response_format=response_format(schema))
            assert reply.status == 200
        return reply

    written = _bytes_written(target)
    target.withstands(different, ANY, seconds=30)  # of all together
    assert _bytes_written(target) - written < 2**20  # its log


def test_slow_grammars_of_many_do_not_keep_others_from_theirs(target: Target):
    """Eight attackers at a time; a request without a grammar does not wait until they are done."""
    slow = {"allOf": [{"anyOf": [{"pattern": f"^{chr(97 + i)}{j}"} for j in range(10)]} for i in range(12)]}
    stop = threading.Event()

    def attack() -> None:
        attacker = Target(target.server)
        while not stop.is_set():
            attacker.chat(response_format=response_format(slow))

    attackers = [threading.Thread(target=attack) for _ in range(8)]
    for attacker in attackers:
        attacker.start()
    try:
        assert target.complete().status == 200
        target.withstands(target.complete, frozenset((200,)))
    finally:
        stop.set()
        for attacker in attackers:
            attacker.join()


def _bytes_written(target: Target) -> int:
    """To files, by the server's own process. Where the system does not tell, what lies in the temporary folder."""
    if Path("/proc/self/io").exists():
        return int(target.processes()[0].io_counters().write_chars)
    return sum(entry.stat().st_size for entry in os.scandir(tempfile.gettempdir()) if entry.is_file())
