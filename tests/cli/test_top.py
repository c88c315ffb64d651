"""`farthing top`: how a snapshot is drawn, and what is said of a server that is there, goes, or was never there."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_process import serving

from farthing.cli.app import main
from farthing.cli.snapshot import Snapshot
from farthing.cli.top_view import draw, status_line

PHASE = {
    "steps": 90, "tokens": 90, "seconds": 0.4, "limit_seconds": 0.2, "forecast_seconds": 0.3,
    "tokens_per_second": 210.4, "share_of_limit": 0.42, "speed_to_forecast": 1.05,
}  # fmt: skip
LEDGER: dict[str, Any] = {
    "schema": "farthing.ledger/1",
    "time": 1764456000.0,
    "model": "bundled",
    "device": "cpu",
    "format": "bf16",
    "plan_line": "bundled · bf16 on a processor with a name that is long (2 cores) · expect 1,210 tok/s",
    "state": "ok",
    "stalled": False,
    "uptime_seconds": 11523.3,
    "num_restarts": 1,
    "price_dollars_per_hour": 0.12,
    "price_note": "0.12 $/h, as --price-per-hour says",
    "requests": {
        "running": 2, "waiting": 3, "queued": 0, "refused": 1, "ended": {"stop": 3, "length": 20, "failed": 4},
    },
    "kv": {
        "blocks": 512, "used_blocks": 40, "cached_blocks": 10, "block_size": 16, "usage_ratio": 0.08,
        "cache_hit_ratio": 0.3, "preemptions": 2,
    },
    "tokens": {"prompt": 100, "cached": 20, "output": 300},
    "window_seconds": 60,
    "recent": {"prefill": {**PHASE, "tokens_per_second": 3012.0, "speed_to_forecast": 0.72}, "decode": PHASE},
    "total": {"prefill": PHASE, "decode": PHASE},
    "rates": {"output_tokens_per_second": 12.3, "prompt_tokens_per_second": 30.0},
    "parts": {
        "weights": 12.2, "kv_cache": 1.1, "activations": 0.1, "compute": 2.2, "communication": 0, "launch": 8.5,
        "host": 3.3, "threads": 2.0, "throttled": 1.0, "idle": 29.6,
    },
    "waits": {"queueing": 0.0, "token_budget": 0.0, "kv_starvation": 0.0},
    "why_slow": [
        {
            "cause": "launch", "speeds": "answers", "share": 0.4, "gain": 1.7,
            "what": "launching kernels one by one", "remedy": "a larger model or batch hides it",
        },
        {
            "cause": "few_requests", "speeds": "throughput", "share": 0.9, "gain": 1.4,
            "what": "2.3 of 16 sequences run at a time, and nobody waits", "remedy": "more requests at a time",
        },
    ],
    "dollars": {"requests": 0.0012, "idle": 0.0104, "total": 0.0116, "per_million_output_tokens": 1.73},
    "latency": {
        name: {"p50": 0.0123, "p90": 0.122, "p99": 0.35}
        for name in ("ttft_seconds", "tpot_seconds", "itl_seconds", "request_seconds")
    },
    "history": [
        {
            "time": 1764455700.0 + 2 * number, "output_tokens_per_second": 2.0 * number, "share_of_limit": 0.4,
            "kv_usage_ratio": 0.1, "running": 2, "waiting": 0, "dollars": 0.01,
        }
        for number in range(150)
    ],
    "gpus": [
        {
            "index": 0, "is_lost": False, "name": "NVIDIA H200", "power_watts": 412.4, "power_limit_watts": 700.0,
            "temperature_celsius": 61.0, "used_bytes": 84 * 2**30, "total_bytes": 140 * 2**30,
            "throttle_reasons": ["power cap"],
        }
    ],
}  # fmt: skip


def drawn(ledger: Any, width: int = 80, height: int | None = None, note: str = "") -> list[str]:
    lines = draw(Snapshot(ledger), width=width, height=height, note=note).plain.split("\n")
    assert max(map(len, lines)) <= width and (height is None or len(lines) <= height)
    return lines


def line_with(lines: list[str], words: str) -> str:
    [line] = [line for line in lines if words in line]
    return line


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_answers_what_an_operator_asks(width: int) -> None:
    lines = drawn(LEDGER, width)
    assert lines[0].startswith("bundled · bf16") and lines[0].endswith("ok · up 3.2 h · 1 restart")
    assert lines[1].startswith("12.3 tokens/s · 2 running · 3 waiting · 1 refused · 23 answered")
    assert "4 failed" in "\n".join(lines)
    assert line_with(lines, "decode").split()[1::3] == ["210", "%"] and "105 %" in line_with(lines, "decode")
    assert "3,012" in line_with(lines, "prefill") and "72 %" in line_with(lines, "prefill")
    assert "640 of 8,192 tokens" in line_with(lines, "KV cache  ")
    assert line_with(lines, "first token").split() == ["first", "token", "12.3", "ms", "122", "ms", "350", "ms"]
    gpu = "GPU 0      NVIDIA H200 · throttled: power cap · 412 of 700 W · 61 °C · 84.00 GiB of 140.00 GiB"
    assert line_with(lines, "GPU 0") == (gpu if width >= len(gpu) else f"{gpu[: width - 1]}…")
    assert "where the time went, the last 60 s" in lines
    assert "idle 49 %" in "\n".join(lines) and "weights 20 %" in "\n".join(lines)
    assert "1.7x answers: launching kernels one by one, 40 %" in "\n".join(lines)
    assert "$0.12 an hour · $1.73 per million output tokens" in "\n".join(lines)
    assert "$0.0116 since the start: $0.0012 requests, $0.0104 idle" in "\n".join(lines)
    assert "the last 5 min" in line_with(lines, "output tokens/s") and re.search(r" up to 29\d$", lines[-1])


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_of_the_time_is_full_and_divided_by_the_parts(width: int) -> None:
    lines = drawn(LEDGER, width)
    bar = lines[lines.index(line_with(lines, "where the time went")) + 1]
    assert len(bar) == width
    assert bar.count("░") == pytest.approx(width * 29.6 / 60, abs=1)


def test_a_server_that_has_done_nothing_yet_is_drawn_without_figures() -> None:
    ledger = deepcopy(LEDGER)
    nothing = {**dict.fromkeys(PHASE, 0), **dict.fromkeys(["tokens_per_second", "share_of_limit"], None)}
    ledger.update(
        state="starting", recent={"prefill": nothing, "decode": nothing}, price_dollars_per_hour=None,
        price_note="no price per hour is known; say yours with --price-per-hour", dollars=None, why_slow=[], history=[],
        parts=dict.fromkeys(LEDGER["parts"], 0.0),
        latency=dict.fromkeys(LEDGER["latency"], dict.fromkeys(("p50", "p90", "p99"))),
    )  # fmt: skip
    lines = drawn(ledger)
    assert "starting" in lines[0] and "latency" not in "\n".join(lines) and "where the time" not in "\n".join(lines)
    assert "--price-per-hour" in "\n".join(lines)


def test_a_stalled_engine_is_told_whatever_its_state() -> None:
    assert "stalled" in drawn({**LEDGER, "stalled": True})[0]
    assert status_line(Snapshot({**LEDGER, "stalled": True})).startswith("stalled · ")


@pytest.mark.parametrize("height", [24, 12, 5, 1])
def test_a_low_terminal_gets_what_matters_most(height: int) -> None:
    lines = drawn(LEDGER, 80, height)
    assert lines[0].startswith("bundled")
    if height >= 12:
        assert any(line.startswith("decode") for line in lines) and any("$0.12" in line for line in lines)
    if height >= 24:
        assert any("launching kernels" in line for line in lines) and any("first token" in line for line in lines)


def test_one_line_says_the_same_for_a_pipe() -> None:
    assert status_line(Snapshot(LEDGER)) == (
        "ok · 12.3 tok/s · decode 42 % of the limit · 2 running · 3 waiting · KV 8.0 % · first token 12.3 ms · "
        "$1.73 per million tokens"
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from paths(inner, (*path, name))


SHORT = {**LEDGER, "history": LEDGER["history"][:3]}
PATHS = [path for path in paths(SHORT) if path]


@given(
    st.lists(st.tuples(st.sampled_from(PATHS), JSON_VALUES), max_size=8),
    st.sampled_from([20, 80, 120]),
    st.sampled_from([None, 1, 24]),
)
def test_whatever_a_server_says_can_be_drawn(
    changes: list[tuple[tuple[Any, ...], Any]], width: int, height: int | None
) -> None:
    ledger: Any = deepcopy(SHORT)
    for path, value in changes:
        place = ledger
        with contextlib.suppress(KeyError, IndexError, TypeError):
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = value
    text = draw(Snapshot(ledger), width=width, height=height)
    assert all(line.isprintable() for line in text.plain.split("\n"))
    assert all(line.cell_len <= width for line in text.split("\n", allow_blank=True))
    assert status_line(Snapshot(ledger)).isprintable()


@given(JSON_VALUES)
def test_an_answer_of_another_kind_is_an_empty_view(value: Any) -> None:
    assert "unknown" in draw(Snapshot(value), width=80).plain or isinstance(value, dict)


def test_a_server_cannot_steer_the_terminal() -> None:
    ledger = {**LEDGER, "plan_line": "\x1b]0;owned\x07\x1b[2J evil", "state": "ok\x1b[31m\nfake"}
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", draw(Snapshot(ledger), width=80).plain)


# --- the command


class Ledgers(ThreadingHTTPServer):
    """Answers as a server would: `status` and `content` for who has the key, if there is one."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.status, self.content, self.key = 200, json.dumps(LEDGER), ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Ledgers

    def do_GET(self) -> None:
        allowed = not self.server.key or self.headers["Authorization"] == f"Bearer {self.server.key}"
        status = 404 if self.path != "/farthing/ledger" else self.server.status if allowed else 401
        content = self.server.content.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Not a word."""


@contextlib.contextmanager
def running(port: int = 0) -> Iterator[Ledgers]:
    with Ledgers(port) as ledgers:
        threading.Thread(target=ledgers.serve_forever, args=(0.01,), daemon=True).start()
        yield ledgers
        ledgers.shutdown()


@pytest.fixture
def ledgers() -> Iterator[Ledgers]:
    with running() as ledgers:
        yield ledgers


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["top", *arguments])
    streams = capsys.readouterr()
    assert caught.value.code == code, streams.err
    return streams.out, streams.err


@contextlib.contextmanager
def top(*arguments: str, **streams: Any) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "farthing", "top", *arguments, "--interval", "0.1"]
    process = subprocess.Popen(command, **streams)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_one_look_is_the_whole_view_or_the_servers_own_json(
    ledgers: Ledgers, capsys: pytest.CaptureFixture[str]
) -> None:
    text, said = run(capsys, ledgers.url, "--once")
    assert text.startswith("bundled") and "since the start" in text and "\x1b" not in text and said == ""
    assert json.loads(run(capsys, ledgers.url, "--once", "--json")[0]) == LEDGER


def test_a_server_that_was_never_there_is_a_mistake_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for arguments in ([url], [url, "--once"], [url, "--once", "--json"]):
        text, said = run(capsys, *arguments, code=2)
        assert text == "" and url in said and "farthing serve" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (401, "{}", "--key-file FILE"),
        (404, "{}", "name a farthing serve of this version"),
        (200, "<html>", "name a farthing serve of this version"),
        (200, '{"schema": "farthing.ledger/2"}', "name a farthing serve of this version"),
        (503, "{}", "see its log"),
    ],
)
def test_what_is_no_ledger_is_said_with_what_to_do(
    ledgers: Ledgers, capsys: pytest.CaptureFixture[str], status: int, content: str, said: str
) -> None:
    ledgers.status, ledgers.content = status, content
    text, error = run(capsys, ledgers.url, "--once", code=2)
    assert text == "" and said in error and error.count("\n") == 1


def test_the_key_comes_from_a_file(ledgers: Ledgers, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ledgers.key = "0123456789abcdef"
    (tmp_path / "key").write_text("me:0123456789abcdef\n")
    run(capsys, ledgers.url, "--once", code=2)
    assert run(capsys, ledgers.url, "--once", "--key-file", str(tmp_path / "key"))[0].startswith("bundled")


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "1e9"])
def test_an_interval_that_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], interval: str) -> None:
    assert "--interval is" in run(capsys, "--interval", interval, code=2)[1]


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_pipe_gets_lines_and_a_server_that_went_is_waited_for(flags: tuple[str, ...]) -> None:
    with contextlib.ExitStack() as open_until_the_end:
        with running() as ledgers:
            watching = top(ledgers.url, *flags, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            process = open_until_the_end.enter_context(watching)
            assert process.stdout is not None and process.stderr is not None
            first = process.stdout.readline().decode()
        assert "trying again" in process.stderr.readline().decode()
        with running(ledgers.server_address[1]) as again:
            again.content = json.dumps({**LEDGER, "state": "draining"})
            while b"draining" not in process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        if flags:
            assert json.loads(first) == LEDGER
        else:
            assert re.fullmatch(r"\d\d:\d\d:\d\d  ok · 12\.3 tok/s · .+\n", first)


def test_a_terminal_is_given_back_as_it_was(ledgers: Ledgers) -> None:
    mine, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "30", "NO_COLOR": "1"}
    with top(ledgers.url, stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        screen = b""
        while b"since the start" not in screen:
            screen += os.read(mine, 65536)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(mine, 65536):
                screen += data
        assert process.wait(20) == 0
    os.close(mine)
    assert b"\x1b[?1049h" in screen and b"\x1b[?1049l" in screen.partition(b"\x1b[?1049h")[2]
    assert b"Traceback" not in screen and not re.search(rb"\x1b\[[0-9;]*3[1-7]m", screen)  # no colour


def test_a_real_server_is_watched(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        server.await_idle()
        text, _ = run(capsys, server.url, "--once")
        assert "tokens/s" in text and "ok · up" in text and "KV cache" in text
        document = json.loads(run(capsys, server.url, "--once", "--json")[0])
        assert document["schema"] == "farthing.ledger/1" and time.time() - document["time"] < 60


def test_a_card_in_a_narrow_slot_shows_its_lanes() -> None:
    narrow = {**LEDGER["gpus"][0], "link_width": 8, "link_width_max": 16}
    assert "PCIe x8 of x16" in line_with(drawn({**LEDGER, "gpus": [narrow]}, 200), "GPU 0")
    wide = {**narrow, "link_width": 16}
    assert "PCIe" not in line_with(drawn({**LEDGER, "gpus": [wide]}, 200), "GPU 0")
