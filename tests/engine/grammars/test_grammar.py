"""Masks of grammars: what random walks through them write is valid, ends come where they may, errors are told."""

import json
import random
import re
from pathlib import Path

import jsonschema
import pytest
import torch
from engine.grammars.grammar_walk import walk

from farthing import models
from farthing.engine.grammars.grammar import GrammarCompiler
from farthing.engine.grammars.grammar_source import embedded_schema
from farthing.engine.tokenization.tokenizer import load_tokenizer
from farthing.errors import RequestError
from farthing.sampling_params import Grammar

SCHEMAS = json.loads((Path(__file__).parents[2] / "data/schemas/enforced.json").read_text())
TOKENIZER = load_tokenizer(Path(models.__file__).parent / "bundled")
END = next(iter(TOKENIZER.eos_ids))
VOCAB_SIZE = TOKENIZER.vocab_size + 12  # some models have more logits than tokens
COMPILER = GrammarCompiler(TOKENIZER, eos_ids=TOKENIZER.eos_ids | {VOCAB_SIZE + 5}, vocab_size=VOCAB_SIZE)


def says(grammar: Grammar, text: str) -> bool:
    """Whether the grammar lets exactly this text through, as the tokenizer spells it."""
    matcher = COMPILER.compile(grammar)
    for token_id in TOKENIZER.encode(text, add_special=False):
        if not matcher.allowed()[token_id]:
            return False
        matcher.accept(token_id)
    return bool(matcher.allowed()[END])


def allowed_ids(matcher) -> set[int]:
    return set(matcher.allowed().nonzero()[:, 0].tolist())


def test_the_corpus_has_at_least_60_schemas_of_different_names():
    assert len({case["name"] for case in SCHEMAS}) == len(SCHEMAS) >= 60


@pytest.mark.parametrize("case", SCHEMAS, ids=lambda case: case["name"])
def test_whatever_is_drawn_validates_once_it_ends(case):
    grammar = Grammar("json_schema", json.dumps(case["schema"]))
    validator = jsonschema.Draft202012Validator(
        case["schema"], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    chance = random.Random(case["name"])
    texts = [walk(COMPILER.compile(grammar), TOKENIZER, chance) for _ in range(4)]
    for text in texts:
        if text is not None:
            validator.validate(json.loads(text))
    if case["name"] not in ("part of a string", "tree", "expression", "no spaces"):
        assert any(text is not None for text in texts)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "object", "properties": {"a": {"type": "string"}}}, '{"a": "x", "\\u0061": 3}'),
        ({"type": "number", "exclusiveMaximum": 1}, "0.99999999999999999999"),
        ({"type": "integer", "maximum": 2**53 + 3}, str(2**53 + 4)),
        ({"type": "string", "pattern": "^\\D$"}, '"\u0663"'),
        ({"type": "string", "pattern": "^[^\\d]$"}, '"\u0663"'),
        ({"type": "string", "pattern": "^\\W$"}, '"é"'),
        ({"type": "string", "format": "date"}, '"0000-01-01"'),
        ({"type": "string", "format": "date"}, '"2023-02-29"'),
        ({"type": "object"}, '{"a":  1}'),
        ({"type": "string"}, '"</s>"extra'),
    ],
)
def test_what_a_validator_would_find_wrong_is_never_written(schema, text):
    assert not says(Grammar("json_schema", json.dumps(schema)), text)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string", "pattern": "^[[]&&[~a]$"}, '"[&&~"'),
        ({"type": "integer"}, "123456789012345678901234567890"),
        ({"type": "string", "format": "date"}, '"2024-02-29"'),
        ({}, '[1, {"a": null}]'),
        (True, "null"),
        ({"type": "string"}, '"</s> is text"'),
        ({"uniqueItems": False, "unevaluatedProperties": True, "const": 1}, "1"),
        ({"type": "object", "properties": {"b": {}, "a": {}}, "required": ["a"]}, '{"b": 1, "a": 2}'),
    ],
)
def test_what_a_schema_allows_can_be_written(schema, text):
    assert says(Grammar("json_schema", json.dumps(schema)), text)


def test_any_object_is_a_json_object():
    assert says(Grammar("json_object"), '{"a": [1, true]}')
    assert not says(Grammar("json_object"), "[1]")


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", r"[a-c]{2,5}\d+"),
        Grammar("choice", json.dumps(["yes", "no", 'a "quoted" (one)', "naïve+", "/"])),
        Grammar("lark", 'start: word (" " word)*\nword: /[a-z]{1,4}/'),
    ],
    ids=lambda grammar: grammar.kind,
)
def test_walks_end_in_texts_of_the_grammar(grammar):
    chance = random.Random(0)
    expected = {
        "regex": lambda text: re.fullmatch(grammar.source, text),
        "choice": lambda text: text in json.loads(grammar.source),
        "lark": lambda text: re.fullmatch("[a-z]{1,4}( [a-z]{1,4})*", text),
    }[grammar.kind]
    for _ in range(20):
        text = walk(COMPILER.compile(grammar), TOKENIZER, chance)
        assert text is not None and expected(text), text


def test_a_complete_answer_can_only_end_and_ends_at_any_end_token_of_the_model():
    second_end = TOKENIZER.special_tokens["<|user|>"]
    compiler = GrammarCompiler(TOKENIZER, eos_ids=frozenset((END, second_end)), vocab_size=VOCAB_SIZE)
    matcher = compiler.compile(Grammar("choice", '["no"]'))
    for token_id in TOKENIZER.encode("no", add_special=False):
        assert not {END, second_end} & allowed_ids(matcher)
        matcher.accept(token_id)
    assert allowed_ids(matcher) == {END, second_end}
    matcher.accept(second_end)
    assert allowed_ids(matcher) == {END, second_end}


def test_where_an_answer_may_end_it_may_go_on_too():
    matcher = COMPILER.compile(Grammar("regex", "a*"))
    assert {END, *TOKENIZER.encode("a", add_special=False)} <= allowed_ids(matcher)


def test_ids_beyond_the_tokenizer_and_special_tokens_are_never_allowed():
    matcher = COMPILER.compile(Grammar("regex", "(?s:.*)"))
    special = TOKENIZER.special_ids - TOKENIZER.eos_ids
    assert not special & allowed_ids(matcher)
    assert max(allowed_ids(matcher)) < TOKENIZER.vocab_size
    assert matcher.allowed().shape == (VOCAB_SIZE,) and matcher.allowed().dtype == torch.bool


def test_a_lark_grammar_may_name_special_tokens():
    user = TOKENIZER.special_tokens["<|user|>"]
    for name in ("<|user|>", f"<[{user}]>"):
        matcher = COMPILER.compile(Grammar("lark", f'start: {name} "x"'))
        assert allowed_ids(matcher) == {user}
        matcher.accept(user)
        assert user not in allowed_ids(matcher)


def test_copies_go_their_own_ways():
    matcher = COMPILER.compile(Grammar("choice", '["aa", "ab"]'))
    (a,), (b,) = (TOKENIZER.encode(text, add_special=False) for text in "ab")
    matcher.accept(a)
    other = matcher.copy()
    matcher.accept(b)
    assert allowed_ids(matcher) == {END} and {a, b} <= allowed_ids(other)


def test_a_token_against_the_grammar_is_an_error_of_that_matcher_alone():
    matcher = COMPILER.compile(Grammar("choice", '["a"]'))
    with pytest.raises(RequestError, match="can't be followed"):
        matcher.accept(TOKENIZER.encode("b", add_special=False)[0])
    with pytest.raises(RequestError, match="can't be followed"):
        matcher.allowed()
    assert says(Grammar("choice", '["a"]'), "a")


def test_a_model_without_an_end_token_takes_no_grammar():
    compiler = GrammarCompiler(TOKENIZER, eos_ids=frozenset(), vocab_size=VOCAB_SIZE)
    with pytest.raises(RequestError, match="no token that ends"):
        compiler.compile(Grammar("json_object"))


def test_a_schema_inside_a_lark_grammar_is_enforced_as_one_that_stands_alone():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}}
    lark = Grammar("lark", "start: <|user|> args\nargs: %json " + embedded_schema(json.dumps(schema)))
    for text, allowed in (('{"a": "x", "b": 3}', True), ('{"a": "x", "\\u0061": 3}', False)):
        matcher = COMPILER.compile(lark)
        matcher.accept(TOKENIZER.special_tokens["<|user|>"])
        try:
            for token_id in TOKENIZER.encode(text, add_special=False):
                matcher.accept(token_id)
            assert allowed and matcher.allowed()[END]
        except RequestError:
            assert not allowed
