"""The calls of a conversation and their results: who belongs to whom, and how a template wants them named and ordered.

All of it depends on the messages before a call only, so that a longer conversation begins as a shorter one did.
"""

import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

_SHORT_ID_CHARACTERS = 9


def with_ids(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every call with an id, every result with that of its call: one without takes the next call that has none yet."""
    counter = itertools.count()
    waiting: list[str] = []
    made = []
    for message in messages:
        if "tool_calls" in message:
            calls = [{**call, "id": call["id"] or f"call_{next(counter)}"} for call in message["tool_calls"]]
            waiting = [call["id"] for call in calls]
            message = {**message, "tool_calls": calls}
        elif message["role"] == "tool":
            call_id = message.get("tool_call_id") or (waiting[0] if waiting else f"call_{next(counter)}")
            if call_id in waiting:
                waiting.remove(call_id)
            message = {**message, "tool_call_id": call_id}
        made.append(message)
    return made


def short_ids(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ids of nine letters and digits; an id that is none becomes one that depends on nothing else."""
    made = []
    for message in messages:
        if "tool_calls" in message:
            calls = [{**call, "id": _short_id(call["id"])} for call in message["tool_calls"]]
            message = {**message, "tool_calls": calls}
        if "tool_call_id" in message:
            message = {**message, "tool_call_id": _short_id(message["tool_call_id"])}
        made.append(message)
    return made


def split_calls(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One call to a message and its result behind it, and text beside calls as a message of its own."""
    made: list[dict[str, Any]] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if "tool_calls" not in message:
            made.append(message)
            continue
        end = at
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        results = list(messages[at:end])
        at = end
        if message["content"]:
            made.append({key: value for key, value in message.items() if key != "tool_calls"})
        for call in message["tool_calls"]:
            made.append({"role": "assistant", "content": "", "tool_calls": [call]})
            own = [result for result in results if result["tool_call_id"] == call["id"]]
            results = [result for result in results if result["tool_call_id"] != call["id"]]
            made += own
        made += results
    return made


def _short_id(call_id: str) -> str:
    if len(call_id) == _SHORT_ID_CHARACTERS and call_id.isascii() and call_id.isalnum():
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT_ID_CHARACTERS]
