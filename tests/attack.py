"""The rule by which an attack on a server counts as withstood, and the canary stream that it watches.

An attack gets a clean 4xx within 2 s; the processes stay the same and grow by less than 64 MB, at their highest; the
next request of anyone else is answered; and between two tokens of a stream that runs beside it pass no more than 100 ms
and three of that stream's own median gaps, in the best of three runs. Run as a program, this file is the canary: a
client in a process of its own, so that what the attacker computes does not slow the clock.
"""

import itertools
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

MAX_SECONDS = 2.0
MAX_GROWTH_BYTES = 64 * 10**6
MAX_GAP_SECONDS = 0.1
NUM_RUNS = 3
CLIENT_ERRORS = frozenset(range(400, 500))
_PATIENCE_SECONDS = 20.0  # beyond the rule: then the test fails for want of an answer


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """Of an error, in OpenAI's or Anthropic's shape."""
        return str(self.json["error"]["message"])


class Target:
    """A server under attack; `key` is one that it takes."""

    def __init__(self, server: Any, key: str = "") -> None:
        self.server, self.key = server, key
        self.url: str = server.url
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=_PATIENCE_SECONDS, trust_env=False)
        self.canary = Canary(self.url, key)

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **(headers or {})}
        answer = self.client.post(path, content=content, headers=sent)
        return Reply(answer.status_code, answer.content, answer.headers)

    def complete(self, **fields: object) -> Reply:
        return self.post("/v1/completions", {"prompt": "Once", "max_tokens": 2, **fields})

    def chat(self, **fields: object) -> Reply:
        hello = [{"role": "user", "content": "Hello"}]
        return self.post("/v1/chat/completions", {"messages": hello, "max_tokens": 2, **fields})

    def raw(self, data: bytes, *, seconds: float = MAX_SECONDS + 1.0) -> Reply:
        """What comes back for these bytes, on a connection of their own."""
        return raw(self.url, data, seconds=seconds)

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.client.get("/farthing/status").json()
        return status

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.server.process.pid)
        return [parent, *parent.children(recursive=True)]

    def warm_up(self) -> None:
        """What is loaded once, on first use, is no growth."""
        assert self.complete(guided_regex="[a-z]+").status == 200
        assert self.chat(response_format={"type": "json_object"}).status == 200
        for _ in range(20):
            assert self.complete(prompt=" ".join(["fox"] * 200)).status == 200

    def withstands(
        self, attack: Callable[[], Reply], statuses: frozenset[int] = CLIENT_ERRORS, *, seconds: float = MAX_SECONDS
    ) -> Reply:
        """Its reply, if the rule holds; AssertionError if it does not. `attack` is carried out up to three times."""
        gaps = []
        for _ in range(NUM_RUNS):
            reply, gap, allowed = self._once(attack, statuses, seconds)
            gaps.append((gap, allowed))
            if gap <= allowed:
                return reply
        raise AssertionError(f"another stream waited (seconds, and what is allowed): {gaps}")

    def _once(
        self, attack: Callable[[], Reply], statuses: frozenset[int], seconds: float
    ) -> tuple[Reply, float, float]:
        before, engine = self.status(), self.server.process.pid
        peak = _Peak(self.processes())
        self.canary.await_token(time.monotonic())
        started = time.monotonic()
        reply = attack()
        ended = time.monotonic()
        growth = peak.growth(self.processes())
        self.canary.await_token(ended + 0.05)
        gap, allowed = self.canary.longest_gap(started, ended + 0.05)

        assert reply.status in statuses, (reply.status, reply.body[:500])
        if reply.status >= 400:
            assert reply.json["error"]["message"] and len(reply.body) < 4000, reply.body[:5000]
            assert b"Traceback" not in reply.body
        assert ended - started <= seconds, f"the answer took {ended - started:.2f} s"
        assert growth < MAX_GROWTH_BYTES, f"memory grew by {growth / 1e6:.0f} MB"
        assert self.client.get("/readyz").text == "ok"
        after = self.status()
        assert (after["engine_process_id"], after["num_restarts"]) == (before["engine_process_id"], 0)
        assert self.server.process.poll() is None and engine == self.server.process.pid
        assert self.complete().status == 200
        return reply, gap, allowed


@contextmanager
def under_attack(server: Any, key: str = "") -> Iterator[Target]:
    """The server, warm, with a canary that streams until the end."""
    target = Target(server, key)
    try:
        target.warm_up()
        target.canary.start()
        yield target
    finally:
        target.canary.stop()
        target.client.close()


class Canary:
    """A stream of tokens that never ends, read by another process."""

    def __init__(self, url: str, key: str) -> None:
        self._command = [sys.executable, str(Path(__file__)), url, key]
        self._process: subprocess.Popen[str] | None = None
        self._times: list[float | None] = []  # of tokens; None where one stream ends and the next begins
        self._news = threading.Condition()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.await_token(time.monotonic())

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def await_token(self, after: float) -> None:
        """Until a token came after this moment (of the monotonic clock)."""
        with self._news:
            came = self._news.wait_for(
                lambda: bool(self._times) and self._times[-1] is not None and self._times[-1] >= after,
                _PATIENCE_SECONDS,
            )
        assert came, "the canary's stream stands still"

    def longest_gap(self, since: float, until: float) -> tuple[float, float]:
        """The longest gap that touches these moments, and the longest that is allowed."""
        with self._news:
            times = list(self._times)
        pairs = [(a, b) for a, b in itertools.pairwise(times) if a is not None and b is not None]
        touching = [b - a for a, b in pairs if b >= since and a <= until]
        median = statistics.median(b - a for a, b in pairs[-500:])
        return max(touching), MAX_GAP_SECONDS + 3 * median

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._times.append(float(line) if line.strip() else None)
                self._news.notify_all()


class _Peak:
    """The most memory that processes had since now: on Linux the kernel keeps it, elsewhere it is what they have."""

    def __init__(self, processes: list[psutil.Process]) -> None:
        self._before = sum(process.memory_info().rss for process in processes)
        self._is_kept = True
        for process in processes:
            try:
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # forget the highest so far
            except OSError:
                self._is_kept = False

    def growth(self, processes: list[psutil.Process]) -> int:
        """Of all together; a process that is new counts whole, unless it took the place of one that ended."""
        return sum(map(self._highest, processes)) - self._before

    def _highest(self, process: psutil.Process) -> int:
        try:
            if self._is_kept:
                status = Path(f"/proc/{process.pid}/status").read_text()
                return int(status.partition("VmHWM:")[2].split()[0]) * 1024
            return int(process.memory_info().rss)
        except (OSError, IndexError, psutil.Error):  # it ended meanwhile
            return 0


def raw(url: str, data: bytes, *, seconds: float = MAX_SECONDS + 1.0) -> Reply:
    """Sends bytes as they are and reads one answer."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        with suppress(OSError):  # refused while it is still sending; the answer says why
            connection.sendall(data)
        received = b""
        while not _is_whole(received):
            part = connection.recv(65536)
            if not part:
                break
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Reply(int(first.split()[1]), body, headers)


def _is_whole(received: bytes) -> bool:
    head, end, body = received.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n") if end else ():
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.split(b":")[1])
    return False


def _sing(url: str, key: str) -> None:
    """Streams for ever; prints the moment of each token, and an empty line before each stream."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"prompt": "Once upon a time", "max_tokens": 8000, "ignore_eos": True, "stream": True}
    with httpx.Client(timeout=60, trust_env=False, headers=headers) as client:
        while True:
            with client.stream("POST", f"{url}/v1/completions", json=body) as answer:
                print(flush=True)
                for chunk in answer.iter_raw():
                    if b"data: {" in chunk:
                        print(f"{time.monotonic():.6f}", flush=True)
            if answer.status_code != 200:
                time.sleep(0.2)


if __name__ == "__main__":
    _sing(sys.argv[1], sys.argv[2])
