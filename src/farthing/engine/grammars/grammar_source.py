"""From what a request asks of its answer to a grammar in llguidance's own terms, within limits.

The engine (grammar.py) and the process that tries grammars beforehand (grammar_process.py) both read it here, so that
what was tried is what is used. Knows no tokens; loads neither torch nor numpy.
"""

import json

from llguidance import LLMatcher, LLParserLimits

from farthing.engine.grammars.grammar_limits import MAX_CHOICES, MAX_SOURCE_BYTES
from farthing.engine.grammars.grammar_pattern import regex_size
from farthing.engine.grammars.grammar_schema import enforceable
from farthing.errors import RequestError
from farthing.sampling_params import Grammar

MAX_ERROR_CHARACTERS = 300

# Compact JSON with a space after comma and colon: what models have seen most, and no space that they could go on with.
# Without \u escapes a text has one spelling, or a free property could take the name of a given one.
JSON_OPTIONS: dict[str, object] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrbtf\\"',
}


def parser_limits() -> LLParserLimits:
    """What one grammar may cost: at most about 50 ms to build it and 20 ms for a mask, on one core."""
    return LLParserLimits(
        max_items_in_row=2_000,
        initial_lexer_fuel=1_000_000,
        step_lexer_fuel=200_000,
        step_max_items=50_000,
        max_lexer_states=50_000,
        max_grammar_size=200_000,
        precompute_large_lexemes=False,
        verbose_errors=False,
    )


def llguidance_grammar(grammar: Grammar) -> str:
    """RequestError if the grammar is too large, broken, or more than can be enforced."""
    source = grammar.source
    if len(source.encode("utf-8", "surrogatepass")) > MAX_SOURCE_BYTES:
        raise RequestError(
            f"the grammar has more than {MAX_SOURCE_BYTES // 2**10} KiB", fix="send a smaller one, with $defs and $ref"
        )
    try:
        if grammar.kind == "json_object":
            return LLMatcher.grammar_from_json_schema(embedded_schema('{"type": "object"}'))
        if grammar.kind == "json_schema":
            return LLMatcher.grammar_from_json_schema(embedded_schema(source))
        if grammar.kind == "regex":
            regex_size(source)
            return LLMatcher.grammar_from_regex(source)
        if grammar.kind == "choice":
            return LLMatcher.grammar_from_regex("|".join(_escaped(choice) for choice in _choices(source)))
        assert grammar.kind == "lark", grammar.kind
        return LLMatcher.grammar_from_lark(source)
    except (ValueError, RecursionError) as error:
        raise cannot_compile(grammar, str(error)) from error


def embedded_schema(source: str) -> str:
    """The schema for `%json` in a Lark grammar, enforced as one that stands alone. RequestError if it can't be."""
    return json.dumps(enforceable(source) | {"x-guidance": JSON_OPTIONS})


def cannot_compile(grammar: Grammar, cause: str) -> RequestError:
    kind = grammar.kind.replace("_", " ")
    line = " ".join(cause.replace("<non-verbose/>", "").split())[:MAX_ERROR_CHARACTERS]
    return RequestError(f"the {kind} can't be compiled: {line}", fix="correct or simplify it")


def _choices(source: str) -> list[str]:
    choices = json.loads(source)
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        raise RequestError("the choice is not a list of strings", fix="send at least one string")
    if len(choices) > MAX_CHOICES:
        raise RequestError(f"there are {len(choices):,} choices", fix=f"send at most {MAX_CHOICES:,}")
    return choices


def _escaped(text: str) -> str:
    """As a regular expression that matches just this text."""
    return "".join(c if c.isalnum() or c in " _" else f"\\x{{{ord(c):x}}}" for c in text)
