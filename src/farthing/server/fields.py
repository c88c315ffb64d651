"""The fields that requests of every OpenAI-shaped API share, checked for type; and which fields were not known.

Values are checked where they are used (SamplingParams says what is out of range). Unknown fields are kept apart, so
that they can be named. Knows no routes.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from farthing.errors import RequestError
from farthing.sampling_params import Grammar, SamplingParams
from farthing.server.errors import ApiError

MAX_LIST = 4096  # of messages, tools, prompts or anything else that is one item a piece
MAX_TOKENS = 2**31 - 1
MAX_ALTERNATIVES = 256  # log-probabilities beside the chosen token, of all samples together
_MAX_NAMED = 20
_PARTS = (BaseModel, list)


def _short(value: object) -> object:
    if isinstance(value, dict) and len(value) > MAX_LIST:
        raise ValueError(f"it has {len(value)} entries, and at most {MAX_LIST} are taken")
    return value


# One wrong item is enough to refuse a list: an error for each of a million would cost more than the request.
Texts = Annotated[list[str], Field(fail_fast=True, max_length=MAX_LIST)]
TokenIds = Annotated[list[int], Field(fail_fast=True, max_length=MAX_LIST)]
Biases = Annotated[dict[str, float], BeforeValidator(_short), Field(max_length=MAX_LIST)]


class Fields(BaseModel):
    """A JSON object of a request. What is not declared is ignored, and can be named by `ignored`."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class StreamOptions(Fields):
    include_usage: bool | None = None


class JsonSchema(Fields):
    name: str | None = None
    strict: bool | None = None
    schema_: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None


class ResponseFormat(Fields):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Fields):
    """vLLM's spelling."""

    json_: Annotated[dict[str, Any] | str | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Texts | None = None
    grammar: str | None = None


class SamplingFields(Fields):
    """How to draw tokens and when to end. `guided_*` are older spellings of `structured_outputs`."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Biases | None = None
    seed: int | None = None
    stop: str | Texts | None = None
    stop_token_ids: TokenIds | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    priority: int | None = None
    user: str | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: Texts | None = None
    guided_grammar: str | None = None


def sampling_params(
    fields: SamplingFields,
    defaults: SamplingParams,
    *,
    max_tokens: int | None,
    logprobs: int | None = None,
    prompt_logprobs: int | None = None,
    grammar: Grammar | None = None,
) -> SamplingParams:
    """What was said, over the model's own defaults. RequestError names the field that is out of range."""
    stop = (fields.stop,) if isinstance(fields.stop, str) else tuple(fields.stop or ())
    top_k = defaults.top_k if fields.top_k is None else fields.top_k
    params = SamplingParams(
        temperature=_either(fields.temperature, defaults.temperature),
        top_k=None if top_k in (0, -1) else top_k,  # both mean "off" to other servers
        top_p=_either(fields.top_p, defaults.top_p),
        min_p=_either(fields.min_p, defaults.min_p),
        repetition_penalty=_either(fields.repetition_penalty, defaults.repetition_penalty),
        presence_penalty=_either(fields.presence_penalty, 0.0),
        frequency_penalty=_either(fields.frequency_penalty, 0.0),
        logit_bias=_logit_bias(fields.logit_bias or {}),
        seed=fields.seed,
        n=1 if fields.n is None else fields.n,
        max_tokens=max_tokens,
        min_tokens=fields.min_tokens or 0,
        ignore_eos=bool(fields.ignore_eos),
        stop=tuple(text for text in stop if text),  # clients send "" for none
        stop_token_ids=tuple(fields.stop_token_ids or ()),
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
        grammar=grammar,
    )
    if params.n * (logprobs or 0) > MAX_ALTERNATIVES:
        what = f"{logprobs} log-probabilities beside each token of {params.n} samples are too many"
        raise ApiError(400, what, fix=f"at most {MAX_ALTERNATIVES} in all", code="invalid_value", param="n")
    return params


def require_count(name: str, value: int | None, low: int, high: int) -> int | None:
    """The value. ApiError 400 if it is out of range: for a field that SamplingParams knows by another name."""
    if value is not None and not low <= value <= high:
        fix = f"it must be a whole number from {low} to {high}"
        raise ApiError(400, f"{name} is {value!r:.80}", fix=fix, code="invalid_value", param=name)
    return value


def requested_grammar(fields: SamplingFields) -> Grammar | None:
    """What the text of the answer must look like. RequestError if it was said twice, or without the schema."""
    said = list(_grammars(fields))
    if len(said) > 1:
        raise RequestError("the form of the answer is given more than once", fix="keep one of them")
    return said[0] if said else None


def schema_grammar(schema: object) -> Grammar:
    """A grammar of a JSON schema, given as JSON value or as its text."""
    source = schema if isinstance(schema, str) else msgspec.json.encode(schema).decode()
    return Grammar("json_schema", source)


def ignored(fields: BaseModel) -> list[str]:
    """Names of the fields that are not known, as `messages[].cache_control`; each once, at most twenty."""
    return list(islice(_distinct(_unknown(fields, "")), _MAX_NAMED))


def _distinct(names: Iterator[str]) -> Iterator[str]:
    seen = set()
    for name in names:
        if name not in seen:
            seen.add(name)
            yield name


def _unknown(value: BaseModel | list[Any], path: str) -> Iterator[str]:
    """Items of a list are of one kind, so the first tells of all: a prompt may hold a million token ids."""
    if isinstance(value, BaseModel):
        extra = value.model_extra or {}
        yield from (f"{path}{name}" for name, said in extra.items() if said is not None)
        for name in value.model_fields_set:
            part = getattr(value, name)
            if isinstance(part, _PARTS) and name not in extra:
                yield from _unknown(part, f"{path}{name}.")
    elif value and isinstance(value[0], _PARTS):
        for item in value:
            yield from _unknown(item, f"{path.removesuffix('.')}[].")


def _grammars(fields: SamplingFields) -> Iterator[Grammar]:
    form, structured = fields.response_format, fields.structured_outputs or StructuredOutputs()
    if form is not None and form.type == "json_object":
        yield Grammar("json_object")
    elif form is not None and form.type == "json_schema":
        if form.json_schema is None or form.json_schema.schema_ is None:
            raise RequestError("response_format has no json_schema.schema", fix="give the schema")
        yield schema_grammar(form.json_schema.schema_)
    for schema in (structured.json_, fields.guided_json):
        if schema is not None:
            yield schema_grammar(schema)
    for regex in (structured.regex, fields.guided_regex):
        if regex is not None:
            yield Grammar("regex", regex)
    for choice in (structured.choice, fields.guided_choice):
        if choice is not None:
            yield Grammar("choice", msgspec.json.encode(choice).decode())
    for grammar in (structured.grammar, fields.guided_grammar):
        if grammar is not None:
            yield Grammar("lark", grammar)


def _either(said: float | None, default: float) -> float:
    return default if said is None else said


def _logit_bias(said: dict[str, float]) -> dict[int, float]:
    try:
        return {int(token_id): bias for token_id, bias in said.items()}
    except ValueError:
        raise RequestError("a key of logit_bias is no token id", fix="keys are token ids, as in {'42': 1.5}") from None
