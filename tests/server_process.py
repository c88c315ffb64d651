"""A real `farthing serve` in a process of its own, for tests; and engines that misbehave (tests/engines/).

`with serving(...) as server:` gives a ServerProcess with `url` and `model`; what it wrote is in `server.output()`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

import farthing

BUNDLED = Path(farthing.__file__).parent / "models" / "bundled"
ENGINES = Path(__file__).parent / "engines"
START_SECONDS = 60.0
_LAUNCHER = """
import json, sys
from pathlib import Path
from farthing.engine.config import EngineConfig
from farthing.errors import FarthingError
from farthing.server.config import ServerConfig
from farthing.server.serve import serve
model, engine, server, command = json.loads(sys.argv[1])
server["api_keys"] = Path(server["api_keys"]) if "api_keys" in server else None
say = lambda line: print(line, file=sys.stderr, flush=True)
try:
    sys.exit(serve(model, EngineConfig(**engine), ServerConfig(**server), say, command=command))
except FarthingError as error:
    say(f"farthing: {error}")
    sys.exit(2)
"""


class ServerProcess:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.url = self.model = ""
        self._lines: list[str] = []
        self._announced = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def await_announcement(self) -> None:
        assert self._announced.wait(START_SECONDS) and self.url, self.output()

    def output(self) -> str:
        return "\n".join(self._lines)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Of the log, those of this name."""
        logged = [json.loads(line) for line in list(self._lines) if line.startswith("{")]
        return [event for event in logged if event.get("event") == name]

    def status(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/farthing/status", timeout=10).json()

    def await_idle(self, seconds: float = 20.0) -> dict[str, Any]:
        """The status, once nothing runs or waits any more and every block is free to be taken."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            engine = status["engine"]
            idle = status["num_active_requests"] == status["num_open_requests"] == engine["num_running"] == 0
            if idle and engine["num_waiting"] == 0 and engine["num_available_blocks"] == engine["num_blocks"]:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.05)

    def engine_pid(self) -> int:
        return int(self.status()["engine_process_id"])

    def end(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip()
            self._lines.append(text)
            if text.startswith("serving "):
                words = text.split()
                self.model, self.url = words[1], words[3]
                self._announced.set()
        self._announced.set()


SLOW = {"batch_invariant": True, "format": "fp16"}
"""An engine for what must take a while: there are no compiled kernels for this format."""


@contextmanager
def serving(
    model: str | Path = "bundled",
    *,
    engine: dict[str, Any] | None = None,
    script: str | None = None,
    arguments: Sequence[str] = (),
    wait: bool = True,
    environment: dict[str, str] | None = None,
    **server: Any,
) -> Iterator[ServerProcess]:
    """`engine` and `server` are fields of EngineConfig and ServerConfig; `script` names a file of tests/engines, which
    gets the `arguments`."""
    command = [sys.executable, "-m", "farthing.engine.process.engine_process"]
    if script is not None:
        command = [sys.executable, str(ENGINES / script), *arguments]
    options = json.dumps([str(model), {"threads": 1, **(engine or {})}, {"port": 0, "bill": False, **server}, command])
    process = subprocess.Popen(
        [sys.executable, "-c", _LAUNCHER, options],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    running = ServerProcess(process)
    try:
        if wait:
            running.await_announcement()
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)


def long_model(folder: Path, positions: int = 8192) -> Path:
    """The bundled model with room for long conversations; it says little of sense there, and that is enough."""
    copy = folder / "bundled-long"
    shutil.copytree(BUNDLED, copy, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    return copy
