"""The processes that hold the engines: started with their model, asked one at a time, ended. Knows no engine."""

import json
import subprocess
import tempfile
from pathlib import Path

import psutil

HERE = Path(__file__).parent
LOOK_SECONDS, MAX_LOOKS = 0.05, 20
IDLE_PERCENT = 25.0  # of all cores, below which none is at work
LAST_LINES = 400  # characters of a worker's own words, when it fails


class WorkerError(RuntimeError):
    """The engine could not load its model, could not do what was asked, or is gone."""


class Worker:
    """An engine in a process of its own, with its model loaded. What it says goes to a file of its own."""

    def __init__(self, python: str | Path, script: str, *arguments: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [python, HERE / script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            bufsize=1,
        )
        try:
            self._answer()
        except WorkerError:
            self.close()
            raise

    def seconds(self, command: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"it ended: {self._last_words()}"}
        if "error" in answer:
            raise WorkerError(answer["error"])
        return float(answer.get("seconds", 0.0))

    def _last_words(self) -> str:
        self._log.seek(0)
        return " ".join(self._log.read()[-LAST_LINES:].split())


def settle() -> bool:
    """Wait until the machine does nothing (some engines wait actively for the next task for a while after one). False
    if it goes on: something else runs here."""
    return any(psutil.cpu_percent(LOOK_SECONDS) < IDLE_PERCENT for _ in range(MAX_LOOKS))
