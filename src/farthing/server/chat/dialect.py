"""An answer as a chat completion: `chat.completion.chunk` events, or one `chat.completion`.

Knows OpenAI's shapes alone; what the pieces mean was decided before.
"""

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from farthing.engine.tool_calls.answer_parser import CallArguments, CallStart, Content, Piece, Reasoning
from farthing.server.answer import Answer, Choice, Event
from farthing.server.errors import ApiError
from farthing.server.logprobs import BytesOf, chat_logprobs

_DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class ChatDialect:
    """`logprobs`: whether they were asked for; `include_usage`: whether a stream ends with the counts."""

    def __init__(self, model: str, *, bytes_of: BytesOf, logprobs: bool, include_usage: bool) -> None:
        self._bytes_of, self._logprobs, self._include_usage = bytes_of, logprobs, include_usage
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}
        self._call_ids: dict[tuple[int, int], str] = {}

    def begin(self, answer: Answer) -> bytes:
        first = {"role": "assistant", "content": ""}
        return b"".join(self._chunk(index, first) for index in range(len(answer.choices)))

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes:
        return b"".join(data for event in events for data in self._event_chunks(event))

    def end(self, answer: Answer) -> bytes:
        return (self._sse([], usage(answer)) if self._include_usage else b"") + _DONE

    def error(self, error: ApiError) -> bytes:
        return b"data: " + error.body() + b"\n\n" + _DONE

    def refusal(self, error: ApiError) -> bytes:
        return error.body()

    def whole(self, answer: Answer) -> bytes:
        choices = [self._choice(index, choice) for index, choice in enumerate(answer.choices)]
        return _encode({**self._head, "object": "chat.completion", "choices": choices, "usage": usage(answer)})

    def _event_chunks(self, event: Event) -> list[bytes]:
        logprobs = chat_logprobs(event.delta.logprobs, self._bytes_of) if event.delta.logprobs else None
        chunks = []
        for piece in event.pieces:
            delta = self._delta(event.choice, piece)
            if delta is not None:
                chunks.append(self._chunk(event.choice, delta, logprobs=logprobs))
                logprobs = None
        if logprobs is not None:  # of tokens whose text is still held back
            chunks.append(self._chunk(event.choice, {"content": ""}, logprobs=logprobs))
        if event.finish_reason is not None:
            chunks.append(self._chunk(event.choice, {}, finish_reason=event.finish_reason))
        return chunks

    def _delta(self, choice: int, piece: Piece) -> dict[str, Any] | None:
        match piece:
            case Content(text):
                return {"content": text}
            case Reasoning(text):
                return {"reasoning_content": text}
            case CallStart(index, name):
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": self._call_id(choice, index), "type": "function", "function": function}
                return {"tool_calls": [call]}
            case CallArguments(index, text):
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
        return None

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> bytes:
        return self._sse([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}], None)

    def _sse(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": choices}
        if self._include_usage:
            chunk["usage"] = usage
        return b"data: " + _encode(chunk) + b"\n\n"

    def _choice(self, index: int, choice: Choice) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.content}
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        if choice.tool_calls:
            message["content"] = choice.content or None
            message["tool_calls"] = [
                {
                    "id": self._call_id(index, number),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for number, call in enumerate(choice.tool_calls)
            ]
        logprobs = chat_logprobs(choice.logprobs, self._bytes_of) if self._logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason}

    def _call_id(self, choice: int, index: int) -> str:
        return self._call_ids.setdefault((choice, index), f"call_{secrets.token_hex(12)}")


def usage(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.num_prompt_tokens,
        "completion_tokens": answer.num_output_tokens,
        "total_tokens": answer.num_prompt_tokens + answer.num_output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.num_cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": answer.num_reasoning_tokens},
        "farthing": answer.cost,
    }
