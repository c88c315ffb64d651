"""Files of requests for tests of the batch, what became of them, and servers that answer by a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from farthing.client.batch_file import Reading
from farthing.client.batch_journal import Head, Journal

JSON = dict[str, Any]
# Of a request's path and the times that this path was asked before: status, headers, body; None hangs up.
Script = Callable[[str, int], tuple[int, dict[str, str], bytes] | None]


def completion_row(number: int | str, **fields: Any) -> JSON:
    """A greedy completion of 16 tokens, with `fields` of its body."""
    body = {"prompt": f"Once upon a time there were {number} cats", "temperature": 0, "max_tokens": 16, **fields}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/completions", "body": body}


def write_rows(path: Path, rows: Iterable[JSON | str]) -> Path:
    """A text is a line as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read_rows(path: Path) -> list[JSON]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def new_journal(output: Path, source: Path) -> Journal:
    """A journal of all rows of `source`, begun or gone on with; close it."""
    journal = Journal(output)
    reading = Reading(source)
    journal.tally.num_rows = sum(1 for _ in reading)
    if journal.head is None:
        journal.begin(Head(reading.whole_sha256(), source.stat().st_size, 1700000000, "bundled"))
    return journal


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[str, list[tuple[str, JSON]]]]:
    """A server's URL, and what it was asked: paths and bodies. /readyz is asked often and not noted."""
    asked: list[tuple[str, JSON]] = []
    times: dict[str, int] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = head.split()[1]
        length = next(
            (int(line.split(":")[1]) for line in head.split("\r\n") if "ontent-" in line[:16] and "ength" in line), 0
        )
        content = await reader.readexactly(length)
        if path != "/readyz":
            asked.append((path, json.loads(content or b"{}")))
        answer = script(path, times.get(path, 0))
        times[path] = times.get(path, 0) + 1
        if answer is not None:
            status, headers, body = answer
            lines = [
                f"HTTP/1.1 {status} Said",
                f"Content-Length: {len(body)}",
                *(f"{k}: {v}" for k, v in headers.items()),
            ]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
