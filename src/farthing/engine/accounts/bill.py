"""What requests and the passing of time cost, gathered in memory and added to the bill on disk.

A request's dollars are its share of each step's seconds times the price of the box; the box's hours are counted beside
them, and what no request took is idle (statement.py subtracts when it reads). Charges and clock that were handed over
together are written together. Knows no prompt and no request: days (UTC), keys' names and models only.
"""

import os
import queue
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from farthing.engine.accounts.bill_file import explained, open_for_writing
from farthing.errors import FarthingError

_CLOSE_SECONDS = 10.0
_DAY_SECONDS = 86400
_COUNTS = ("requests", "prompt_tokens", "cached_tokens", "output_tokens")
_AMOUNTS = ("priced_seconds", "unpriced_seconds", "dollars")


@dataclass(slots=True)
class _Gathered:
    """Sums in the order of the columns: by (day, key, model), and by (day, model)."""

    charges: dict[tuple[str, ...], list[float]] = field(
        default_factory=partial(defaultdict[tuple[str, ...], list[float]], lambda: [0, 0, 0, 0, 0.0, 0.0, 0.0])
    )
    clock: dict[tuple[str, ...], list[float]] = field(
        default_factory=partial(defaultdict[tuple[str, ...], list[float]], lambda: [0.0, 0.0, 0.0])
    )

    def __bool__(self) -> bool:
        return bool(self.charges or self.clock)

    def add(self, other: "_Gathered") -> None:
        for mine, more in ((self.charges, other.charges), (self.clock, other.clock)):
            for place, values in more.items():
                mine[place] = [a + b for a, b in zip(mine[place], values, strict=True)]


class BillBook:
    """Adds to the bill in the file `path`, as do others that are open at the same time.

    Every method but `close` returns at once, whatever the disk does: a thread of its own writes. All are called from
    one thread. What was flushed and written survives kill -9; what was not is lost then.
    """

    def __init__(self, path: Path, *, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds since 1970, for the day. FarthingError if the file can't be opened or written."""
        self.problem: str | None = None  # why the last write failed; what it had is kept and tried again
        self._path, self._now = path, now
        self._day, self._day_number = "", -1
        self._gathered, self._due = _Gathered(), False
        self._handed: queue.SimpleQueue[_Gathered | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = open_for_writing(path)
        self._inode = os.stat(path).st_ino
        self._writer = threading.Thread(target=self._write_what_is_handed, name="farthing-bill", daemon=True)
        self._writer.start()

    def charge(self, *, key: str, model: str, seconds: float, dollars: float | None) -> None:
        """A request's share of a step. `key`: the name of its API key, "" without; `dollars` None: no price known."""
        _add(self._gathered.charges[self._today(), key, model], 4, seconds, dollars)

    def finished(self, *, key: str, model: str, prompt_tokens: int, cached_tokens: int, output_tokens: int) -> None:
        """A request ended. What it cost goes to the disk with the clock's next tick."""
        sums = self._gathered.charges[self._today(), key, model]
        for place, count in enumerate((1, prompt_tokens, cached_tokens, output_tokens)):
            assert count >= 0
            sums[place] += count
        self._due = True

    def clock(self, *, model: str, seconds: float, dollars: float | None) -> None:
        """Time that the box was up and paid for, whatever it did."""
        _add(self._gathered.clock[self._today(), model], 0, seconds, dollars)
        if self._due:
            self.flush()

    def flush(self) -> None:
        """Hands what has gathered to the writer: one transaction, so that charges never stand without their clock."""
        self._due = False
        if self._gathered or self.problem is not None:
            self._handed.put(self._gathered)
            self._gathered = _Gathered()

    def close(self) -> None:
        """Flushes and waits for it, a few seconds at most; `problem` says if that failed."""
        self.flush()
        self._handed.put(None)
        self._writer.join(_CLOSE_SECONDS)

    def _today(self) -> str:
        now = self._now()
        if now // _DAY_SECONDS != self._day_number:
            self._day_number, self._day = int(now // _DAY_SECONDS), time.strftime("%Y-%m-%d", time.gmtime(now))
        return self._day

    def _write_what_is_handed(self) -> None:
        waiting, is_open = _Gathered(), True
        while is_open:
            handed = [self._handed.get()]
            while not self._handed.empty():
                handed.append(self._handed.get())
            for more in handed:
                if more is None:
                    is_open = False
                else:
                    waiting.add(more)
            try:
                if waiting:
                    self._write(waiting)
                waiting, self.problem = _Gathered(), None
            except sqlite3.Error as error:
                self.problem = explained(self._path, "written", error).what
                self._disconnect()
            except (FarthingError, OSError) as error:
                self.problem = error.what if isinstance(error, FarthingError) else str(error)
                self._disconnect()
        self._disconnect()

    def _write(self, gathered: _Gathered) -> None:
        """All of it or nothing."""
        if self._connection is None or not self._is_in_place():
            self._disconnect()
            self._connection = open_for_writing(self._path)
            self._inode = os.stat(self._path).st_ino
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(_adding("charges", ("day", "key", "model"), _COUNTS + _AMOUNTS), _rows(gathered.charges))
        connection.executemany(_adding("clock", ("day", "model"), _AMOUNTS), _rows(gathered.clock))
        connection.execute("COMMIT")

    def _is_in_place(self) -> bool:
        """Is it still the file of that name? Moved or removed, it would take the sums where nobody reads them."""
        try:
            return os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _disconnect(self) -> None:
        """Whatever was begun and not committed is undone."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _add(sums: list[float], place: int, seconds: float, dollars: float | None) -> None:
    assert 0 <= seconds < float("inf") and (dollars is None or 0 <= dollars < float("inf"))
    if dollars is None:
        sums[place + 1] += seconds
    else:
        sums[place] += seconds
        sums[place + 2] += dollars


def _adding(table: str, places: tuple[str, ...], sums: tuple[str, ...]) -> str:
    """The statement that adds a row to what is there."""
    names = (*places, *sums)
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({', '.join(places)}) DO UPDATE SET {', '.join(f'{s} = {s} + excluded.{s}' for s in sums)}"
    )


def _rows(sums: dict[tuple[str, ...], list[float]]) -> Iterable[tuple[str | float, ...]]:
    return [(*place, *values) for place, values in sums.items()]
