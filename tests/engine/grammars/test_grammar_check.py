"""Grammars that can't be served are refused with one line, in bounded time, and honest ones go on being served."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from farthing.engine.grammars.grammar_check import GrammarChecker
from farthing.errors import RequestError
from farthing.sampling_params import Grammar

SCHEMAS = json.loads((Path(__file__).parents[2] / "data/schemas/enforced.json").read_text())
MAX_SECONDS = 6  # 1.5 s to compile; the rest is a slow machine that starts Python
LIST_OF_LISTS = "{" + '"type":"array","items":{' * 70 + "}" * 71
DOUBLING = {"$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(30)}, "$ref": "#/$defs/d0"}
DOUBLING["$defs"]["d30"] = {"type": "object", "properties": {"a": {}, "b": {"type": "string"}}}

NOT_ENFORCED = {
    "$dynamicRef": "#x", "$recursiveRef": "#", "additionalItems": False, "contains": {"type": "null"},
    "dependencies": {"a": ["b"]}, "dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": {"required": ["b"]}},
    "disallow": ["string"], "divisibleBy": 2, "else": {"type": "null"}, "extends": {"type": "null"},
    "if": {"type": "null"}, "maxContains": 1, "minContains": 1, "not": {"type": "null"},
    "propertyNames": {"maxLength": 3}, "then": {"type": "null"}, "unevaluatedItems": False,
    "unevaluatedProperties": False, "uniqueItems": True,
}  # fmt: skip

WRONG = [
    ("json_schema", "{", "not JSON"),
    ("json_schema", "[" * 30_000, "not JSON"),
    ("json_schema", "3", "an object or a boolean"),
    ("json_schema", "false", "no value satisfies"),
    ("json_schema", '{"const": NaN}', "not JSON"),
    ("json_schema", '{"const": 1e999}', "beyond what computers hold"),
    ("json_schema", '{"type": "text"}', "wrong at #/type"),
    ("json_schema", '{"properties": [1]}', "wrong at #/properties"),
    ("json_schema", '{"required": true}', "wrong at #/required"),
    ("json_schema", '{"enum": []}', "wrong at #/enum"),
    ("json_schema", '{"items": [{}]}', "prefixItems"),
    ("json_schema", '{"minLength": -1}', "wrong at #/minLength"),
    ("json_schema", '{"minimum": 3, "exclusiveMinimum": true}', "old draft"),
    ("json_schema", '{"minimum": 1e30}', "bounds go to"),
    ("json_schema", '{"type": "integer", "minimum": 3.2, "maximum": 3.5}', "no integer"),
    ("json_schema", '{"multipleOf": 0.1}', "not exactly"),
    ("json_schema", '{"format": "idn-email"}', "format that can't be enforced"),
    ("json_schema", '{"pattern": "("}', "not valid"),
    ("json_schema", '{"pattern": "(?=a)"}', "look-around"),
    ("json_schema", '{"pattern": "\\\\p{L}"}', "not valid"),
    ("json_schema", '{"oneOf": [{"type": "number"}, {"type": "integer"}]}', "oneOf"),
    ("json_schema", '{"minProperties": 2}', "distinct"),
    ("json_schema", '{"$ref": "#"}', "no finite value"),
    (
        "json_schema",
        '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}',
        "finite",
    ),
    ("json_schema", '{"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}', "no finite value"),
    ("json_schema", '{"type": "array", "items": {"$ref": "#"}, "minItems": 1}', "no finite value"),
    ("json_schema", '{"$ref": "#/$defs/none"}', "points to nothing"),
    ("json_schema", '{"$ref": "http://127.0.0.1:9/schema"}', "nothing is fetched"),
    ("json_schema", '{"$ref": "file:///etc/passwd"}', "nothing is fetched"),
    ("regex", "a(", "unclosed group"),
    ("choice", "[]", "at least one"),
    ("choice", '{"a": 1}', "at least one"),
    ("lark", "start: start", "can't be compiled"),
    ("lark", 'start: "a" <nosuch>', "unknown special token"),
    ("lark", 'start: %json {"$ref": "http://127.0.0.1:9/schema"}', "can't be compiled"),
]
HOSTILE = [
    ("json_schema", LIST_OF_LISTS, "nested deeper"),
    ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000, "not JSON|nested deeper"),
    ("json_schema", json.dumps({"enum": list(range(1001))}), "1,000 enum values"),
    ("json_schema", json.dumps({"const": "x" * 70_000}), "64 KiB"),
    ("json_schema", json.dumps({"minLength": 10**9}), "10,000"),
    ("json_schema", json.dumps({"maxLength": 10**12}), "1,000,000"),
    ("json_schema", json.dumps({"minItems": 10**9}), "10,000"),
    ("json_schema", json.dumps({"type": "integer", "multipleOf": 1_000_003}), "took more than 1.5 s"),
    ("regex", "(a{1,1000}){1,1000}", "50,000 characters"),
    ("regex", "((a{1,99}){1,99}){1,99}", "50,000 characters"),
    ("regex", "a{1000000000}", "repeats something"),
    ("regex", "(" * 20_000 + "a" + ")" * 20_000, "can't be compiled"),
    ("choice", json.dumps([str(number) for number in range(1001)]), "1,000"),
    ("lark", "start: /" + "(a|b|ab)*" * 2000 + "/", "can't be compiled"),
    ("lark", "start: a{10000}\na: " + '"x"{10000}', "can't be compiled"),
    ("lark", "start: " + "(" * 20_000 + '"a"' + ")" * 20_000, "can't be compiled"),
]


@pytest.fixture(scope="module")
def checker() -> Iterator[GrammarChecker]:
    checker = GrammarChecker({"<|call|>": 128_010})
    yield checker
    checker.close()


def refusal(checker: GrammarChecker, kind: str, source: str) -> str:
    started = time.monotonic()
    with pytest.raises(RequestError) as refused:
        checker.check(Grammar(kind, source))
    assert time.monotonic() - started < MAX_SECONDS
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 700
    return str(refused.value)


@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case["name"])
def test_an_honest_schema_passes(checker, case):
    checker.check(Grammar("json_schema", json.dumps(case["schema"])))


@pytest.mark.parametrize("grammar", [
    Grammar("json_object"),
    Grammar("regex", r"\d{3}-[a-z]+"),
    Grammar("choice", '["yes", ""]'),
    Grammar("lark", 'start: <|call|> <[128010]> "{" /[a-z]+/ "}"'),
])  # fmt: skip
def test_an_honest_grammar_passes(checker, grammar):
    checker.check(grammar)


@pytest.mark.parametrize("keyword", sorted(NOT_ENFORCED))
def test_a_keyword_that_is_not_enforced_is_refused_by_name(checker, keyword):
    inside = {"type": "array", "items": {"anyOf": [{keyword: NOT_ENFORCED[keyword]}, {"type": "null"}]}}
    assert repr(keyword) in refusal(checker, "json_schema", json.dumps(inside))


@pytest.mark.parametrize(("kind", "source", "cause"), WRONG)
def test_a_wrong_grammar_is_refused_with_its_cause(checker, kind, source, cause):
    assert cause in refusal(checker, kind, source)


@pytest.mark.parametrize(("kind", "source", "cause"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_grammar_is_refused_in_bounded_time_and_others_go_on(checker, kind, source, cause):
    message = refusal(checker, kind, source)
    assert any(each in message for each in cause.split("|")), message
    checker.check(Grammar("regex", f"after {cause}"))


def test_entangled_references_are_seen_through(checker):
    started = time.monotonic()
    checker.check(Grammar("json_schema", json.dumps(DOUBLING)))
    assert time.monotonic() - started < MAX_SECONDS


def test_several_threads_get_their_own_answers(checker):
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        try:
            checker.check(Grammar("regex", f"{number}{'(' * (number % 2)}"))
            answers[number] = "good"
        except RequestError:
            answers[number] = "refused"

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: "refused" if number % 2 else "good" for number in range(12)}


def test_a_helper_that_dies_is_replaced_and_close_ends_it(checker):
    own = GrammarChecker()
    own.check(Grammar("regex", "a"))
    children = [
        child for child in psutil.Process().children(recursive=True) if "grammar_process" in " ".join(child.cmdline())
    ]
    helper = max(children, key=lambda child: child.create_time())
    helper.kill()
    helper.wait()
    own.check(Grammar("regex", "b"))
    own.close()
    left = [c for c in psutil.Process().children(recursive=True) if "grammar_process" in " ".join(c.cmdline())]
    assert len(left) == len(children) - 1


def test_neither_the_checker_nor_its_helper_loads_torch():
    package = "farthing.engine.grammars"
    code = f"import sys; sys.modules['torch'] = None; import {package}.grammar_check, {package}.grammar_process"
    subprocess.run([sys.executable, "-c", code], check=True)
