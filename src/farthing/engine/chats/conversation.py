"""Messages as clients send them, made into messages that the chat template of a model can take.

Every model gets what its own template knows (template_traits.py): where it knows no tools, calls and results become
text in the Hermes form and the tools a part of the system message. The same messages give the same text, and a longer
conversation begins as a shorter one did as far as the template permits, so that its prefix is found in the cache.
Knows no HTTP; that messages have the right shape is checked by the server.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from farthing.engine.chats.conversation_calls import short_ids, split_calls, with_ids
from farthing.engine.chats.template_traits import TemplateTraits, traits_of
from farthing.engine.tool_calls.formats import ToolFormat
from farthing.engine.tool_calls.formats.hermes import call_text, describe, result_text
from farthing.engine.tool_calls.tools import Tool

Message: TypeAlias = dict[str, Any]

# Agents put a line there that differs in every request; no prefix would ever be found again behind it.
_BILLING_HEADER = re.compile(r"x-[a-z0-9-]{0,64}billing-header:[^\n]*\n*", re.IGNORECASE)


def normalise(
    messages: Sequence[Mapping[str, Any]], *, template_source: str, format: ToolFormat | None, tools: Sequence[Tool]
) -> list[Message]:
    """Messages for ChatTemplate.render, which takes `template_tools` beside them. `format` None: no tool is offered,
    though the messages may tell of earlier calls."""
    traits = traits_of(template_source)
    made = with_ids([_plain(message, traits) for message in messages])
    made = _one_system(made, everywhere=traits.one_system)
    if traits.takes_tools:
        if traits.one_call:
            made = split_calls(made)
        if traits.short_ids:
            made = short_ids(made)
        made = [_with_argument_values(message, traits) for message in made]
    else:
        made = _in_text(made)
        if format is not None and tools:
            made = _with_system(made, describe(tools))
    if not traits.takes_system:
        made = _system_beside_user(made, last=False)
    elif traits.moves_system:
        made = _system_beside_user(made, last=True)
    return _alternating(made) if traits.alternates else made


def template_tools(tools: Sequence[Tool], *, template_source: str) -> list[dict[str, Any]] | None:
    """The tools for ChatTemplate.render; None where there are none or its template can't describe them."""
    if not tools or not traits_of(template_source).takes_tools:
        return None
    return [tool.as_function() for tool in tools]


def _plain(message: Mapping[str, Any], traits: TemplateTraits) -> Message:
    """What templates read of a message: content as text, roles and calls of today."""
    role = message["role"]
    if role == "developer" and not traits.takes_developer:
        role = "system"
    plain: Message = {"role": "tool" if role == "function" else role, "content": _text(message.get("content"))}
    calls = message.get("tool_calls") or ()
    if role == "assistant" and calls:
        plain["tool_calls"] = [
            {"id": call.get("id"), "type": "function", "function": _call(call["function"])} for call in calls
        ]
    for key in ("name", "tool_call_id"):
        if isinstance(message.get(key), str):
            plain[key] = message[key]
    thought = message.get("reasoning_content") or message.get("reasoning")
    if role == "assistant" and isinstance(thought, str):
        plain["reasoning_content"] = thought
    return plain


def _call(function: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": function["name"], "arguments": function.get("arguments") or "{}"}


def _text(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "\n".join(part if isinstance(part, str) else str(part.get("text") or "") for part in content)
    return json.dumps(content, ensure_ascii=False)


def _one_system(messages: list[Message], *, everywhere: bool) -> list[Message]:
    """The system messages at the head made one. With `everywhere`, those further on become the user's: moved to the
    head they would change it, and no prefix would be found again behind it."""
    head = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    texts = [_BILLING_HEADER.sub("", message["content"], count=1) if _is_header(message) else message["content"]
             for message in messages[:head]]  # fmt: skip
    rest = messages[head:]
    if everywhere:
        rest = [{**message, "role": "user"} if message["role"] == "system" else message for message in rest]
    text = "\n\n".join(filter(None, texts))
    return [{"role": "system", "content": text}, *rest] if text else rest


def _is_header(message: Message) -> bool:
    return _BILLING_HEADER.match(message["content"]) is not None


def _with_argument_values(message: Message, traits: TemplateTraits) -> Message:
    """Templates write arguments as JSON: they have to be values, unless the template asks whether they are text."""
    if "tool_calls" not in message or traits.takes_argument_text:
        return message
    calls = [
        {**call, "function": {**call["function"], "arguments": _value(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}


def _value(arguments: object) -> object:
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def _in_text(messages: list[Message]) -> list[Message]:
    """Calls as text of the assistant, results as text of the user."""
    made: list[Message] = []
    in_results = False
    for message in messages:
        text = message["content"]
        if message["role"] == "tool":
            if in_results:
                made[-1]["content"] += "\n" + result_text(text)
            else:
                made.append({"role": "user", "content": result_text(text)})
        elif "tool_calls" in message:
            calls = [call_text(call["function"]["name"], _json(call["function"]["arguments"]))
                     for call in message["tool_calls"]]  # fmt: skip
            rest = {key: value for key, value in message.items() if key != "tool_calls"}
            made.append({**rest, "content": "\n".join(filter(None, [text, *calls]))})
        else:
            made.append(message)
        in_results = message["role"] == "tool"
    return made


def _json(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _with_system(messages: list[Message], text: str) -> list[Message]:
    if messages and messages[0]["role"] == "system":
        return [{"role": "system", "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _system_beside_user(messages: list[Message], *, last: bool) -> list[Message]:
    """The system text at the head of the first or the last message of the user."""
    if not messages or messages[0]["role"] != "system":
        return messages
    text, made = messages[0]["content"], messages[1:]
    users = [i for i, message in enumerate(made) if message["role"] == "user"]
    if not users:
        return [{"role": "user", "content": text}, *made]
    at = users[-1 if last else 0]
    made[at] = {**made[at], "content": f"{text}\n\n{made[at]['content']}"}
    return made


def _alternating(messages: list[Message]) -> list[Message]:
    """User and assistant in turn, from the user on; calls and results do not count. Messages of one role in a row
    become one, and where a call stands between them an empty message of the other role does."""
    made: list[Message] = []
    expected, mergeable = "user", False
    for message in messages:
        counts = message["role"] in ("user", "assistant") and "tool_calls" not in message
        if counts and message["role"] != expected:
            if mergeable:
                made[-1] = {**made[-1], "content": f"{made[-1]['content']}\n\n{message['content']}"}
                continue
            made.append({"role": expected, "content": ""})
            expected = message["role"]
        made.append(message)
        mergeable = counts
        if counts:
            expected = "assistant" if expected == "user" else "user"
    return made
