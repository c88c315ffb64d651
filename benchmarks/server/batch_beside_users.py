"""What a batch beside them costs the users of a server: time per output token of live streams without and with it.

    python benchmarks/server/batch_beside_users.py [PAGE.md] [--model bundled] [--seconds 20] [--rounds 3]

One run on one machine: windows without and with `farthing batch --server` take turns (ABAB), in which 8 streams of 200
greedy tokens follow each other without a pause; at the end, a window of the batch alone. Streams are read by a process
of its own over raw sockets; it, the batch, the server and the engine share the cores of the machine. The rows that a
batch got through are the lines that its journal grew by.
"""

import argparse
import json
import os
import platform
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from server_process import serving  # noqa: E402

NUM_STREAMS, NUM_TOKENS = 8, 200
NUM_ROWS, ROW_TOKENS = 50_000, 64
HANG_SECONDS = 60.0
LIMIT = 1.15


@dataclass(slots=True)
class Stream:
    """One live user: its connection now, and when the tokens of its answer came."""

    index: int
    connection: socket.socket
    arrivals: list[float] = field(default_factory=list)
    rest: bytes = b""


def open_stream(host: str, port: int, index: int, turn: int) -> Stream:
    prompt = f"Once upon a time, user {index} asked for story {turn}"
    body = json.dumps({"prompt": prompt, "max_tokens": NUM_TOKENS, "ignore_eos": True, "stream": True,
                       "temperature": 0}).encode()  # fmt: skip
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    connection = socket.create_connection((host, port))
    connection.sendall(head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body)
    return Stream(index, connection)


def live_users(url: str, seconds: float) -> dict[str, Any]:
    """Streams back to back; those that have begun within `seconds` are read to their end. Seconds a token, of each."""
    host, port = url.removeprefix("http://").split(":")
    selector, tpots, turn = selectors.DefaultSelector(), [], 0

    def begin(index: int) -> None:
        stream = open_stream(host, int(port), index, turn)
        selector.register(stream.connection, selectors.EVENT_READ, stream)

    started = time.monotonic()
    for index in range(NUM_STREAMS):
        begin(index)
    while selector.get_map():
        for key, _ in selector.select(HANG_SECONDS):
            stream: Stream = key.data
            data = stream.connection.recv(65536)
            assert data, "a stream was cut"
            stream.arrivals += [time.monotonic()] * (stream.rest[-6:] + data).count(b"data: {")
            stream.rest = (stream.rest + data)[-64:]
            if b"[DONE]" in stream.rest:
                selector.unregister(stream.connection)
                stream.connection.close()
                tpots.append((stream.arrivals[-1] - stream.arrivals[0]) / (NUM_TOKENS - 1))
                turn += 1
                if time.monotonic() - started < seconds:
                    begin(stream.index)
    return {"tpots": tpots, "seconds": time.monotonic() - started}


def window_of_users(url: str, seconds: float) -> dict[str, Any]:
    """`live_users` in a process of its own."""
    command = [sys.executable, __file__, "--users", url, str(seconds)]
    figures: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures


def write_rows(path: Path) -> None:
    with open(path, "w") as file:
        for number in range(NUM_ROWS):
            body = {"prompt": f"Row {number} of the night begins:", "max_tokens": ROW_TOKENS, "ignore_eos": True,
                    "temperature": 0}  # fmt: skip
            row = {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": body}
            file.write(json.dumps(row) + "\n")


def num_done(folder: Path) -> int:
    journal = folder / "out.jsonl.part"
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


@contextmanager
def batch_running(url: str, folder: Path) -> Iterator[None]:
    """`farthing batch` going on with its rows, from its first one on; interrupted at the end."""
    command = [sys.executable, "-m", "farthing", "batch", "in.jsonl", "-o", "out.jsonl", "--server", url]
    before = num_done(folder)
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + HANG_SECONDS
        while num_done(folder) == before:
            assert process.poll() is None and time.monotonic() < deadline, "the batch did not begin"
            time.sleep(0.05)
        yield
        assert process.poll() is None, "the batch ended within the window: more rows are needed"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(HANG_SECONDS)


def measure(model: str, seconds: float, rounds: int, threads: int) -> dict[str, Any]:
    """Windows in turn; medians of their medians, and rows of the batch per second beside users and at rest."""
    without: list[float] = []
    beside: list[float] = []
    rows_beside, seconds_beside = 0, 0.0
    with tempfile.TemporaryDirectory() as temporary, serving(model, engine={"threads": threads}) as server:
        folder = Path(temporary)
        write_rows(folder / "in.jsonl")
        window_of_users(server.url, 0.1)  # a first window warms everything up
        for _ in range(rounds):
            without.append(statistics.median(window_of_users(server.url, seconds)["tpots"]))
            with batch_running(server.url, folder):
                before = num_done(folder)
                seen = window_of_users(server.url, seconds)
                rows_beside += num_done(folder) - before
            seconds_beside += seen["seconds"]
            beside.append(statistics.median(seen["tpots"]))
        with batch_running(server.url, folder):
            before, started = num_done(folder), time.monotonic()
            time.sleep(seconds)
            rows_at_rest, seconds_at_rest = num_done(folder) - before, time.monotonic() - started
    return {
        "without_ms": 1e3 * statistics.median(without),
        "beside_ms": 1e3 * statistics.median(beside),
        "ratio": statistics.median(b / a for a, b in zip(without, beside, strict=True)),
        "ratios": [b / a for a, b in zip(without, beside, strict=True)],
        "rows_beside": rows_beside / seconds_beside,
        "rows_at_rest": rows_at_rest / seconds_at_rest,
    }


def page(model: str, figures: dict[str, Any], arguments: argparse.Namespace) -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    rows = (
        ("time per output token without the batch, median ms", "", f"{figures['without_ms']:.2f}"),
        ("time per output token with the batch, median ms", "", f"{figures['beside_ms']:.2f}"),
        ("with / without, median of the pairs", f"{LIMIT}", f"**{figures['ratio']:.3f}**"),
        ("with / without, every pair", "", ", ".join(f"{ratio:.3f}" for ratio in figures["ratios"])),
        ("rows of the batch per second beside the users", "", f"{figures['rows_beside']:.2f}"),
        ("rows of the batch per second at rest", "", f"{figures['rows_at_rest']:.1f}"),
    )
    lines = [
        "# A batch beside the users of a server",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · {platform.machine()}, {os.cpu_count()} cores · "
        f"Python {platform.python_version()}",
        "",
        f"Command: `python benchmarks/server/batch_beside_users.py PAGE.md --model {model} --seconds "
        f"{arguments.seconds:g} --rounds {arguments.rounds} --threads {arguments.threads}`. {NUM_STREAMS} live streams "
        f"of {NUM_TOKENS} greedy tokens, one after another without a pause, without and with `farthing batch --server` "
        f"(rows of {ROW_TOKENS} tokens, priority idle) in turn; a pair is two windows of {arguments.seconds:g} s that "
        "follow each other. Client, batch, server and engine share the cores. At rest is the batch alone.",
        "",
        f"| | limit | {model} |",
        "|---|---|---|",
        *(f"| {name} | {limit} | {value} |" for name, limit, value in rows),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--users", nargs=2, metavar=("URL", "SECONDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.users:
        url, seconds = arguments.users
        print(json.dumps(live_users(url, float(seconds))))
        return
    text = page(
        arguments.model, measure(arguments.model, arguments.seconds, arguments.rounds, arguments.threads), arguments
    )
    print(text)
    if arguments.page is not None:
        arguments.page.write_text(text)


if __name__ == "__main__":
    main()
