"""The last moments of an engine that was lost, as a file: what ran, how it ended, the last steps, events and log lines.

The API process fills a FlightRecorder as it goes and writes it on a crash, a stall or the end of the restarts. There
are no prompts, answers or keys in it: nothing is kept that was not handed in, and the log withholds them. Whoever reads
(`farthing doctor --last`) trusts no file. Knows neither HTTP nor the engine; what to do about it is remedy.py's.
"""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import platformdirs

from farthing import __version__

SCHEMA = "farthing.incident/1"
KINDS = ("crash", "stall", "failed")  # failed: no other engine is started
NUM_KEPT = 256  # steps, events, lines
NUM_FILES = 20
_MAX_FILE_BYTES = 16 * 2**20
_MAX_CHARACTERS = 2000  # of one text


def incident_folder() -> Path:
    """`incidents` in the user's data folder."""
    return Path(platformdirs.user_data_dir("farthing")) / "incidents"


@dataclass(frozen=True, slots=True)
class Incident:
    """One loss, as its file tells. `exit_code` of an engine that ended by itself, below zero it is a signal; None of
    one that was given up. `steps`: as `to_dict` gave them, oldest first. Texts hold nothing that a terminal obeys."""

    path: Path
    kind: str
    reason: str
    exit_code: int | None
    time: datetime
    version: str
    model: str
    plan_line: str
    device: str
    uptime_seconds: float
    num_restarts: int
    stall_seconds: float | None
    status: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    log: tuple[str, ...]


class FlightRecorder:
    """Bounded rings of what happened last. `to_dict` makes JSON values of a step, when it is written and not before.
    Every method may be called from the event loop; `line` from any thread."""

    def __init__(self, to_dict: Callable[[Any], Mapping[str, object]], *, folder: Path | None = None) -> None:
        self.problem: str | None = None
        self._to_dict, self._folder = to_dict, folder
        self._steps: deque[object] = deque(maxlen=NUM_KEPT)
        self._events: deque[dict[str, object]] = deque(maxlen=NUM_KEPT)
        self._lines: deque[str] = deque(maxlen=NUM_KEPT)

    def step(self, record: object) -> None:
        self._steps.append(record)

    def event(self, name: str, fields: Mapping[str, object]) -> None:
        self._events.append({**fields, "time": time.time(), "event": name})

    def line(self, line: str) -> None:
        """A line of the log, without its end."""
        self._lines.append(line[:_MAX_CHARACTERS])

    def write(self, *, kind: str, reason: str, exit_code: int | None, about: Mapping[str, object]) -> Path | None:
        """The file, written whole or not at all; None, and why in `problem`, if that can't be done.

        `about`: model, plan_line, device, uptime_seconds, num_restarts, stall_seconds and status, as far as known.
        """
        now = datetime.now(UTC)
        head = {"schema": SCHEMA, "time": now.isoformat(timespec="milliseconds"), "version": __version__}
        try:
            content = _plain(
                {
                    **head,
                    "kind": kind,
                    "reason": reason,
                    "exit_code": exit_code,
                    **{name: value for name, value in about.items() if name not in head},
                    "steps": [self._to_dict(step) for step in self._steps],
                    "events": list(self._events),
                    "log": list(self._lines),
                }
            )
            name = f"{now:%Y-%m-%dT%H-%M-%S.%f}-{kind}-{os.getpid()}.json"
            path = (self._folder or incident_folder()) / name
            _incident(path, content)  # what could not be read again is not written
            return _save(path, json.dumps(content).encode())
        except Exception as error:  # the server has just lost its engine: this must not take it too
            self.problem = f"the incident can't be written: {error}"
            return None


def incidents(folder: Path | None = None) -> tuple[list[Incident], list[Path]]:
    """Those that can be read, newest first, and the files that are damaged."""
    found, damaged = [], []
    for path in reversed(_files(folder or incident_folder())):
        try:
            found.append(_read(path))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            damaged.append(path)
    return found, damaged


def last_incident(folder: Path | None = None) -> Incident | None:
    """The newest that can be read."""
    found, _ = incidents(folder)
    return found[0] if found else None


def _files(folder: Path) -> list[Path]:
    """Sorted by time, which their names begin with."""
    return sorted(folder.glob("2*-*.json")) if folder.is_dir() else []


def _save(path: Path, content: bytes) -> Path:
    """Only its owner may read it; a reader sees all of it or nothing."""
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = folder / f".{path.name}.tmp"
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    for old in _files(folder)[:-NUM_FILES]:
        with suppress(OSError):  # another server may have been quicker
            old.unlink()
    return path


def _read(path: Path) -> Incident:
    with path.open("rb") as file:
        text = file.read(_MAX_FILE_BYTES + 1)
    if len(text) > _MAX_FILE_BYTES:
        raise ValueError("too large")
    return _incident(path, json.loads(text, parse_constant=_refuse))


def _incident(path: Path, content: object) -> Incident:
    """Of a document. ValueError, KeyError or TypeError if it is none."""
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or content.get("kind") not in KINDS:
        raise ValueError("not an incident")
    exit_code, stall_seconds = content.get("exit_code"), content.get("stall_seconds")
    return Incident(
        path=path,
        kind=content["kind"],
        reason=_text(content["reason"]),
        exit_code=None if exit_code is None else int(_number(exit_code)),
        time=datetime.fromisoformat(content["time"]).astimezone(UTC),
        version=_text(content["version"]),
        model=_text(content.get("model", "")),
        plan_line=_text(content.get("plan_line", "")),
        device=_text(content.get("device", "")),
        uptime_seconds=_number(content.get("uptime_seconds", 0)),
        num_restarts=int(_number(content.get("num_restarts", 0))),
        stall_seconds=None if stall_seconds is None else _number(stall_seconds),
        status=_plain(_table(content.get("status", {}))),
        steps=tuple(_plain(_table(step)) for step in _rows(content.get("steps", ()))),
        events=tuple(_plain(_table(event)) for event in _rows(content.get("events", ()))),
        log=tuple(_text(line) for line in _rows(content.get("log", ()))),
    )


def _plain(value: Any) -> Any:
    """JSON values and nothing else: texts short and printable, figures finite, whatever else its text."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {_printable(str(key)): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
    return _printable(str(value))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:_MAX_CHARACTERS])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r:.40}")
    return _printable(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"not a number: {value!r:.40}")
    return value


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"not an object: {value!r:.40}")
    return value


def _rows(value: object) -> Iterable[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"not a list: {value!r:.40}")
    return value[-NUM_KEPT:]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no figure")
