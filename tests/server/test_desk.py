"""How the end of a request is counted and logged."""

import json
import os

import pytest

from farthing.engine.process.stream import Stream
from farthing.errors import RequestFailedError
from farthing.server.answer import Answer, Call
from farthing.server.books import Books
from farthing.server.desk import Desk, RequestCancelledError
from farthing.server.ignored import IgnoredFields
from farthing.server.log import Log
from farthing.server.stream import ClientGoneError


@pytest.mark.parametrize(
    ("error", "outcome", "events"),
    [
        (None, "stop", ["request"]),
        (ClientGoneError(), "cancelled", ["request"]),
        (RequestCancelledError(), "cancelled", ["request"]),
        (RequestFailedError("no token to draw"), "failed", ["request"]),
        (TimeoutError(), "failed", ["request"]),
        (KeyError("ours"), "failed", ["internal error", "request"]),
    ],
)
def test_an_end_is_counted_once_and_what_is_our_mistake_is_logged_with_its_place(
    error: Exception | None, outcome: str, events: list[str]
) -> None:
    reading, writing = os.pipe()
    answer = Answer(Call([], lambda: None), Stream([], lambda request_id: None))  # type: ignore[arg-type]
    with Log(writing) as log:
        desk = Desk(None, IgnoredFields(strict=False, on_new=str), log, Books(), timeout=1.0)  # type: ignore[arg-type]
        try:
            if error is not None:
                raise error
        except Exception as raised:
            desk.record_end("chat", "7-ab", "alice", answer, raised, seconds=0.5)
        else:
            desk.record_end("chat", "7-ab", "alice", answer, None, seconds=0.5)
    os.close(writing)
    with os.fdopen(reading) as file:
        lines = [json.loads(line) for line in file]
    assert desk.num_ended == {"stop": 0, "cancelled": 0, "failed": 0} | {outcome: 1}
    assert [line["event"] for line in lines] == events
    assert lines[-1]["outcome"] == outcome and lines[-1]["id"] == "7-ab"
    assert all(line["at"] for line in lines if line["event"] == "internal error")
