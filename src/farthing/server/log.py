"""The log: one JSON object a line, ASCII, to a file descriptor, in the order of events.

An event hands a line to a bounded queue, and a thread writes it: standard error that nobody reads can't hold up the
event loop. Lines that find the queue full are dropped and counted. Everything is escaped and short, so that nothing a
client sends can look like a line of the log. Keys and texts of users are withheld by the name of their field.
"""

import json
import logging
import math
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

MAX_VALUE_CHARACTERS = 200
MAX_ITEMS = 20
QUEUE_LINES = 10_000
_SECRETS = ("authorization", "proxy-authorization", "x-api-key", "api-key", "cookie", "set-cookie", "token")
_TEXTS = ("prompt", "messages", "content", "text", "input", "instructions", "system")
WITHHELD = frozenset((*_SECRETS, *_TEXTS))
_NEVER = logging.CRITICAL + 1
_RESERVED = frozenset(("time", "level", "event"))


class Log:
    """The server's log while it is open (`with Log() as log`). It also takes what uvicorn and other libraries warn of.

    uvicorn must be told so: `uvicorn.Config(log_config=None, access_log=False)`; its access log would hold queries.
    `on_line` is handed each line, without its end, by whoever logs; what is dropped too.
    """

    def __init__(
        self,
        descriptor: int = 2,
        *,
        level: int = logging.INFO,
        queue_lines: int = QUEUE_LINES,
        on_line: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._writer = _Writer(descriptor, queue_lines, on_line)
        self._logger = logging.Logger("farthing.server", level)
        self._logger.addHandler(self._writer)

    def __enter__(self) -> Self:
        for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access"):
            logger = logging.getLogger(name)
            logger.handlers[:] = [] if name else [self._writer]
            logger.setLevel(_NEVER if name == "uvicorn.access" else logging.WARNING)
            logger.propagate = True
        return self

    def __exit__(self, *error: object) -> None:
        logging.getLogger().removeHandler(self._writer)
        self._writer.finish()

    @property
    def num_dropped(self) -> int:
        """Lines that found the queue full or could not be written."""
        return self._writer.num_dropped

    def event(self, name: str, /, *, level: int = logging.INFO, **fields: object) -> None:
        """`log.event("request", route="/v1/models", status=200)`: what happened, and what to know of it."""
        self._logger.log(level, name, extra={"fields": fields})

    def failure(self, name: str, error: BaseException, /, **fields: object) -> None:
        """An error with its type and the places it came through, not with its text: that may quote a prompt."""
        self._logger.log(logging.ERROR, name, exc_info=error, extra={"fields": fields})


def redact(fields: Mapping[str, object]) -> dict[str, object]:
    """The fields as JSON values; those whose name says that they hold a secret or a text of a user without it."""
    return {name[:MAX_VALUE_CHARACTERS]: _value(name, value) for name, value in list(fields.items())[:MAX_ITEMS]}


class _Writer(logging.Handler):
    """The queue and its thread."""

    def __init__(self, descriptor: int, queue_lines: int, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self.num_dropped = 0
        self._on_line = on_line
        self._descriptor = descriptor
        self._lines: queue.Queue[bytes | None] = queue.Queue(queue_lines)
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        line = line_of(record)
        self._on_line(line.decode().rstrip())
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.num_dropped += 1

    def finish(self, seconds: float = 1.0) -> None:
        """Writes what waits, unless that takes too long."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=seconds)
        self._thread.join(seconds)

    def _write_all(self) -> None:
        reported = 0
        while (line := self._lines.get()) is not None:
            if (dropped := self.num_dropped) > reported:
                line = _encoded(time.time(), logging.WARNING, "log_dropped", {"lines": dropped - reported}) + line
                reported = dropped
            try:
                while line:  # not through sys.stderr: its lock would be held while this thread waits in a full pipe
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                self.num_dropped += 1


def line_of(record: logging.LogRecord) -> bytes:
    """Our events carry fields; of anyone else's message the first line is a field."""
    fields = getattr(record, "fields", None)
    name = record.getMessage() if isinstance(fields, dict) else record.name
    said = fields if isinstance(fields, dict) else {"message": "".join(record.getMessage().splitlines()[:1])}
    _, error, trace = record.exc_info or (None, None, None)
    if error is not None:
        said = {**said, "error": type(error).__name__, "at": _places(trace)}
    return _encoded(record.created, record.levelno, name, said)


def _encoded(created: float, level: int, name: str, fields: Mapping[str, object]) -> bytes:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created)) + f".{int(created % 1 * 1000):03d}Z"
    head = {"time": moment, "level": logging.getLevelName(level).lower(), "event": name[:MAX_VALUE_CHARACTERS]}
    rest = {key: value for key, value in redact(fields).items() if key not in _RESERVED}
    return json.dumps({**head, **rest}).encode() + b"\n"


def _places(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-MAX_ITEMS:]
    return [f"{os.path.basename(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]


def _value(name: str, value: object) -> object:
    if name.lower().replace("_", "-") in WITHHELD and value is not None:
        return "[withheld]"
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return redact({str(key): item for key, item in value.items()})
        case list() | tuple() | set() | frozenset():
            return [_value("", item) for item in list(value)[:MAX_ITEMS]]
    return str(value)[:MAX_VALUE_CHARACTERS]
