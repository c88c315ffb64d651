"""A request of Anthropic's shape as a conversation of OpenAI's, which templates are fed with.

Everything stays where it stood, so that a longer conversation begins as the shorter one did: but for results of tools,
which follow their calls at once. What is left out is named. Knows no template and no model.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.errors import RequestError
from farthing.sampling_params import Grammar
from farthing.server.fields import SamplingFields, schema_grammar
from farthing.server.messages.schema import Block, CountRequest, Message, MessagesRequest
from farthing.server.service import Conversation

_MEDIA = frozenset(("image", "document"))
_KNOWN = frozenset(("text", "tool_use", "tool_result", "thinking", "redacted_thinking")) | _MEDIA
_MODES: dict[str, Any] = {"auto": "auto", "any": "required", "tool": "named", "none": "none"}


def conversation_of(fields: CountRequest) -> tuple[Conversation, list[str]]:
    """The conversation, and the names of what was left out of it."""
    messages = _system(fields)
    for message in fields.messages:
        messages += _messages(message)
    tools = [
        Tool(_required(tool.name, "a tool", "name"), tool.description, tool.input_schema, bool(tool.strict))
        for tool in fields.tools or ()
        if tool.type in (None, "custom")
    ]
    choice = _tool_choice(fields, tools)
    unknown = list(_left_out(fields, ignores_choice=choice is None))
    conversation = Conversation(_results_first(messages), tools, choice or ToolChoice(), _options(fields))
    return conversation, list(dict.fromkeys(unknown))


def sampling_fields(fields: MessagesRequest) -> SamplingFields:
    return SamplingFields(
        temperature=fields.temperature, top_p=fields.top_p, top_k=fields.top_k, stop=fields.stop_sequences
    )


def requested_grammar(fields: MessagesRequest) -> Grammar | None:
    """What the text of the answer must look like. RequestError if it was said twice, or without the schema."""
    said = [form for form in (fields.output_config and fields.output_config.format, fields.output_format) if form]
    if len(said) > 1:
        raise RequestError("the form of the answer is given more than once", fix="keep output_config.format")
    if not said:
        return None
    if said[0].schema_ is None:
        raise RequestError("the output format has no schema", fix="give the schema")
    return schema_grammar(said[0].schema_)


def _system(fields: CountRequest) -> list[dict[str, Any]]:
    """Each block begins a line: the first may be one that changes with every request, and is recognised by that."""
    text = fields.system if isinstance(fields.system, str) else _text(fields.system or (), "\n")
    return [{"role": "system", "content": text}] if text else []


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    """Results of tools are messages of their own, before the rest."""
    if not isinstance(message.content, list):
        yield {"role": message.role, "content": message.content or ""}
        return
    for block in message.content:
        if block.type in _MEDIA:
            raise RequestError(
                f"a message has a block of type {block.type}", fix="the model reads text alone: send text"
            )
    if message.role == "assistant":
        yield _assistant(message.content)
        return
    results = [_result(block) for block in message.content if block.type == "tool_result"]
    yield from results
    text = _text(message.content, "\n")
    if text or not results:
        yield {"role": message.role, "content": text}


def _assistant(blocks: Sequence[Block]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "assistant", "content": _text(blocks, "")}
    thoughts = [block.thinking for block in blocks if block.type == "thinking" and block.thinking]
    if thoughts:
        made["reasoning_content"] = "\n".join(thoughts)
    calls = [_call(block) for block in blocks if block.type == "tool_use"]
    if calls:
        made["tool_calls"] = calls
    return made


def _call(block: Block) -> dict[str, Any]:
    arguments = block.input if isinstance(block.input, str) else msgspec.json.encode(block.input or {}).decode()
    function = {"name": _required(block.name, "a tool_use block", "name"), "arguments": arguments}
    return {"id": _required(block.id, "a tool_use block", "id"), "type": "function", "function": function}


def _result(block: Block) -> dict[str, Any]:
    """A result that is no text would end an agent's session if it were refused: the model is told instead."""
    if isinstance(block.content, dict):
        raise RequestError("the content of a tool_result is an object", fix="send a string or a list of blocks")
    if isinstance(block.content, list):
        parts = [
            f"[{part.type} left out: the model reads text alone]" if part.type in _MEDIA else part.text
            for part in block.content
            if part.type == "text" or part.type in _MEDIA
        ]
        text = "\n".join(part for part in parts if part)
    else:
        text = block.content or ""
    call_id = _required(block.tool_use_id, "a tool_result block", "tool_use_id")
    return {"role": "tool", "tool_call_id": call_id, "content": f"Error: {text}" if block.is_error else text}


def _results_first(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A system message between calls and their results goes behind the results: templates know no other order."""
    made: list[dict[str, Any]] = []
    late: list[dict[str, Any]] = []
    in_calls = False
    for message in messages:
        if in_calls and message["role"] == "system":
            late.append(message)
            continue
        if message["role"] != "tool":
            made += late
            late, in_calls = [], "tool_calls" in message
        made.append(message)
    return made + late


def _text(blocks: Sequence[Block], separator: str) -> str:
    return separator.join(block.text for block in blocks if block.type == "text" and block.text)


def _required(value: str | None, owner: str, name: str) -> str:
    if value is None:
        raise RequestError(f"{owner} has no {name}", fix=f"give its {name}")
    return value


def _tool_choice(fields: CountRequest, tools: Sequence[Tool]) -> ToolChoice | None:
    """None if it demands one of the tools that are left out: it is left out with them."""
    said = fields.tool_choice
    if said is None:
        return ToolChoice("auto" if tools else "none")
    name = _required(said.name, "tool_choice", "name") if said.type == "tool" else None
    left_out = [tool.name for tool in fields.tools or () if tool.type not in (None, "custom")]
    if (name is not None and name in left_out) or (said.type == "any" and left_out and not tools):
        return None
    return ToolChoice(_MODES[said.type], name, not said.disable_parallel_tool_use)


def _options(fields: CountRequest) -> dict[str, object]:
    options: dict[str, object] = {}
    if fields.thinking is not None:
        options["enable_thinking"] = fields.thinking.type != "disabled"
    if fields.output_config is not None and fields.output_config.effort is not None:
        options["reasoning_effort"] = fields.output_config.effort
    return options


def _left_out(fields: CountRequest, *, ignores_choice: bool) -> Iterator[str]:
    if ignores_choice:
        yield "tool_choice"
    yield from (f"tools[type={tool.type}]" for tool in fields.tools or () if tool.type not in (None, "custom"))
    for block in fields.system if isinstance(fields.system, list) else ():
        if block.type != "text":
            yield f"system[type={block.type}]"
    for message in fields.messages:
        for block in message.content if isinstance(message.content, list) else ():
            if not _belongs(block, message.role):
                yield f"messages[].content[type={block.type}]"
            elif block.type == "tool_result" and isinstance(block.content, list):
                parts = (part.type for part in block.content if part.type != "text")
                yield from (f"messages[].content[].content[type={type}]" for type in parts)


def _belongs(block: Block, role: str) -> bool:
    """Whether a block of this type, in a message of this role, is read."""
    if block.type in ("tool_use", "thinking", "redacted_thinking"):
        return role == "assistant"
    return block.type in _KNOWN and (block.type != "tool_result" or role != "assistant")
