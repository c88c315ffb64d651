"""A file of requests in OpenAI's batch format, read row by row: what each row asks for, or why it can't be asked.

One row is in memory at a time; what came before is remembered by eight bytes of its custom_id. Every reading gives the
same rows. Knows no server and no result.
"""

import hashlib
import json
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from farthing.errors import UsageError

URLS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
MAX_LINE_BYTES = 2**25  # a server takes bodies of 16 MiB
_CHUNK_BYTES = 2**20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RowError:
    """`code` is for programs."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line that is not blank. `index` counts rows from 0, `line` lines from 1. `id` is a digest of what the row says.

    `url` and `body` are empty where there is an `error`.
    """

    index: int
    line: int
    id: str
    custom_id: str | None
    url: str
    body: dict[str, Any]
    error: RowError | None = None


class Reading:
    """One reading of the file: its rows come once, to whoever asks for the next one. `ended`: there is none left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ended = False
        self._digest = hashlib.sha256()
        self._rows = self._read()

    def whole_sha256(self) -> str:
        """The file's, as it was when it was read; what is left of it is read for that."""
        for _ in self._rows:
            pass
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def _read(self) -> Iterator[Row]:
        seen, index = _Seen(), 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(self._lines(file), start=1):
                text = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
                if text:
                    yield _row(index, number, text, seen)
                    index += 1
        self.ended = True

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        """Of one that is too long, a little more than is taken; the rest of it is passed over."""
        while line := file.readline(MAX_LINE_BYTES + 2):
            self._digest.update(line)
            rest = line
            while not rest.endswith(b"\n") and (rest := file.readline(_CHUNK_BYTES)):
                self._digest.update(rest)
            yield line


def check_input(path: Path) -> None:
    """UsageError for what is no file that can be read twice."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            with open(path, "rb"):
                return
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", fix="name a file of requests, one JSON object a line"
        ) from None
    raise UsageError(f"{path} is not a regular file", fix="write the requests to a file: they are read more than once")


def _row(index: int, number: int, text: bytes, seen: "_Seen") -> Row:
    custom_id: str | None = None
    try:
        value = _parse(text)
        custom_id = _custom_id(value)
        if not seen.add(custom_id.encode()):
            raise _RefusedRowError("duplicate_custom_id", f"an earlier row has the custom_id {custom_id!r:.100}")
        url, body = _request(value)
    except _RefusedRowError as refused:
        error = RowError(refused.code, f"line {number}: {refused.message}")
        return Row(index, number, _row_id(str(number).encode(), text), custom_id, "", {}, error)
    said = json.dumps([url, body]).encode()
    return Row(index, number, _row_id(custom_id.encode(), said), custom_id, url, body)


def _row_id(*parts: bytes) -> str:
    return f"batch_req_{hashlib.sha256(b'/'.join(parts)).hexdigest()[:24]}"


class _RefusedRowError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(code)
        self.code, self.message = code, message


def _parse(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_LINE_BYTES:
        raise _RefusedRowError("line_too_long", f"the line has more than {MAX_LINE_BYTES:,} bytes")
    try:
        value = json.loads(text.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise _RefusedRowError("invalid_json", "the line is not UTF-8") from None
    except RecursionError:
        raise _RefusedRowError("invalid_json", "the line nests too deep") from None
    except ValueError as error:
        raise _RefusedRowError("invalid_json", f"the line is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise _RefusedRowError("invalid_json", "the line is no JSON object")
    return value


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _custom_id(value: dict[str, Any]) -> str:
    custom_id = value.get("custom_id")
    if custom_id is None or custom_id == "":
        raise _RefusedRowError("missing_custom_id", "the row has no custom_id")
    if not isinstance(custom_id, str):
        raise _RefusedRowError("invalid_custom_id", "the custom_id is no text")
    if any("\ud800" <= character <= "\udfff" for character in custom_id):
        raise _RefusedRowError("invalid_custom_id", "the custom_id has half of a surrogate pair")
    return custom_id


def _request(value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    method, url, body = value.get("method"), value.get("url"), value.get("body")
    if method != "POST":
        raise _RefusedRowError("invalid_method", f"the method is {method!r:.40} and must be 'POST'")
    if url == "/v1/embeddings":
        raise _RefusedRowError("unsupported_url", "/v1/embeddings is not served: Farthing generates text")
    if url not in URLS:
        raise _RefusedRowError("unsupported_url", f"the url is {url!r:.100}; it must be one of {', '.join(URLS)}")
    if not isinstance(body, dict):
        raise _RefusedRowError("invalid_body", "the body is no JSON object")
    return url, body


class _Seen:
    """Texts that came before: a hash table of their digests, at most 32 bytes each. Of a million different texts, two
    are taken for the same with a chance of three in a hundred million."""

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._count = 0

    def add(self, text: bytes) -> bool:
        """False if it is there already."""
        is_new = self._insert(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) or 1)
        self._count += is_new
        if 2 * self._count > len(self._slots):
            digests, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
            for digest in digests:
                if digest:
                    self._insert(digest)
        return is_new

    def _insert(self, digest: int) -> bool:
        mask = len(self._slots) - 1
        place = digest & mask
        while self._slots[place]:
            if self._slots[place] == digest:
                return False
            place = (place + 1) & mask
        self._slots[place] = digest
        return True
