"""The parts of a run in their order, how long each may take, and the processes that measure them.

A part has what is left of the time, without the least that those behind it need; with too little left it is not begun.
Knows commands and seconds; knows no figures.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TESTS = ("tests/kernels/triton", "tests/runtime")
_ENDED = re.compile(r"(?P<test>tests/\S.*?) (?P<how>PASSED|FAILED|ERROR)\b")  # a line of pytest -v
_NONE_HERE = "ended with code 5"  # of pytest: no test of the file was chosen
_MOST_FAILURES = 20  # of tests that are named
_MARGIN_SECONDS = 4.0  # between the end that a worker is told and the one that it is given

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """`arguments`: of the worker, None for the tests of the kernels. `least_seconds`: without which it is not begun;
    an optional one has none of its own, and takes what is left over."""

    name: str
    arguments: tuple[str, ...] | None
    most_seconds: float
    least_seconds: float
    is_optional: bool = False


PARTS = (
    Part("environment", ("environment",), 45, 10),
    Part("kernels", None, 90, 15),
    Part("calibration", ("calibration",), 170, 15),
    Part("bf16", ("model", "--format", "bf16", "--mixed"), 150, 45),
    Part("fp8", ("model", "--format", "fp8"), 75, 30),
    Part("w4a16", ("model", "--format", "w4a16"), 75, 30),
    Part("greedy", ("greedy",), 70, 15),
    Part("batch-invariant", ("invariant",), 45, 20),
    Part("transformers", ("transformers",), 45, 20),
    Part("w8a16", ("model", "--format", "w8a16"), 75, 30, is_optional=True),
)


def seconds_for(parts: Sequence[Part], index: int, seconds_left: float) -> float | None:
    """Of the part at `index`; None if too little is left."""
    part = parts[index]
    kept = sum(later.least_seconds for later in parts[index + 1 :] if not later.is_optional)
    seconds = min(part.most_seconds, seconds_left - kept)
    return seconds if seconds >= part.least_seconds else None


def run_worker(
    part: Part, seconds: float, scratch: Path, device: str, on_row: Callable[[Row], None], *, is_quick: bool
) -> str | None:
    """Why it did not end by itself; each row is handed on as it comes."""
    assert part.arguments is not None
    told = max(1.0, seconds - _MARGIN_SECONDS)
    command = [
        *(sys.executable, str(HERE / "worker.py"), *part.arguments),
        *("--folder", str(scratch), "--seconds", f"{told:.1f}", "--device", device, *["--quick"] * is_quick),
    ]

    def take(line: str) -> None:
        if line.startswith("{"):
            on_row(json.loads(line))

    return _run(command, seconds, take)


def test_files() -> list[str]:
    """Of the kernels, with tests that need a GPU."""
    found = (path for folder in TESTS for path in sorted((ROOT / folder).glob("test_*.py")))
    return [path.relative_to(ROOT).as_posix() for path in found]


def run_tests(files: Sequence[str], seconds: float, on_line: Callable[[str], None]) -> str | None:
    """Each file in a process of its own, all at once: most of their time they compile. Why some did not end, or did not
    pass."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-v", "--tb=short"]
    with ThreadPoolExecutor(len(files)) as pool:
        whys = pool.map(lambda file: _run([*command, file], seconds, on_line), files)
        told = [f"{file} {why}" for file, why in zip(files, whys, strict=True) if why not in (None, _NONE_HERE)]
    return "; ".join(told) or None


def tests_row(lines: Sequence[str], why: str | None) -> Row:
    """Of what they printed, a line for each test: how many passed, and what failed."""
    ended = [found for line in lines if (found := _ENDED.match(line))]
    passed = sum(found["how"] == "PASSED" for found in ended)
    failures = [f"{found['how']} {found['test']}" for found in ended if found["how"] in ("FAILED", "ERROR")]
    counted = f"{passed} passed, {len(failures)} failed" if ended else "no test ran"
    row: Row = {"section": "kernel checks", "line": f"{counted}{f' ({why})' if why else ''}"}
    if len(failures) > _MOST_FAILURES:
        failures[_MOST_FAILURES:] = [f"and {len(failures) - _MOST_FAILURES} more"]
    return {**row, "failures": failures}


def _run(command: Sequence[str], seconds: float, on_line: Callable[[str], None]) -> str | None:
    source = [str(ROOT / "src")] if (ROOT / "src").is_dir() else []
    path = os.pathsep.join([*source, *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begin = time.monotonic()
    was_late = threading.Event()

    def end() -> None:
        was_late.set()
        _kill(child)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        assert child.stdout is not None
        for line in child.stdout:
            on_line(line.rstrip())
        code = child.wait()
    finally:
        timer.cancel()
        if child.poll() is None:
            _kill(child)
            child.wait()
    if was_late.is_set():
        return f"ended after {time.monotonic() - begin:.0f} s: time was short"
    return f"ended with code {code}" if code else None


def _kill(child: "subprocess.Popen[str]") -> None:
    """And what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
