"""The file of the bill: where it is, its tables, and what is said when it can't be used.

SQLite with a write-ahead log: what was committed survives kill -9, readers and several servers don't wait for each
other. Two tables of sums, no request and no prompt: what requests took by day, key and model, and how long the box
was up by day and model. Knows neither what is gathered (bill.py) nor how a bill is made of it (statement.py).
"""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import platformdirs

from farthing.errors import FarthingError

SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0  # how long a writer waits for another server's write
_APPLICATION_ID = 0x66746264  # "ftbd", in the header of the file: that it is a bill, and nobody else's database
_TABLES = (
    """CREATE TABLE charges (
        day TEXT NOT NULL, key TEXT NOT NULL, model TEXT NOT NULL,
        requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
        output_tokens INTEGER NOT NULL,
        priced_seconds REAL NOT NULL, unpriced_seconds REAL NOT NULL, dollars REAL NOT NULL,
        PRIMARY KEY (day, key, model)
    ) WITHOUT ROWID""",
    """CREATE TABLE clock (
        day TEXT NOT NULL, model TEXT NOT NULL,
        priced_seconds REAL NOT NULL, unpriced_seconds REAL NOT NULL, dollars REAL NOT NULL,
        PRIMARY KEY (day, model)
    ) WITHOUT ROWID""",
)


def bill_path() -> Path:
    """Where the bill is kept: `bill.sqlite` in the user's data folder."""
    return Path(platformdirs.user_data_dir("farthing")) / "bill.sqlite"


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The bill, made if it isn't there (folder 0700, file 0600), in autocommit; one thread at a time may use it.

    FarthingError if it can't be written, is damaged, belongs to something else or to a newer Farthing.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # SQLite's own files beside it follow
    except OSError as error:
        raise _unusable(path, "written", error.strerror or str(error)) from error
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("BEGIN IMMEDIATE")  # also: can it be written?
            if _version(connection, path) == 0:
                for table in _TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            connection.execute("COMMIT")
            return connection
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(path, "written", error) from error


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """The bill in a transaction of its own, so that all that is read is of one moment; None where there is none yet.

    FarthingError if it can't be read, is damaged, belongs to something else or to a newer Farthing.
    """
    if not path.exists():
        return None
    address = f"{path.absolute().as_uri()}?mode=ro"
    if not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
        address += "&immutable=1"  # a copy where nothing can be written: nobody is at it
    try:
        connection = sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.execute("BEGIN")
            if _version(connection, path):
                return connection
            connection.close()
            return None
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise explained(path, "read", error) from error


def explained(path: Path, doing: str, error: sqlite3.Error) -> FarthingError:
    """What a failure of SQLite means to the owner of the bill. `doing`: "read" or "written"."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such" in str(error):
        return FarthingError(
            f"the bill {path} is damaged: {error}", fix="move it away; the next farthing serve begins a new one"
        )
    return _unusable(path, doing, str(error))


def _unusable(path: Path, doing: str, why: str) -> FarthingError:
    access = "readable" if doing == "read" else "writable"
    return FarthingError(f"the bill {path} can't be {doing}: {why}", fix=f"make it and its folder {access} for you")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Two servers that make the file at the same moment: SQLite doesn't wait by itself for this change."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute("PRAGMA journal_mode=WAL")
            return
        if time.monotonic() > deadline:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        time.sleep(0.02)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables, 0 of an empty file. FarthingError if they are damaged, foreign or of a newer one."""
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [num_tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and (num_tables or version):
        raise FarthingError(f"{path} is no bill of Farthing", fix="name the file that farthing serve writes")
    if version > SCHEMA_VERSION:
        raise FarthingError(
            f"the bill {path} has version {version}, and this Farthing knows {SCHEMA_VERSION}",
            fix="update Farthing, or move the file away",
        )
    [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(found.replace("\n", " "))
    return int(version)
