"""What becomes of a row: the line of the result file, and the figures that are summed up.

A batch that was killed and gone on with must give the same file as one that was not, so what differs between two
answers to one request is replaced. Ids are digests of the row; times are the file's; `usage.farthing` (what the answer
took) is taken out and summed up, as are counts of cached prompt tokens, which depend on what ran before: where the API
can leave them out they are left out, else all of the prompt counts as not cached. Knows no server and no journal.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from farthing.client.batch_file import Row, RowError

_ID_PREFIXES = {
    "/v1/chat/completions": "chatcmpl-",
    "/v1/completions": "cmpl-",
    "/v1/responses": "resp_",
    "/v1/messages": "msg_",
}
_TIMES = ("created", "created_at", "completed_at")


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one row. `seconds` of the engine's time and `dollars` are what the answer says of itself; None is untold."""

    failed: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float | None = None
    dollars: float | None = None
    share_of_limit: float | None = None

    def to_json(self) -> bytes:
        return json.dumps({name: value for name, value in asdict(self).items() if value}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "Facts":
        """ValueError or TypeError for what `to_json` did not write."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Result:
    """`line`: one JSON object, without the end of the line."""

    line: bytes
    facts: Facts


def refused(row: Row, error: RowError) -> Result:
    """A row that got no answer."""
    return Result(_line(row, None, error), Facts(failed=True))


def answered(row: Row, status: int, content: bytes, *, created: int) -> Result:
    """A row that the server answered, well or not. `created`: the time that the answer is to bear, in seconds."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = content.decode(errors="replace")
    response = {"status_code": status, "request_id": f"req_{_digest(row, 'request')}", "body": body}
    if status != 200:
        return Result(_line(row, response, _error_of(status, body)), Facts(failed=True))
    if not isinstance(body, dict):
        error = RowError("invalid_answer", "the server answered with something else than a JSON object")
        return Result(_line(row, response, error), Facts(failed=True))
    facts = _take_usage(body)
    _replace_times(body, created)
    _replace_ids(row, body)
    return Result(_line(row, response, None), facts)


def facts_of(line: Mapping[str, Any]) -> Facts:
    """What a line of the result file still tells; its usage loses what `answered` takes out. KeyError, TypeError for
    what is no such line."""
    if line["error"] is not None:
        return Facts(failed=True)
    body = line["response"]["body"]
    return _take_usage(body if isinstance(body, dict) else {})


def _line(row: Row, response: Mapping[str, Any] | None, error: RowError | None) -> bytes:
    return json.dumps(
        {
            "id": row.id,
            "custom_id": row.custom_id,
            "response": response,
            "error": None if error is None else asdict(error),
        }
    ).encode()


def _error_of(status: int, body: object) -> RowError:
    """OpenAI's and Anthropic's objects both have an `error` with a message."""
    said = body.get("error") if isinstance(body, dict) else None
    said = said if isinstance(said, dict) else {}
    code = said.get("code") or said.get("type") or f"http_{status}"
    return RowError(str(code), str(said.get("message") or f"the server answered with status {status}"))


def _take_usage(body: dict[str, Any]) -> Facts:
    """The counts; what differs from run to run is taken out of the body."""
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return Facts()
    told = usage.pop("farthing", None)
    told = told if isinstance(told, dict) else {}
    cached = _count(told, "cached_tokens")
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = usage.get(name)
        if isinstance(details, dict):
            cached = max(cached, _count({"": details.pop("cached_tokens", 0)}, ""))
            if not details:
                del usage[name]
    if "cache_read_input_tokens" in usage:
        read = _count(usage, "cache_read_input_tokens")
        cached = max(cached, read)
        usage["input_tokens"], usage["cache_read_input_tokens"] = _count(usage, "input_tokens") + read, 0
    return Facts(
        prompt_tokens=_count(usage, "prompt_tokens") or _count(usage, "input_tokens"),
        cached_tokens=cached,
        output_tokens=_count(usage, "completion_tokens") or _count(usage, "output_tokens"),
        seconds=_number(told, "seconds"),
        dollars=_number(told, "dollars"),
        share_of_limit=_number(told, "share_of_limit"),
    )


def _replace_times(body: dict[str, Any], created: int) -> None:
    for name in _TIMES:
        if isinstance(body.get(name), int | float):
            body[name] = created


def _replace_ids(row: Row, body: dict[str, Any]) -> None:
    """The answer's own, and those of its items and of its calls of tools."""
    if "id" in body:
        body["id"] = _ID_PREFIXES[row.url] + _digest(row, "answer")
    for number, (part, name) in enumerate(_named_parts(body)):
        if isinstance(part.get(name), str):
            prefix, underscore, _ = part[name].rpartition("_")
            part[name] = prefix + underscore + _digest(row, f"part {number}")


def _named_parts(body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every object of the answer that has an id, and the name under which it has it, in order."""
    for choice in _objects(body.get("choices")):
        message = choice.get("message")
        if isinstance(message, dict):
            yield from ((call, "id") for call in _objects(message.get("tool_calls")))
    for item in _objects(body.get("output")):
        yield item, "id"
        yield item, "call_id"
    yield from ((block, "id") for block in _objects(body.get("content")))


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _digest(row: Row, what: str) -> str:
    return hashlib.sha256(f"{row.id}/{what}".encode()).hexdigest()[:24]


def _count(values: Mapping[str, Any], name: str) -> int:
    value = values.get(name)
    return value if isinstance(value, int) and value > 0 else 0


def _number(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    return float(value) if isinstance(value, int | float) else None
