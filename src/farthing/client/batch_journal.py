"""What of a batch is done: a journal beside the output, one line a row, that outlives every way for a process to end.

    {"schema": "farthing.batch-journal/1", "input": {...}, ...}     the head: what the rows are answers to
    1a2b3c4d<tab>index<tab>facts<tab>row of the output              CRC-32 of what follows the first tab

A line is written by one call as soon as its row is done, and forced to the disk with others. A line that is torn or
damaged ends the journal: it and what follows are cut off when it is opened, and those rows asked anew. The output is
written at the end in the order of the input, from the places of the lines, and takes its name in one step. The
process that works on it holds a lock. Knows no server.
"""

import errno
import fcntl
import json
import os
import zlib
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from farthing.client.batch_result import Facts, Result
from farthing.client.batch_tally import Tally
from farthing.errors import FarthingError, UsageError

SCHEMA = "farthing.batch-journal/1"
_ABSENT = -1


class JournalError(FarthingError):
    """What was computed can't be kept: the disk is full, or is gone. What is in the journal stays there."""


@dataclass(frozen=True, slots=True)
class Head:
    """What the rows are answers to. `created`: the time that all answers bear, in seconds."""

    sha256: str
    num_bytes: int
    created: int
    model: str
    options: dict[str, Any] = field(default_factory=dict)

    def difference(self, other: "Head") -> str | None:
        """In what, for people, the other batch is another one; None if it is the same."""
        if (self.sha256, self.num_bytes) != (other.sha256, other.num_bytes):
            return "another input file"
        if self.model != other.model:
            return f"the model {self.model}, not {other.model}"
        if self.options != other.options:
            return f"a batch {_flags(self.options)}, not {_flags(other.options)}"
        return None

    def to_json(self) -> bytes:
        return json.dumps({"schema": SCHEMA, **asdict(self)}).encode() + b"\n"

    @classmethod
    def from_json(cls, line: bytes) -> "Head":
        """ValueError for what is no head."""
        try:
            value = json.loads(line)
            assert value.pop("schema") == SCHEMA
            return cls(**value)
        except (AttributeError, KeyError, TypeError, AssertionError, RecursionError) as error:
            raise ValueError("no head of a journal") from error


class Journal:
    """That of an output file, locked while it is open. UsageError if another process has it, or can't be written.

    `head` is None where nothing was begun. `tally` counts what is done; its `num_rows` is the caller's to set.
    """

    def __init__(self, output: Path, *, restart: bool = False) -> None:
        self.output = _resolved(output)
        self.path = self.output.with_name(self.output.name + ".part")
        self.head: Head | None = None
        self.tally = Tally()
        self._places = array("q")
        self._descriptor = _open_locked(self.path)
        self._end = self._num_synced = 0
        try:
            if not restart:
                self._read()
            os.ftruncate(self._descriptor, self._end)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Keeps what there is; of a batch that has done nothing, nothing."""
        if self._descriptor < 0:
            return
        try:
            if not self.tally.num_done:
                os.unlink(self.path)
            else:
                self.sync()
        except JournalError:
            if error is None:
                raise
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_done(self, index: int) -> bool:
        return index < len(self._places) and self._places[index] != _ABSENT

    def begin(self, head: Head) -> None:
        """Anew: of a journal in which nothing is done."""
        assert not self.tally.num_done
        os.ftruncate(self._descriptor, 0)
        self._end = self._num_synced = 0
        self._write(head.to_json())
        self.head = head
        self.sync()

    def append(self, index: int, result: Result) -> None:
        """A row is done: known to whoever opens the journal next, whatever happens to this process."""
        assert not self.is_done(index), index
        rest = b"%d\t%b\t%b\n" % (index, result.facts.to_json(), result.line)
        place = self._end
        self._write(b"%08x\t%b" % (zlib.crc32(rest), rest))
        self._note(index, place, result.facts)

    def sync(self) -> None:
        """What was appended outlives the machine, too. May be called by another thread."""
        end = self._end
        if end != self._num_synced:
            with _telling(self.path):
                os.fsync(self._descriptor)
            self._num_synced = end

    def write_output(self) -> None:
        """All rows, in the order of the input, under the name of the output; the journal is gone then."""
        assert self.tally.num_left == 0
        self.sync()
        whole = self.output.with_name(self.output.name + ".tmp")
        with _telling(self.output):
            with open(self._descriptor, "rb", closefd=False) as journal, open(whole, "wb") as file:
                for place in self._places:
                    journal.seek(place)
                    file.write(journal.readline().split(b"\t", 3)[3])
                file.flush()
                os.fsync(file.fileno())
            os.replace(whole, self.output)
            _sync_folder(self.output.parent)
            os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = -1

    def _write(self, line: bytes) -> None:
        with _telling(self.path):
            written = os.pwrite(self._descriptor, line, self._end)
            if written != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._end += len(line)

    def _read(self) -> None:
        """What an earlier process has left; `_end` is behind the last line that is whole."""
        with open(self._descriptor, "rb", closefd=False) as file:
            first = file.readline()
            if first.endswith(b"\n"):
                try:
                    self.head = Head.from_json(first)
                except ValueError:
                    raise UsageError(
                        f"{self.path} is no journal of a batch of this version",
                        fix="move it away, or begin anew: --restart",
                    ) from None
                self._end = len(first)
                for line in file:
                    read = _read_line(line)
                    if read is None or self.is_done(read[0]):
                        break
                    self._note(read[0], self._end, read[1])
                    self._end += len(line)
        self._num_synced = self._end

    def _note(self, index: int, place: int, facts: Facts) -> None:
        if index >= len(self._places):
            self._places.extend([_ABSENT] * (index + 1 - len(self._places)))
        self._places[index] = place
        self.tally.add(facts)


def _read_line(line: bytes) -> tuple[int, Facts] | None:
    """Index and facts; None for a line that is torn or damaged."""
    checksum, _, rest = line.partition(b"\t")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(rest):
        return None
    index, facts, _ = rest.split(b"\t", 2)
    return int(index), Facts.from_json(facts)


def _resolved(output: Path) -> Path:
    """Behind symbolic links, so that a link stays one. UsageError for what can't become a file."""
    path = output.resolve()
    if path.exists() and not path.is_file():
        raise UsageError(f"-o {output} is no regular file", fix="name a file for the answers")
    if not path.parent.is_dir():
        raise UsageError(f"-o {output} lies in no folder", fix=f"make {path.parent} first")
    return path


def _open_locked(path: Path) -> int:
    """The locked file of this very name: one that its holder has just removed is another."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(f"{path} can't be written: {error.strerror}", fix="name an output elsewhere") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            fix = "let it end, or name another output"
            raise UsageError(f"another batch is at work on {path}", fix=fix) from None
        except OSError as error:
            os.close(descriptor)
            raise UsageError(f"{path} can't be locked: {error.strerror}", fix="name an output elsewhere") from None
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise JournalError(
            f"{path} can't be written: {error.strerror}", fix="make room; the same command goes on"
        ) from None


def _flags(options: dict[str, Any]) -> str:
    said = (f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in options.items())
    return f"with {' '.join(said)}" if options else "without such flags"
