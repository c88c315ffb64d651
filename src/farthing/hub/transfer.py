"""Files over HTTP, several at a time: goes on where an earlier try stopped, checks size and checksum, reports progress.

A file has its final name only when it is whole. Knows URLs and sums; hub/download.py and hub/modelscope.py say which.
huggingface_hub itself (2.4) begins a file anew after its process ended, and checks no sums.
"""

import errno
import fcntl
import hashlib
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx2

from farthing.errors import CheckpointError, FarthingError
from farthing.units import format_bytes

Progress = Callable[[int], None]
"""Told how many bytes came (negative: that they have to come again)."""

_NUM_AT_A_TIME = 4
_MAX_TRIES = 5  # in a row, without a byte that is new
_CHUNK_BYTES = 2**20
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_RESUMES = "the same command goes on where it stopped"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One file to fetch from `url` to `path`. `checksum`: SHA-256, or git's SHA-1; checked where the hub gives it."""

    url: str
    path: Path
    num_bytes: int
    checksum: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold a token

    @property
    def partial(self) -> Path:
        return self.path.with_name(f"{self.path.name}.incomplete")

    @property
    def is_done(self) -> bool:
        """Whole, under its final name. A file of another size is of another revision."""
        return self.path.is_file() and self.path.stat().st_size == self.num_bytes

    @property
    def present_bytes(self) -> int:
        """What of the file is on this machine already."""
        if self.is_done:
            return self.num_bytes
        return min(self.partial.stat().st_size, self.num_bytes) if self.partial.is_file() else 0


def fetch_all(
    transfers: Sequence[Transfer], client: httpx2.Client, progress: Progress, *, pause_seconds: float = 1.0
) -> None:
    """Fetch the files, several at a time. The first failure stops all; what has come is kept for the next time."""
    waiting: queue.SimpleQueue[Transfer] = queue.SimpleQueue()
    results: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    stop = threading.Event()
    for transfer in transfers:
        waiting.put(transfer)

    def work() -> None:
        while not stop.is_set():
            try:
                transfer = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                fetch(transfer, client, progress, stop, pause_seconds=pause_seconds)
                results.put(None)
            except BaseException as error:
                results.put(error)

    for _ in range(min(_NUM_AT_A_TIME, len(transfers))):
        threading.Thread(target=work, daemon=True).start()  # daemons: Ctrl-C does not wait for a silent server
    try:
        for _ in transfers:
            error = results.get()
            if error is not None:
                raise error
    finally:
        stop.set()


def fetch(
    transfer: Transfer,
    client: httpx2.Client,
    progress: Progress,
    stop: threading.Event,
    *,
    pause_seconds: float = 1.0,
) -> None:
    """Fetch one file, trying again while there is progress.

    CheckpointError if what comes is not the file that the hub lists; FarthingError if it does not come at all.
    """
    if transfer.is_done:
        return
    transfer.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with transfer.partial.open("ab+") as file:
            _lock(file, transfer)
            if transfer.is_done:  # the one that had the lock has just finished
                return
            if file.tell() > transfer.num_bytes:
                file.truncate(0)
            _fill(file, transfer, client, progress, stop, pause_seconds)
            if stop.is_set():
                return
            _check(file, transfer)
            os.fsync(file.fileno())
            os.replace(transfer.partial, transfer.path)
    except OSError as error:
        fix = f"free some disk space; {_RESUMES}" if error.errno == errno.ENOSPC else "check the folder"
        raise FarthingError(f"{transfer.partial} can't be written: {error.strerror}", fix=fix) from None


def fetch_head(transfer: Transfer, client: httpx2.Client, num_bytes: int, path: Path) -> None:
    """The first `num_bytes` bytes of a file to `path`, which gets the size of the whole; the rest of it is a hole."""
    headers = {**transfer.headers, "Accept-Encoding": "identity", "Range": f"bytes=0-{num_bytes - 1}"}
    with path.open("wb") as file, client.stream("GET", transfer.url, headers=headers, timeout=_TIMEOUT) as response:
        response.raise_for_status()
        for chunk in response.iter_bytes(_CHUNK_BYTES):
            file.write(chunk[: num_bytes - file.tell()])
            if file.tell() == num_bytes:  # a server that knows no ranges would send all of it
                break
        file.truncate(transfer.num_bytes)


def _lock(file: IO[bytes], transfer: Transfer) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FarthingError(f"another process is fetching {transfer.path.name}", fix="wait until it is done") from None


def _fill(
    file: IO[bytes],
    transfer: Transfer,
    client: httpx2.Client,
    progress: Progress,
    stop: threading.Event,
    pause_seconds: float,
) -> None:
    """Request what is missing until nothing is."""
    tries = 0
    while (have := file.seek(0, os.SEEK_END)) < transfer.num_bytes and not stop.is_set():
        try:
            _request(file, have, transfer, client, progress, stop)
            reason = "the connection was cut"
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
        new_bytes = file.seek(0, os.SEEK_END)
        tries = 0 if new_bytes > have else tries + 1
        if tries == _MAX_TRIES:
            got = f"{format_bytes(new_bytes)} of {format_bytes(transfer.num_bytes)}"
            raise FarthingError(f"{transfer.path.name} ended at {got}: {reason}", fix=_RESUMES)
        if new_bytes < transfer.num_bytes:
            stop.wait(pause_seconds * 2**tries)


def _request(
    file: IO[bytes], have: int, transfer: Transfer, client: httpx2.Client, progress: Progress, stop: threading.Event
) -> None:
    """One request for everything behind the first `have` bytes, appended to `file` as it comes."""
    wanted = {"Range": f"bytes={have}-"} if have else {}
    headers = {**transfer.headers, "Accept-Encoding": "identity", **wanted}
    with client.stream("GET", transfer.url, headers=headers, timeout=_TIMEOUT) as response:
        if response.status_code in (408, 416, 429) or response.status_code >= 500:
            raise httpx2.TransportError(f"HTTP status {response.status_code}")
        response.raise_for_status()
        if have and response.status_code != 206:  # the server sends the file from its beginning
            file.truncate(0)
            progress(-have)
            have = 0
        for chunk in response.iter_bytes():  # as they come: what a cut connection brought is kept
            have += len(chunk)
            if have > transfer.num_bytes:
                _discard(file, transfer, f"is longer than the {transfer.num_bytes:,} bytes that the hub lists")
            file.write(chunk)
            progress(len(chunk))
            if stop.is_set():
                return


def _check(file: IO[bytes], transfer: Transfer) -> None:
    """Read the whole file again: part of it may come from an earlier process."""
    file.flush()
    file.seek(0)
    if transfer.checksum is None:
        return
    if len(transfer.checksum) == 64:
        digest = hashlib.sha256()
    else:  # git's name of a blob
        digest = hashlib.sha1(b"blob %d\0" % transfer.num_bytes, usedforsecurity=False)
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    if digest.hexdigest() != transfer.checksum:
        _discard(file, transfer, "does not have the checksum that the hub lists")


def _discard(file: IO[bytes], transfer: Transfer, problem: str) -> None:
    """Nothing of a wrong file is kept, or it would be wrong again the next time."""
    file.truncate(0)
    transfer.partial.unlink(missing_ok=True)
    raise CheckpointError(
        f"{transfer.path.name} {problem}; it was thrown away", fix="fetch it again, or from another endpoint"
    )
