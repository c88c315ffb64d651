"""`POST /v1/chat/completions`: a request translated, its answer a chat completion."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.errors import RequestError
from farthing.sampling_params import MAX_LOGPROBS
from farthing.server.chat.dialect import ChatDialect
from farthing.server.chat.schema import ChatAnswer, ChatRequest, ContentPart, Message, NamedTool
from farthing.server.desk import Desk
from farthing.server.documented import generation_responses
from farthing.server.fields import MAX_TOKENS, ignored, requested_grammar, require_count, sampling_params
from farthing.server.json_route import json_router
from farthing.server.service import TEMPLATE_OPTIONS, Conversation

_TEXT_PARTS = frozenset(("text", "input_text", "output_text", "refusal"))
_MEDIA_PARTS = frozenset(
    ("image_url", "input_image", "input_audio", "audio", "video_url", "file", "input_file", "image")
)


def router(desk: Desk) -> APIRouter:
    routes = json_router()

    @routes.post("/v1/chat/completions", responses=generation_responses(ChatAnswer), tags=["generate"])
    async def chat_completions(fields: ChatRequest, http: Request) -> Response:
        """Continue a conversation."""
        service = desk.service
        model = service.require_model(fields.model)
        conversation, unknown = conversation_of(fields)
        num_logprobs = _num_logprobs(fields)
        max_tokens = require_count("max_completion_tokens", fields.max_completion_tokens, 1, MAX_TOKENS)
        params = sampling_params(
            fields,
            service.text.generation_defaults,
            max_tokens=fields.max_tokens if max_tokens is None else max_tokens,
            logprobs=num_logprobs,
            grammar=requested_grammar(fields),
        )
        dialect = ChatDialect(
            model,
            bytes_of=service.bytes_of,
            logprobs=num_logprobs is not None,
            include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
        )
        return await desk.answer_conversation(
            "chat",
            conversation,
            params,
            dialect,
            priority=fields.priority or 0,
            streamed=bool(fields.stream),
            unknown_fields=[*ignored(fields), *unknown],
            key_id=http.state.key_id or "",
        )

    return routes


def conversation_of(fields: ChatRequest) -> tuple[Conversation, list[str]]:
    """The conversation, and the names of what was left out of it."""
    unknown = [f"tools[type={tool.type}]" for tool in fields.tools or () if tool.function is None]
    unknown += [f"messages[].content[type={name}]" for name in _unknown_parts(fields)]
    tools = [
        Tool(tool.function.name, tool.function.description, tool.function.parameters, bool(tool.function.strict))
        for tool in fields.tools or ()
        if tool.function is not None
    ]
    options = dict(fields.chat_template_kwargs or {})
    unknown += [f"chat_template_kwargs.{name}" for name in options if name not in TEMPLATE_OPTIONS]
    if fields.reasoning_effort is not None:
        options["reasoning_effort"] = fields.reasoning_effort
        options.setdefault("enable_thinking", fields.reasoning_effort != "none")
    unknown += [
        f"messages[].tool_calls[type={call.type}]"
        for message in fields.messages
        for call in message.tool_calls or ()
        if call.function is None
    ]
    messages = [message_value(message) for message in fields.messages]
    return Conversation(messages, tools, _tool_choice(fields, tools, unknown), options), list(dict.fromkeys(unknown))


def message_value(message: Message) -> dict[str, Any]:
    """A message as the template side reads it: only what is known, content as text."""
    value: dict[str, Any] = {"role": message.role, "content": _text(message.content)}
    for name in ("name", "tool_call_id", "reasoning", "reasoning_content"):
        if getattr(message, name) is not None:
            value[name] = getattr(message, name)
    calls = [(call.id, call.function) for call in message.tool_calls or () if call.function is not None]
    if message.function_call is not None and not calls:
        calls = [(None, message.function_call)]  # as it was before there were several
    if calls:
        value["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call_id, call in calls
        ]
    return value


def _text(content: str | list[ContentPart] | None) -> str | None:
    if not isinstance(content, list):
        return content
    for part in content:
        if part.type in _MEDIA_PARTS:
            raise RequestError(f"a message has a part of type {part.type}", fix="the model reads text alone: send text")
    texts = [part.text or part.refusal for part in content if part.type in _TEXT_PARTS]
    return "\n".join(text for text in texts if text)


def _unknown_parts(fields: ChatRequest) -> Iterator[str]:
    for message in fields.messages:
        if isinstance(message.content, list):
            yield from (part.type for part in message.content if part.type not in _TEXT_PARTS)


def _tool_choice(fields: ChatRequest, tools: list[Tool], unknown: list[str]) -> ToolChoice:
    parallel, choice = fields.parallel_tool_calls is not False, fields.tool_choice
    if isinstance(choice, NamedTool):
        if choice.type == "function" and choice.function is None:
            raise RequestError("tool_choice names no function", fix="add function.name")
        if choice.type == "function" and choice.function is not None:
            return ToolChoice("named", choice.function.name, parallel)
        unknown.append(f"tool_choice[type={choice.type}]")
        choice = None
    if choice is None:
        return ToolChoice("auto" if tools else "none", None, parallel)
    return ToolChoice(choice, None, parallel)


def _num_logprobs(fields: ChatRequest) -> int | None:
    num_top = require_count("top_logprobs", fields.top_logprobs, 0, MAX_LOGPROBS)
    if num_top and not fields.logprobs:
        raise RequestError("top_logprobs needs logprobs", fix="set logprobs to true")
    return (num_top or 0) if fields.logprobs else None
