"""Grammars of answers that call tools, in llguidance's dialect of Lark, from how a format writes a call.

A mark that the tokenizer holds as a control token is written as that token, since a regular expression does not match
control tokens; any other mark is text. Compiles nothing: grammar_check.py says whether a schema can be compiled.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from farthing.engine.grammars.grammar_source import embedded_schema
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.errors import RequestError
from farthing.sampling_params import Grammar

_ANY_OBJECT = {"type": "object"}
_ANY_TEXT = r"/(.|\n)*/"
_VALUES = frozenset(("const", "enum", "default", "examples", "required", "allOf", "properties"))
_COMBINED = frozenset(("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "unevaluatedProperties", "if", "not"))
_SLASH = re.compile(r"(?<!\\)/")
_THINK, _END_OF_THOUGHT = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a grammar has to fit: the control tokens of the tokenizer by spelling, whether the answer may begin with a
    thought or the prompt already did, and the names of the `lenient` tools, whose schemas can't be compiled: their
    arguments are any object."""

    control_tokens: Mapping[str, int] = field(default_factory=dict)
    reasoning: bool = False
    reasoning_open: bool = False
    lenient: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """How calls are written: `opening`, calls with `separator` between them (None: only one), `closing`; and again
    after `between`, if that is not None. One call is `before_name`, name, `after_name`, arguments, `after_arguments`.
    `trigger` is the part of `opening` after which free text has become a call."""

    trigger: str
    opening: str
    before_name: str
    after_name: str
    after_arguments: str
    separator: str | None
    closing: str
    between: str | None

    def begin(self, tool: Tool) -> str:
        """A call up to the name of the tool."""
        quoted = self.before_name.endswith('"')
        return self.before_name + (json.dumps(tool.name, ensure_ascii=False)[1:-1] if quoted else tool.name)


def grammar_of(syntax: CallSyntax, tools: Sequence[Tool], choice: ToolChoice, around: Surroundings) -> Grammar | None:
    """Calls only where `choice` demands one; otherwise free text that becomes a call at the trigger."""
    chosen = choice.select(tools)
    if not chosen:
        return None
    control = around.control_tokens
    parallel = choice.parallel and choice.mode != "named"  # who names one tool wants one call
    calls = "call"
    if parallel and syntax.separator is not None:
        calls = f"call ({literal(syntax.separator, control)} call)*"
    closing = literal(syntax.closing, control)
    rules = call_rules(chosen, syntax, around)
    again = parallel and syntax.between is not None
    if choice.demands_call:
        rules.append(f"group: {literal(syntax.opening, control)} {calls} {closing}")
        groups = f"group ({literal(syntax.between or '', control)} group)*" if again else "group"
        rules.append(f"start: {thought(around, rules, newlines=True)} {groups}")
    else:
        opening = literal(syntax.opening.removeprefix(syntax.trigger), control)
        rules.append(f"group: trigger {opening} {calls} {closing}")
        if syntax.trigger in control:
            rules.append(f"trigger: FREE {literal(syntax.trigger, control)}")
        else:
            rules.append(f"trigger[lazy]: FREE {literal(syntax.trigger, control)}")
        rules.append(free_text(around))
        groups = "group* FREE" if again else "(FREE | group)"
        rules.append(f"start: {thought(around, rules, newlines=False)} {groups}")
    return Grammar("lark", "\n".join(rules))


def after_thought(grammar: Grammar, around: Surroundings) -> Grammar:
    """The grammar of an answer, with the thought before it that the model may have or has begun."""
    if grammar.kind == "lark" or not (around.reasoning or around.reasoning_open):
        return grammar  # Lark begins where its author says
    rules: list[str] = []
    head = thought(around, rules, newlines=True)
    return Grammar("lark", "\n".join([f"start: {head} answer", _answer_rule(grammar), *rules]))


def calls_or_answer(calls: Grammar, answer: Grammar, around: Surroundings) -> Grammar:
    """Either of both, after the thought that the model may have or has begun. `calls`: a grammar that demands them,
    without a thought. RequestError for an `answer` in Lark, which has a beginning of its own."""
    if answer.kind == "lark":
        raise RequestError("tools and a Lark grammar can't go together", fix="leave one of them out")
    rules: list[str] = []
    head = thought(around, rules, newlines=True)
    called = re.sub("^start:", "calls:", calls.source, flags=re.MULTILINE)
    return Grammar("lark", "\n".join([f"start: {head} (calls | answer)", called, _answer_rule(answer), *rules]))


def _answer_rule(grammar: Grammar) -> str:
    """The rule `answer` of a grammar of any kind but Lark."""
    match grammar.kind:
        case "json_object":
            answer = f"%json {embedded_schema(json.dumps(_ANY_OBJECT))}"
        case "json_schema":
            answer = f"%json {embedded_schema(grammar.source)}"
        case "regex":
            answer = f"/{_SLASH.sub(chr(92) + '/', grammar.source)}/"
        case _:
            answer = " | ".join(json.dumps(choice) for choice in json.loads(grammar.source))
    return f"answer: {answer}"


def call_rules(tools: Sequence[Tool], syntax: CallSyntax, around: Surroundings) -> list[str]:
    """The rule `call`, any of `tools`."""
    rules = [f"call: {' | '.join(f'call_{i}' for i in range(len(tools)))}"]
    middle, tail = (literal(text, around.control_tokens) for text in (syntax.after_name, syntax.after_arguments))
    for i, tool in enumerate(tools):
        rules.append(f"call_{i}: {literal(syntax.begin(tool), {})} {middle} arguments_{i} {tail}")
        rules.append(arguments_rule(i, tool, around))
    return rules


def arguments_rule(index: int, tool: Tool, around: Surroundings) -> str:
    schema = _ANY_OBJECT if tool.name in around.lenient else object_schema(tool.parameters)
    return f"arguments_{index}: %json {embedded_schema(json.dumps(schema))}"


def object_schema(parameters: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The schema of a tool's arguments, which are always an object."""
    if not parameters or parameters.get("type", "object") != "object":
        return _ANY_OBJECT
    schema: Mapping[str, Any] = closed({"type": "object", **parameters})
    return schema


def closed(schema: Any) -> Any:
    """The schema without properties that it does not name, where it does not say that it wants them: a model that may
    invent properties does. Objects put together from several schemas are left as they are."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    within = {key: value if key in _VALUES else closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), Mapping):
        within["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if not _COMBINED.intersection(schema):
            within.setdefault("additionalProperties", False)
    return within


def literal(text: str, control_tokens: Mapping[str, int]) -> str:
    """`text` in Lark, with the control tokens that it spells as tokens; "" if it is empty."""
    spelled = [re.escape(token) for token in control_tokens if token in text]
    parts = re.split(f"({'|'.join(sorted(spelled, key=len, reverse=True))})", text) if spelled else [text]
    written = [f"<[{control_tokens[part]}]>" if i % 2 else json.dumps(part) for i, part in enumerate(parts) if part]
    return " ".join(written)


def free_text(around: Surroundings, *, unlike: str = "") -> str:
    """The terminal FREE: any text that begins neither as the terminal `unlike` nor, where a thought is spelled as text
    and has a rule of its own, as a thought."""
    excluded = [unlike] if unlike else []
    if around.reasoning and not around.reasoning_open and not _thinks_in_tokens(around):
        excluded.append(rf"/\s*{_THINK}/")
    return f"FREE: {_ANY_TEXT}" + "".join(f" & ~(({terminal}) {_ANY_TEXT})" for terminal in excluded)


def thought(around: Surroundings, rules: list[str], *, newlines: bool) -> str:
    """What a grammar begins with where the model may think first; its rule is added to `rules`."""
    if not around.reasoning and not around.reasoning_open:
        return ""
    control = around.control_tokens
    if _thinks_in_tokens(around):
        begin = "" if around.reasoning_open else literal(_THINK, control)
        rules.append(f"thought: {begin} THOUGHT {literal(_END_OF_THOUGHT, control)}")
        rules.append(f"THOUGHT: {_ANY_TEXT}")
    else:
        begin = "" if around.reasoning_open else rf"\s*{_THINK}"
        rules.append(rf"thought[lazy]: /{begin}(.|\n)*<\/think>/")
    prefix = "thought"
    if newlines:
        rules.append(r"NEWLINES: /\n{1,4}/")
        prefix = "thought NEWLINES?"
    return prefix if around.reasoning_open else f"({prefix})?"


def _thinks_in_tokens(around: Surroundings) -> bool:
    return _THINK in around.control_tokens and _END_OF_THOUGHT in around.control_tokens
