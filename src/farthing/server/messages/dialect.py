"""An answer as Anthropic writes it: a stream of content blocks, or one `message`; and errors in its shape.

Knows Anthropic's shapes alone; what the pieces mean was decided before. Blocks come one after another: a piece of
another kind ends the block before it.
"""

import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from farthing.engine.tool_calls.answer_parser import CallArguments, CallEnd, CallStart, Content, Piece, Reasoning
from farthing.server.answer import Answer, Choice, Event, ToolCall
from farthing.server.errors import ApiError

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_encode = msgspec.json.Encoder().encode


class MessagesDialect:
    """White space alone makes no block of text beside others: clients would show it as an empty line."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": model}
        self._num_blocks = 0
        self._open: str | None = None  # type of the block that is being written
        self._space = ""  # what may yet be the beginning of a text

    def begin(self, answer: Answer) -> bytes:
        """The prompt's tokens count as not cached for now; the end tells."""
        message: dict[str, Any] = {
            **self._head,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(answer),
        }
        return _sse({"type": "message_start", "message": message}) + _PING

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes:
        return b"".join(self._piece(piece) for event in events for piece in event.pieces)

    def end(self, answer: Answer) -> bytes:
        text = b"" if self._num_blocks or not self._space else self._text(self._space)
        delta = _ending(answer.choices[0])
        last = {"type": "message_delta", "delta": delta, "usage": usage(answer)}
        return text + self._close() + _sse(last) + _sse({"type": "message_stop"})

    def error(self, error: ApiError) -> bytes:
        return b"event: error\ndata: " + anthropic_error_body(error) + b"\n\n"

    def refusal(self, error: ApiError) -> bytes:
        return anthropic_error_body(error)

    def whole(self, answer: Answer) -> bytes:
        choice = answer.choices[0]
        return _encode({**self._head, "content": _blocks(choice), **_ending(choice), "usage": usage(answer)})

    def _piece(self, piece: Piece) -> bytes:
        match piece:
            case Reasoning(text):
                start = self._start("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                return start + self._delta({"type": "thinking_delta", "thinking": text})
            case Content(text) if self._open == "text" or not text.isspace():
                return self._text(self._space + text)
            case Content(text):
                self._space += text
            case CallStart(_, name):
                self._space = ""
                return self._close() + self._start("tool_use", _tool_use(name, {}))
            case CallArguments(_, text):
                return self._delta({"type": "input_json_delta", "partial_json": text})
            case CallEnd():
                return self._close()
        return b""

    def _text(self, text: str) -> bytes:
        self._space = ""
        return self._start("text", {"type": "text", "text": ""}) + self._delta({"type": "text_delta", "text": text})

    def _start(self, kind: str, block: dict[str, Any]) -> bytes:
        """Begin a block, unless one of this kind is being written."""
        if self._open == kind:
            return b""
        before = self._close()
        self._open = kind
        return before + _sse({"type": "content_block_start", "index": self._num_blocks, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _sse({"type": "content_block_delta", "index": self._num_blocks, "delta": delta})

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        signature = self._delta({"type": "signature_delta", "signature": ""}) if self._open == "thinking" else b""
        stop = _sse({"type": "content_block_stop", "index": self._num_blocks})
        self._open = None
        self._num_blocks += 1
        return signature + stop


def anthropic_error_body(error: ApiError) -> bytes:
    """`{"type": "error", "error": {"type", "message"}, "request_id"}` as bytes of JSON."""
    kind = _ERROR_TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
    return _encode({"type": "error", "error": {"type": kind, "message": str(error)}, "request_id": None})


def usage(answer: Answer) -> dict[str, Any]:
    return {
        "input_tokens": answer.num_prompt_tokens - answer.num_cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.num_cached_tokens,
        "output_tokens": answer.num_output_tokens,
        "output_tokens_details": {"thinking_tokens": answer.num_reasoning_tokens},
        "farthing": answer.cost,
    }


def _ending(choice: Choice) -> dict[str, Any]:
    if choice.finish_reason == "tool_calls":
        return {"stop_reason": "tool_use", "stop_sequence": None}
    if choice.finish_reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if isinstance(choice.stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": choice.stop_reason}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _blocks(choice: Choice) -> list[dict[str, Any]]:
    """A call that was cut is no call, or an agent would make it: its text is text."""
    blocks: list[dict[str, Any]] = []
    if choice.reasoning:
        blocks.append({"type": "thinking", "thinking": choice.reasoning, "signature": ""})
    if choice.content and not (choice.content.isspace() and (blocks or choice.tool_calls)):
        blocks.append({"type": "text", "text": choice.content})
    for call in choice.tool_calls:
        value = _input(call)
        if value is not None:
            blocks.append(_tool_use(call.name, value))
        elif call.arguments:
            blocks.append({"type": "text", "text": call.arguments})
    return blocks


def _tool_use(name: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": name, "input": value}


def _input(call: ToolCall) -> dict[str, Any] | None:
    """None if the arguments are no JSON object."""
    try:
        value = msgspec.json.decode(call.arguments)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _sse(event: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode(event))
