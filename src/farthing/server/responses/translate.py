"""What a request of the Responses API says, in the terms of the service: messages, tools, grammar, and what comes back.

The items of one turn of the assistant (a thought, a text, calls) become one message, so that the next turn renders as
the model wrote the last one. What is not served is left out and named, or refused where leaving it out would change
the meaning. Knows no HTTP and no events.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.errors import RequestError
from farthing.sampling_params import MAX_LOGPROBS, Grammar, SamplingParams
from farthing.server.errors import ApiError
from farthing.server.fields import requested_grammar, require_count, schema_grammar
from farthing.server.responses.schema import (
    AdditionalToolsItem,
    AnyItem,
    AnyTool,
    Content,
    FunctionCallItem,
    FunctionOutputItem,
    FunctionTool,
    MessageItem,
    NamedTool,
    NamespaceTool,
    ReasoningItem,
    ResponsesRequest,
    TextOptions,
    Unknown,
)
from farthing.server.service import TEMPLATE_OPTIONS, Conversation

_TEXT_PARTS = frozenset(("text", "input_text", "output_text", "summary_text", "reasoning_text"))
_MEDIA_PARTS = frozenset(
    ("input_image", "input_file", "input_audio", "image_url", "image", "file", "computer_screenshot")
)
_LOGPROBS = "message.output_text.logprobs"


class FunctionNames:
    """A function of a namespace is shown to the model under both names joined; clients want them apart again.

    `known`: (namespace or None, name) by what the model is shown."""

    def __init__(self, known: Mapping[str, tuple[str | None, str]]) -> None:
        self._known = known

    def shown(self, name: str, namespace: str | None = None) -> str:
        """What the model is shown; a name may have lost its namespace on the way."""
        if namespace is not None:
            return _joined(namespace, name)
        if name in self._known:
            return name
        return next((shown for shown, (_, last) in self._known.items() if last == name), name)

    def apart(self, shown: str) -> tuple[str | None, str]:
        return self._known.get(shown, (None, shown))


def refuse_what_is_not_kept(fields: ResponsesRequest) -> None:
    """ApiError 400 for what needs a memory of earlier requests, or an answer that nobody waits for."""
    if fields.previous_response_id is not None:
        raise _unsupported("previous_response_id", "answers are not kept here", "send the whole conversation as input")
    if fields.conversation is not None:
        raise _unsupported("conversation", "conversations are not kept here", "send the whole conversation as input")
    if fields.background:
        raise _unsupported("background", "answers are not made in the background", "leave it out, and stream instead")
    if fields.n is not None and fields.n != 1:
        raise _unsupported("n", "there is one answer to each request", "send the request several times")


def conversation_of(fields: ResponsesRequest) -> tuple[Conversation, FunctionNames, list[str]]:
    """The conversation, the names of its functions, and the names of what was left out of it."""
    unknown: list[str] = []
    tools, names = _tools(fields, unknown)
    messages: list[dict[str, Any]] = []
    if fields.instructions:
        messages.append({"role": "system", "content": fields.instructions})
    if isinstance(fields.input, str):
        messages.append({"role": "user", "content": fields.input})
    else:
        said = _messages(fields.input or (), names, unknown)
        if not said and not messages:
            raise RequestError("input is empty", fix="give the text or the items to answer")
        messages += said
    options = dict(fields.chat_template_kwargs or {})
    unknown += [f"chat_template_kwargs.{name}" for name in options if name not in TEMPLATE_OPTIONS]
    effort = fields.reasoning.effort if fields.reasoning is not None else None
    if effort is not None:
        options["reasoning_effort"] = effort
        options.setdefault("enable_thinking", effort != "none")
    choice = _tool_choice(fields, tools, names, unknown)
    return Conversation(messages, tools, choice, options), names, list(dict.fromkeys(unknown))


def grammar_of(fields: ResponsesRequest) -> Grammar | None:
    """What the text of the answer must look like. RequestError if it was said twice, or without the schema."""
    said = requested_grammar(fields)
    form = fields.text.format if fields.text is not None else None
    if form is None or form.type == "text":
        return said
    if said is not None:
        raise RequestError("the form of the answer is given more than once", fix="keep text.format")
    if form.type == "json_object":
        return Grammar("json_object")
    if form.schema_ is None:
        raise RequestError("text.format has no schema", fix="give the schema")
    return schema_grammar(form.schema_)


def num_logprobs(fields: ResponsesRequest) -> int | None:
    """Alternatives asked for beside each token; None: no log-probabilities at all."""
    num_top = require_count("top_logprobs", fields.top_logprobs, 0, MAX_LOGPROBS)
    return num_top or 0 if num_top or _LOGPROBS in (fields.include or ()) else None


def echo(fields: ResponsesRequest, params: SamplingParams, choice: ToolChoice, names: FunctionNames) -> dict[str, Any]:
    """What an answer repeats of its request: as it was obeyed, which is not always as it was said."""
    named = None if choice.name is None else names.apart(choice.name)[1]
    reasoning = fields.reasoning
    return {
        "background": False,
        "instructions": fields.instructions,
        "max_output_tokens": params.max_tokens,
        "metadata": fields.metadata or {},
        "parallel_tool_calls": choice.parallel,
        "previous_response_id": None,
        "prompt_cache_key": fields.prompt_cache_key,
        "reasoning": {"effort": reasoning.effort if reasoning is not None else None, "summary": None},
        "safety_identifier": fields.safety_identifier,
        "service_tier": "default",
        "store": False,
        "temperature": params.temperature,
        "text": _text_echo(fields.text),
        "tool_choice": _mode_echo(fields) if named is None else {"type": "function", "name": named},
        "tools": [tool.model_dump() for tool in fields.tools or () if not isinstance(tool, Unknown)],
        "top_logprobs": params.logprobs or 0,
        "top_p": params.top_p,
        "truncation": "disabled",
        "user": fields.user,
    }


def _messages(items: Sequence[AnyItem], names: FunctionNames, unknown: list[str]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    turn: dict[str, Any] | None = None  # the assistant's message while its items last
    thoughts: list[str] = []
    for item in items:
        match item:
            case ReasoningItem():
                thoughts += [part.text for part in item.content or () if part.type in _TEXT_PARTS and part.text]
                continue
            case MessageItem(role="assistant") | FunctionCallItem():
                is_next = isinstance(item, MessageItem) and turn is not None and "tool_calls" not in turn
                if turn is None or is_next:
                    turn = {"role": "assistant", "content": None}
                    messages.append(turn)
                if thoughts:
                    turn["reasoning_content"] = "\n".join([*filter(None, [turn.get("reasoning_content")]), *thoughts])
                if isinstance(item, FunctionCallItem):
                    turn.setdefault("tool_calls", []).append(_call(item, names))
                else:
                    turn["content"] = (turn["content"] or "") + _text(item.content, "message", unknown)
            case MessageItem():
                turn = None
                messages.append({"role": item.role, "content": _text(item.content, "message", unknown)})
            case FunctionOutputItem():
                turn = None
                text = _text(item.output, "function_call_output", unknown, in_place_of_media=True)
                messages.append({"role": "tool", "tool_call_id": item.call_id, "content": text})
            case Unknown():
                unknown.append(f"input[type={item.type}]")
                continue
            case AdditionalToolsItem():
                continue
        thoughts = []
    return messages


def _call(item: FunctionCallItem, names: FunctionNames) -> dict[str, Any]:
    arguments = item.arguments if item.arguments is not None else "{}"
    function = {"name": names.shown(item.name, item.namespace), "arguments": arguments}
    return {"id": item.call_id, "type": "function", "function": function}


def _text(content: Content | None, item: str, unknown: list[str], *, in_place_of_media: bool = False) -> str:
    """A picture that a person sends is refused. One that a tool brings would end the session of an agent, which sends
    it again with every turn: `in_place_of_media`, the model is told of it and the part is named."""
    if not isinstance(content, list):
        return content or ""
    texts: list[str | None] = []
    for part in content:
        if part.type in _TEXT_PARTS:
            texts.append(part.text)
        elif part.type == "refusal":
            texts.append(part.refusal)
        elif part.type in _MEDIA_PARTS and not in_place_of_media:
            raise RequestError(f"a message has a part of type {part.type}", fix="the model reads text alone: send text")
        else:
            unknown.append(f"input[type={item}].content[type={part.type}]")
            texts.append(f"[{part.type}: left out, this model reads text alone]" if in_place_of_media else None)
    return "\n".join(filter(None, texts))


def _tools(fields: ResponsesRequest, unknown: list[str]) -> tuple[list[Tool], FunctionNames]:
    """The functions of the request and of its input; of two with one name the first."""
    offered = list(fields.tools or ())
    if isinstance(fields.input, list):
        offered += [tool for item in fields.input if isinstance(item, AdditionalToolsItem) for tool in item.tools or ()]
    tools: dict[str, Tool] = {}
    known: dict[str, tuple[str | None, str]] = {}
    for namespace, function in _functions(offered, unknown):
        shown = function.name if namespace is None else _joined(namespace, function.name)
        if shown not in tools:
            tools[shown] = Tool(shown, function.description, function.parameters, bool(function.strict))
            known[shown] = (namespace, function.name)
    return list(tools.values()), FunctionNames(known)


def _functions(offered: Sequence[AnyTool], unknown: list[str]) -> Iterator[tuple[str | None, FunctionTool]]:
    for tool in offered:
        inner: Sequence[AnyTool] = tool.tools if isinstance(tool, NamespaceTool) else (tool,)
        namespace = tool.name if isinstance(tool, NamespaceTool) else None
        for function in inner:
            if isinstance(function, FunctionTool):
                yield namespace, function
            else:
                unknown.append(f"tools[type={function.type}]")


def _joined(namespace: str, name: str) -> str:
    return f"{namespace}{name}" if namespace.endswith("_") or name.startswith("_") else f"{namespace}__{name}"


def _tool_choice(
    fields: ResponsesRequest, tools: Sequence[Tool], names: FunctionNames, unknown: list[str]
) -> ToolChoice:
    parallel, choice = fields.parallel_tool_calls is not False, fields.tool_choice
    if isinstance(choice, NamedTool) and choice.type == "function":
        if choice.name is None:
            raise RequestError("tool_choice names no function", fix='as in {"type": "function", "name": "search"}')
        return ToolChoice("named", names.shown(choice.name), parallel)
    if isinstance(choice, NamedTool):
        unknown.append(f"tool_choice[type={choice.type}]")
        choice = None
    if choice is None:
        return ToolChoice("auto" if tools else "none", None, parallel)
    return ToolChoice(choice, None, parallel)


def _mode_echo(fields: ResponsesRequest) -> str:
    return fields.tool_choice if isinstance(fields.tool_choice, str) else "auto"


def _text_echo(text: TextOptions | None) -> dict[str, Any]:
    told: dict[str, Any] = {} if text is None else text.model_dump(by_alias=True, exclude_none=True)
    told.setdefault("format", {"type": "text"})
    if told["format"]["type"] == "json_schema":
        told["format"].setdefault("name", "answer")
    return told


def _unsupported(field: str, what: str, fix: str) -> ApiError:
    return ApiError(400, f"{field}: {what}", fix=fix, code="unsupported_parameter", param=field)
