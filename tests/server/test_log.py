"""The log: what a line may hold, and that nobody waits for it."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.server.log import Log, redact


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_an_event_is_one_line_of_json_with_its_fields(path: Path):
    with Log(opened(path)) as log:
        log.event("request", route="/v1/models", status=200, seconds=0.5, streamed=False, key=None)
    (line,) = lines(path)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "event": "request",
        "route": "/v1/models",
        "status": 200,
        "seconds": 0.5,
        "streamed": False,
        "key": None,
    }


@pytest.mark.parametrize(
    "text", ['a\r\n{"event": "forged"}', "\x1b[2J\x1b[31mred", "\u2028\u0085\x0b\x0c", "\udcff", "中" * 1000]
)
def test_nothing_that_a_client_sends_ends_a_line_or_reaches_a_terminal(path: Path, text: str):
    with Log(opened(path)) as log:
        log.event("request", route=text, names=[text], more={text: text})
    written = path.read_bytes()
    assert written.count(b"\n") == 1 and written.isascii() and len(written) < 5000
    assert all(byte >= 0x20 for byte in written[:-1])


@given(
    st.text(max_size=300),
    st.dictionaries(st.text(max_size=30), st.text(max_size=300) | st.floats() | st.binary(max_size=9), max_size=5),
)
def test_whatever_is_logged_is_valid_json(name: str, fields: dict[str, object]):
    assert json.loads(json.dumps(redact({name: fields}), allow_nan=False)) is not None


def test_values_are_short():
    assert redact({"route": "x" * 1000, "items": list(range(1000))}) == {"route": "x" * 200, "items": list(range(20))}


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "X_API_KEY", "cookie", "prompt", "messages", "content"])
def test_keys_and_texts_of_users_are_withheld(name: str):
    assert "secret" not in json.dumps(redact({name: "secret", "headers": {name: "secret"}}))


def test_an_error_is_logged_by_its_type_and_place_without_its_text(path: Path):
    with Log(opened(path)) as log:
        try:
            raise ValueError("the prompt was: secret")
        except ValueError as error:
            log.failure("internal_error", error, route="/v1/completions")
    (line,) = lines(path)
    assert (line["level"], line["error"], line["route"]) == ("error", "ValueError", "/v1/completions")
    assert line["at"][0].startswith("test_log.py:")
    assert "secret" not in path.read_text()


def test_the_warnings_of_uvicorn_and_of_libraries_are_lines_too_but_no_access_log(path: Path):
    with Log(opened(path)):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP\r\nrequest")
        logging.getLogger("uvicorn.error").info("quiet")
        logging.getLogger("uvicorn.access").warning("GET /?key=secret")
        logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: secret")
    assert [(line["event"], line["message"]) for line in lines(path)] == [
        ("uvicorn.error", "Invalid HTTP"),
        ("asyncio", "Task exception was never retrieved"),
    ]


def test_a_pipe_that_nobody_reads_holds_up_nobody_and_what_was_lost_is_counted():
    reading, writing = os.pipe()
    with Log(writing, queue_lines=10) as log:
        for _ in range(3000):  # about 600 kB, and a pipe takes 64 KiB
            log.event("request", route="x" * 150)
        assert log.num_dropped > 1000
        lost = log.num_dropped
        content = b""
        while b"log_dropped" not in content:
            content += os.read(reading, 65536)
            log.event("request")
    os.close(writing)
    while part := os.read(reading, 65536):
        content += part
    os.close(reading)
    counted = [json.loads(line)["lines"] for line in content.splitlines() if b"log_dropped" in line]
    assert sum(counted) >= lost


def test_closing_a_log_that_nobody_reads_ends():
    reading, writing = os.pipe()
    with Log(writing, queue_lines=10) as log:
        for _ in range(1000):
            log.event("request", route="x" * 150)
    os.close(reading)


def test_a_log_that_broke_is_no_error_of_the_server():
    reading, writing = os.pipe()
    os.close(reading)
    with Log(writing) as log:
        log.event("request")
    assert log.num_dropped == 1


def test_each_line_is_handed_on_too_as_it_is_written(path: Path):
    handed: list[str] = []
    with Log(opened(path), on_line=handed.append) as log:
        log.event("request", route="a\nb", prompt="secret")
        logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert handed == path.read_text("ascii").splitlines() and len(handed) == 2
    assert "secret" not in handed[0]
