"""Rows asked at a server: those that it answers by a script, and a real one that is killed, restarted, kept busy."""

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_rows import Script, completion_row, new_journal, read_rows, scripted, write_rows
from server_process import ServerProcess, serving

from farthing.client.batch import Batch, KeyRefusedError, Terms
from farthing.client.batch_file import Reading
from farthing.client.connection import Server
from farthing.client.presence import Presence, ServerAwayError

OK = (200, {}, b'{"id": "cmpl-1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}')
ERROR = b'{"error": {"message": "no", "type": "server_error", "code": "unavailable"}}'


async def run(url: str, source: Path, output: Path, **terms: Any) -> list[str]:
    """What was said. The output is written if every row is done."""
    said: list[str] = []
    asked = Terms(**{"concurrency": 4, "idle": True, **terms})
    server = Server.at(url)
    presence = Presence(server, away_seconds=asked.away_seconds, say=said.append)
    with new_journal(output, source) as journal:
        await Batch(server, iter(Reading(source)), journal, asked, presence).run()
        if not journal.tally.num_left:
            journal.write_output()
    return said


def run_scripted(
    script: Script, folder: Path, num_rows: int = 3, **terms: Any
) -> tuple[list[dict[str, Any]], list[Any]]:
    """The rows of the output, and what the server was asked."""
    source = write_rows(folder / "in.jsonl", map(completion_row, range(num_rows)))

    async def running() -> list[Any]:
        async with scripted(script) as (url, asked):
            await run(url, source, folder / "out.jsonl", **terms)
            return asked

    asked = asyncio.run(running())
    return read_rows(folder / "out.jsonl"), asked


def test_rows_are_asked_unstreamed_and_with_the_priority_that_disturbs_nobody(tmp_path: Path):
    source = write_rows(
        tmp_path / "in.jsonl", [completion_row(1, stream=True, stream_options={"include_usage": True}, priority=-5)]
    )

    async def asked_of(idle: bool) -> dict[str, Any]:
        async with scripted(lambda path, times: OK) as (url, asked):
            await run(url, source, tmp_path / f"out-{idle}.jsonl", idle=idle)
            return asked[0][1]

    body = completion_row(1)["body"]
    assert asyncio.run(asked_of(True)) == {**body, "priority": 1000}
    assert asyncio.run(asked_of(False)) == {**body, "priority": -5}


@pytest.mark.parametrize(
    "first",
    [
        (429, {"Retry-After": "1"}, ERROR),
        (503, {"Retry-After": "1"}, ERROR),
        (502, {}, b"<html>"),
        (500, {}, ERROR),
        (504, {}, ERROR),
        (429, {"Retry-After": "a while"}, ERROR),
        None,
    ],
)
def test_what_fails_by_chance_is_asked_again(tmp_path: Path, first: Any):
    rows, asked = run_scripted(lambda path, times: first if path != "/readyz" and times < 2 else OK, tmp_path)
    assert [row["error"] for row in rows] == [None] * 3 and len(asked) == 5


def test_the_time_that_a_server_asks_for_is_kept(tmp_path: Path):
    started = time.monotonic()
    run_scripted(lambda path, times: (429, {"Retry-After": "2"}, ERROR) if times == 0 else OK, tmp_path, num_rows=1)
    assert time.monotonic() - started > 1.9


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 501])
def test_what_a_row_itself_is_refused_for_is_its_answer_at_once(tmp_path: Path, status: int):
    rows, asked = run_scripted(lambda path, times: OK if path == "/readyz" else (status, {}, ERROR), tmp_path)
    assert {row["response"]["status_code"] for row in rows} == {status} and len(asked) == 3
    assert rows[0]["error"] == {"code": "unavailable", "message": "no"}


def test_a_row_that_fails_each_time_is_given_up_and_the_others_go_on(tmp_path: Path):
    rows, asked = run_scripted(lambda path, times: OK if path == "/readyz" else (500, {}, ERROR), tmp_path)
    assert {row["response"]["status_code"] for row in rows} == {500} and len(asked) == 9


def test_a_key_that_is_refused_ends_the_batch_and_not_its_rows(tmp_path: Path):
    with pytest.raises(KeyRefusedError, match="key"):
        run_scripted(lambda path, times: (401, {}, ERROR), tmp_path)
    with new_journal(tmp_path / "out.jsonl", tmp_path / "in.jsonl") as journal:
        assert journal.tally.num_done == 0


def test_no_more_rows_are_asked_at_a_time_than_is_said(tmp_path: Path):
    source = write_rows(tmp_path / "in.jsonl", map(completion_row, range(20)))
    most, now = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most, now
        is_row = b"POST" in await reader.readuntil(b"\r\n\r\n")
        now += is_row
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= is_row
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(OK[2]), OK[2]))
        writer.close()

    async def running() -> None:
        async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await run(f"http://127.0.0.1:{port}", source, tmp_path / "out.jsonl", concurrency=3)

    asyncio.run(running())
    assert most == 3 and len(read_rows(tmp_path / "out.jsonl")) == 20


def test_a_server_that_stays_away_is_given_up_and_the_journal_kept(tmp_path: Path):
    source = write_rows(tmp_path / "in.jsonl", map(completion_row, range(5)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServerAwayError, match="no server answers"):
        asyncio.run(run(url, source, tmp_path / "out.jsonl", away_seconds=1.0))
    with new_journal(tmp_path / "out.jsonl", source) as journal:
        assert journal.tally.num_left == 5


def test_an_engine_that_is_killed_is_waited_for_and_no_row_is_lost(tmp_path: Path):
    source = write_rows(tmp_path / "in.jsonl", (completion_row(number, max_tokens=60) for number in range(24)))

    async def running(server: ServerProcess) -> None:
        output = tmp_path / "out.jsonl"
        batch = asyncio.create_task(run(server.url, source, output, concurrency=8))
        part = output.with_name("out.jsonl.part")
        while not part.exists() or part.read_bytes().count(b"\n") < 5:
            await asyncio.sleep(0.01)
        os.kill(server.engine_pid(), signal.SIGKILL)
        await batch

    with serving() as server:
        asyncio.run(running(server))
        server.await_idle()
        ended = Counter(event["outcome"] for event in server.events("request"))
    rows = read_rows(tmp_path / "out.jsonl")
    assert Counter(row["error"] is None for row in rows) == {True: 24}
    assert ended["stop"] == 24 and ended["failed"] >= 1, ended


def test_a_server_that_is_started_anew_is_gone_on_with(tmp_path: Path):
    source = write_rows(tmp_path / "in.jsonl", (completion_row(number, max_tokens=60) for number in range(24)))
    output = tmp_path / "out.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def running() -> list[str]:
        batch = asyncio.create_task(run(f"http://127.0.0.1:{port}", source, output, concurrency=8))
        part = output.with_name("out.jsonl.part")
        while not part.exists() or part.read_bytes().count(b"\n") < 5:
            await asyncio.sleep(0.01)
        first.process.kill()
        first.process.wait()
        await asyncio.to_thread(begin_second)
        return await batch

    def begin_second() -> None:
        second = serving(port=port)
        servers.append(second)
        second.__enter__()

    servers: list[Any] = []
    try:
        with serving(port=port) as first:
            said = asyncio.run(running())
    finally:
        for second in servers:
            second.__exit__(None, None, None)
    assert [row["error"] for row in read_rows(output)] == [None] * 24
    assert "waiting for the server" in said[0] and said[-1] == "the server is back"


def test_nothing_runs_past_the_time_that_is_set_and_the_rest_is_left(tmp_path: Path):
    rows = (completion_row(number, max_tokens=30, ignore_eos=True) for number in range(4000))
    source = write_rows(tmp_path / "in.jsonl", rows)
    with serving() as server:
        until = time.time() + 4.0
        asyncio.run(run(server.url, source, tmp_path / "out.jsonl", concurrency=4, until=until))
        assert until - 4.0 < time.time() < until + 2.0
        server.await_idle()
        ended = Counter(event["outcome"] for event in server.events("request"))
    with new_journal(tmp_path / "out.jsonl", source) as journal:
        assert 0 < journal.tally.num_done < 4000
        assert journal.tally.num_done <= ended["stop"] <= journal.tally.num_done + 4


def test_a_time_that_is_over_asks_nothing(tmp_path: Path):
    source = write_rows(tmp_path / "in.jsonl", [completion_row(1)])

    async def asked() -> list[Any]:
        async with scripted(lambda path, times: OK) as (url, asked):
            await run(url, source, tmp_path / "out.jsonl", until=time.time() - 1)
            return asked

    asyncio.run(asked())
    with new_journal(tmp_path / "out.jsonl", source) as journal:
        assert journal.tally.num_left == 1


def test_all_four_apis_answer_and_say_the_same_again(tmp_path: Path):
    urls = {
        "/v1/completions": {"prompt": "Once", "max_tokens": 8},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8},
        "/v1/responses": {"input": "Hi", "max_output_tokens": 8},
        "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 8},
    }
    rows = [
        {"custom_id": url, "method": "POST", "url": url, "body": {**body, "temperature": 0, "stream": True}}
        for url, body in urls.items()
    ]
    source = write_rows(tmp_path / "in.jsonl", rows)
    with serving(engine={"batch_invariant": True}) as server:
        for name in ("first", "second"):
            asyncio.run(run(server.url, source, tmp_path / name))
    answers = read_rows(tmp_path / "first")
    assert [row["response"]["status_code"] for row in answers] == [200] * 4, answers
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()
