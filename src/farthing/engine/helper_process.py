"""A process that does one risky thing for us: asked and answered in lines of JSON, killed when late, started again.

Its module has a `main()` that limits itself (memory, files, children), says {"ready"} and answers every line of stdin
with one on stdout; "worn": true in an answer asks for a new process. What it does is its own affair
(template_process.py, grammar_process.py), what a failure means that of whoever asks.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from farthing.errors import MissingExtraError

MAX_ANSWER_BYTES = 100 * 2**20
MAX_WAIT_SECONDS = 5.0  # for others, before a question of one's own
START_SECONDS = 30.0  # to start Python and load the module, on a machine that is busy with something else

_LOADER = "import sys; sys.path += sys.argv[2:]; from importlib import import_module; import_module(sys.argv[1]).main()"


class HelperError(Exception):
    """The helper gave no answer; the text says why, as what follows the name of what was asked."""


class HelperStartError(HelperError):
    """The helper does not even start."""


class HelperBusyError(HelperError):
    """Others have been asking it for too long."""


class HelperProcess:
    """One helper: started when needed, one question at a time; safe from several threads, which wait for each other
    for up to MAX_WAIT_SECONDS.

    `packages`: what it may import; `first`: a line that every new process gets, none if empty; `seconds`: time for an
    answer.
    """

    def __init__(self, module: str, *, packages: Sequence[str], seconds: float, first: bytes = b"") -> None:
        self._module = module
        self._packages = tuple(packages)
        self._seconds = seconds
        self._first = first
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, line: bytes) -> dict[str, Any]:
        """The answer, or that to the `first` line if it has an "error". HelperError if none comes in time."""
        if not self._lock.acquire(timeout=MAX_WAIT_SECONDS):
            raise HelperBusyError("is asked too much at the moment")
        try:
            process = self._process
            if process is None or process.poll() is not None:
                process = self._start()
                if self._first:
                    answer = self._ask(process, self._first, self._seconds)
                    if "error" in answer:
                        self._stop()
                        return answer
            return self._ask(process, line, self._seconds)
        finally:
            self._lock.release()

    def stop(self) -> None:
        """End the process. A later question starts a new one."""
        with self._lock:
            self._stop()

    def _start(self) -> subprocess.Popen[bytes]:
        self._stop()
        # A clean interpreter: no site packages but these, no environment (it may hold secrets), no inherited files,
        # a session of its own, so that Ctrl-C at the terminal does not reach it.
        inherited = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
        folders = _import_folders(self._packages)
        try:
            self._process = process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _LOADER, self._module, *folders],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                cwd="/", env=inherited, start_new_session=True,
            )  # fmt: skip
            self._ask(process, b"", START_SECONDS)
        except (OSError, HelperError) as error:
            raise HelperStartError(str(error)) from error
        return process

    def _ask(self, process: subprocess.Popen[bytes], line: bytes, seconds: float) -> dict[str, Any]:
        """Send a line (none if empty) and read one. A helper that is late or ends is killed and reported."""
        assert process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            if line:
                process.stdin.write(line + b"\n")
                process.stdin.flush()
            answered = process.stdout.readline(MAX_ANSWER_BYTES)
        except OSError:  # a broken pipe: it ended while it was being asked
            answered = b""
        except BaseException:  # interrupted: its answer must not be taken for that of the next question
            self._stop()
            raise
        finally:
            timer.cancel()
        if late.is_set() or not answered.endswith(b"\n"):
            self._stop()
            raise HelperError(
                f"took more than {seconds:g} s" if late.is_set() else "ended its process (memory or stack ran out)"
            )
        answer: dict[str, Any] = json.loads(answered)
        if answer.get("worn"):
            self._stop()
        return answer

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def printable(text: object) -> str:
    """What a helper says, fit for a line of ours."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _import_folders(packages: Sequence[str]) -> list[str]:
    """The folders that hold what the helper imports."""
    folders = []
    for package in packages:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise MissingExtraError(f"the package {package} is missing", fix="pip install 'farthing[serve]'")
        folders.append(str(Path(spec.origin).parents[1]))
    return list(dict.fromkeys(folders))
