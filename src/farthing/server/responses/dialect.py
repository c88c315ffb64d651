"""An answer as a response of OpenAI's newer API: items of output, and the events in which they come to be.

A thought, a text and every call are an item each, in the order in which the model writes them. One item is open at a
time; it is closed by the next, and its last event holds all of it. Knows OpenAI's shapes alone.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from farthing.engine.tool_calls.answer_parser import CallArguments, CallEnd, CallStart, Content, Piece, Reasoning
from farthing.sampling_params import TokenLogprobs
from farthing.server.answer import Answer, Choice, Event
from farthing.server.errors import ApiError
from farthing.server.logprobs import BytesOf, chat_logprobs
from farthing.server.responses.translate import FunctionNames

_encode = msgspec.json.Encoder().encode

Json: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["reasoning", "message", "function_call"]
Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]

_PREFIXES: Mapping[Kind, str] = {"reasoning": "rs", "message": "msg", "function_call": "fc"}
_TEXT_EVENTS: Mapping[Kind, str] = {
    "reasoning": "response.reasoning_text",
    "message": "response.output_text",
    "function_call": "response.function_call_arguments",
}


@dataclass(slots=True)
class Item:
    """An item of output at place `index`. `function` is (namespace, name) of a call; `texts` joined are its text or
    its arguments."""

    kind: Kind
    index: int
    function: tuple[str | None, str] = (None, "")
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    id: str = ""
    call_id: str = ""

    def __post_init__(self) -> None:
        self.id = f"{_PREFIXES[self.kind]}_{secrets.token_hex(12)}"
        if self.kind == "function_call":
            self.call_id = f"call_{secrets.token_hex(12)}"

    @property
    def place(self) -> Json:
        """Where an event of the item's text belongs."""
        place: Json = {"item_id": self.id, "output_index": self.index}
        if self.kind != "function_call":
            place["content_index"] = 0
        return place

    def part(self) -> Json:
        """The one part of its content."""
        text = "".join(self.texts)
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": self.logprobs}

    def value(self, status: Status) -> Json:
        """All of the item; of one in progress what it has before its first text."""
        value: Json = {"type": self.kind, "id": self.id, "status": status}
        if self.kind == "function_call":
            namespace, name = self.function
            value |= {"call_id": self.call_id, "name": name, "arguments": "".join(self.texts)}
            if namespace is not None:
                value["namespace"] = namespace
            return value
        if self.kind == "reasoning":
            value["summary"] = []
        else:
            value["role"] = "assistant"
        value["content"] = [] if status == "in_progress" else [self.part()]
        return value


class ResponsesDialect:
    """`echo`: what the answer repeats of its request. White space alone makes no item beside others: clients would show
    it as an empty line."""

    def __init__(self, model: str, echo: Mapping[str, Any], *, names: FunctionNames, bytes_of: BytesOf) -> None:
        self._names, self._bytes_of = names, bytes_of
        self._head = {
            "id": f"resp_{secrets.token_hex(12)}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            **echo,
        }
        self._closed: list[Json] = []
        self._open: Item | None = None
        self._logprobs: list[Json] = []  # of tokens whose text is still held back
        self._space = ""  # what may yet be the beginning of a text
        self._num_events = 0

    def begin(self, answer: Answer) -> bytes:
        response = self._response("in_progress", [])
        return b"".join(self._event(name, response) for name in ("response.created", "response.in_progress"))

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes:
        chunks: list[bytes] = []
        for event in events:
            if event.delta.logprobs:
                self._logprobs += chat_logprobs(event.delta.logprobs, self._bytes_of)["content"]
            for piece in event.pieces:
                self._write(piece, chunks)
        return b"".join(chunks)

    def end(self, answer: Answer) -> bytes:
        chunks: list[bytes] = []
        cut = answer.choices[0].finish_reason == "length"
        if self._open is None and not self._closed:
            self._delta(self._at("message", chunks), {"delta": self._space, "logprobs": []}, chunks)
        if self._open is not None:
            if self._open.kind == "message":
                self._open.logprobs += self._logprobs
            self._close("incomplete" if cut or self._open.kind == "function_call" else "completed", chunks)
        status = "incomplete" if cut else "completed"
        chunks.append(self._event(f"response.{status}", self._response(status, self._closed, answer)))
        return b"".join(chunks)

    def error(self, error: ApiError) -> bytes:
        items = [*self._closed, *([] if self._open is None else [self._open.value("incomplete")])]
        response = self._response("failed", items)
        # The codes of this API are few; a client must only learn that to try again may help.
        code = "server_error" if error.status >= 500 else error.code or "invalid_prompt"
        response["response"]["error"] = {"code": code, "message": str(error)}
        return self._event("response.failed", response)

    def refusal(self, error: ApiError) -> bytes:
        return error.body()

    def whole(self, answer: Answer) -> bytes:
        choice = answer.choices[0]
        status = "incomplete" if choice.finish_reason == "length" else "completed"
        return _encode(self._response(status, self._items(choice), answer)["response"])

    def _write(self, piece: Piece, chunks: list[bytes]) -> None:
        match piece:
            case Content("") | Reasoning(""):
                return
            case Content(text):
                text, self._space = self._space + text, ""
                if (self._open is None or self._open.kind != "message") and text.isspace():
                    self._space = text
                    return
                logprobs, self._logprobs = self._logprobs, []
                item = self._at("message", chunks)
                item.logprobs += logprobs
                self._delta(item, {"delta": text, "logprobs": logprobs}, chunks)
            case Reasoning(text):
                self._logprobs, self._space = [], ""
                self._delta(self._at("reasoning", chunks), {"delta": text}, chunks)
            case CallStart(_, name):
                self._logprobs, self._space = [], ""
                self._close("completed", chunks)
                self._begin(Item("function_call", len(self._closed), self._names.apart(name)), chunks)
            case CallArguments(_, text):
                self._logprobs = []
                self._delta(self._at("function_call", chunks), {"delta": text}, chunks)
            case CallEnd():
                self._close("completed", chunks)

    def _at(self, kind: Kind, chunks: list[bytes]) -> Item:
        """The open item, if it is of this kind; otherwise a new one."""
        item = self._open
        if item is None or item.kind != kind:
            assert kind != "function_call", "arguments without a call"
            self._close("completed", chunks)
            item = Item(kind, len(self._closed))
            self._begin(item, chunks)
        return item

    def _begin(self, item: Item, chunks: list[bytes]) -> None:
        self._open = item
        added = {"output_index": item.index, "item": item.value("in_progress")}
        chunks.append(self._event("response.output_item.added", added))
        if item.kind != "function_call":
            chunks.append(self._event("response.content_part.added", {**item.place, "part": item.part()}))

    def _delta(self, item: Item, said: Json, chunks: list[bytes]) -> None:
        item.texts.append(said["delta"])
        chunks.append(self._event(_TEXT_EVENTS[item.kind] + ".delta", {**item.place, **said}))

    def _close(self, status: Status, chunks: list[bytes]) -> None:
        item, self._open = self._open, None
        if item is None:
            return
        text: Json = {"arguments" if item.kind == "function_call" else "text": "".join(item.texts)}
        if item.kind == "message":
            text["logprobs"] = item.logprobs
        chunks.append(self._event(_TEXT_EVENTS[item.kind] + ".done", {**item.place, **text}))
        if item.kind != "function_call":
            chunks.append(self._event("response.content_part.done", {**item.place, "part": item.part()}))
        self._closed.append(item.value(status))
        done = {"output_index": item.index, "item": self._closed[-1]}
        chunks.append(self._event("response.output_item.done", done))

    def _event(self, name: str, said: Json) -> bytes:
        number, self._num_events = self._num_events, self._num_events + 1
        data = _encode({"type": name, "sequence_number": number, **said})
        return b"event: %b\ndata: %b\n\n" % (name.encode(), data)

    def _response(self, status: str, items: Sequence[Json], answer: Answer | None = None) -> Json:
        """As an event holds it; with the counts once there is an `answer`."""
        return {
            "response": {
                **self._head,
                "status": status,
                "completed_at": int(time.time()) if status == "completed" else None,
                "error": None,
                "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
                "output": items,
                "usage": None if answer is None else usage(answer),
            }
        }

    def _items(self, choice: Choice) -> list[Json]:
        """Of an answer that is not streamed: its text stands before its calls."""
        items: list[tuple[Item, bool]] = []  # and whether it is complete
        ended = choice.finish_reason != "length"
        if choice.reasoning:
            done = ended or bool(choice.content.strip() or choice.tool_calls)
            items.append((Item("reasoning", 0, texts=[choice.reasoning]), done))
        if choice.content.strip() or not (choice.reasoning or choice.tool_calls):
            logprobs = chat_logprobs(self._logprobs_of_content(choice), self._bytes_of)["content"]
            message = Item("message", len(items), texts=[choice.content], logprobs=logprobs)
            items.append((message, ended or bool(choice.tool_calls)))
        for call in choice.tool_calls:
            function = self._names.apart(call.name)
            items.append((Item("function_call", len(items), function, [call.arguments]), call.complete))
        return [item.value("completed" if complete else "incomplete") for item, complete in items]

    def _logprobs_of_content(self, choice: Choice) -> Sequence[TokenLogprobs]:
        """Those of the tokens that the text is made of; all of them where it can't be found among them."""
        if not (choice.reasoning or choice.tool_calls):
            return choice.logprobs
        pieces = [self._bytes_of(token.token_id) for token in choice.logprobs]
        data, reasoning, content = b"".join(pieces), choice.reasoning.encode(), choice.content.encode()
        begin = data.find(content, data.find(reasoning) + len(reasoning))
        if begin < 0:
            return choice.logprobs
        found, place = [], 0
        for token, piece in zip(choice.logprobs, pieces, strict=True):
            if place < begin + len(content) and place + len(piece) > begin:
                found.append(token)
            place += len(piece)
        return found


def usage(answer: Answer) -> Json:
    return {
        "input_tokens": answer.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": answer.num_cached_tokens, "cache_write_tokens": 0},
        "output_tokens": answer.num_output_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.num_reasoning_tokens},
        "total_tokens": answer.num_prompt_tokens + answer.num_output_tokens,
        "farthing": answer.cost,
    }
