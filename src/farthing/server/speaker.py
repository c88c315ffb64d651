"""Lines for the person who started the server, spoken by a thread: a terminal that nobody reads can't hold it up."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

_LAST_SECONDS = 1.0  # for what is still to be said at the end


class Speaker:
    """`with Speaker(say) as speaker`: `speaker.say(line)` returns at once. Lines that can't be written are lost."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._speak, args=(say,), name="farthing-speaker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._lines.put(None)
        self._thread.join(_LAST_SECONDS)

    def say(self, line: str) -> None:
        self._lines.put(line)

    def _speak(self, say: Callable[[str], None]) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError):
                say(line)
