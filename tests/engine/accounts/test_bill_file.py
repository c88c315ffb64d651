"""A file that is no bill, or one that nobody can read: told in one line, and never guessed at."""

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from farthing.engine.accounts.bill import BillBook
from farthing.engine.accounts.bill_file import SCHEMA_VERSION, bill_path
from farthing.engine.accounts.statement import billed_months, read_bill
from farthing.errors import FarthingError, UsageError

MONTH = "2026-11"
NOON = 1_794_225_600.0  # 2026-11-09 12:00 UTC


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "farthing" / "bill.sqlite"


@pytest.fixture
def book(path: Path) -> Iterator[BillBook]:
    book = BillBook(path, now=lambda: NOON)
    yield book
    book.close()
    assert book.problem is None


def spoil(path: Path, statement: str) -> None:
    BillBook(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize("use", [BillBook, billed_months, lambda path: read_bill(path, month=MONTH)])
def test_a_bill_that_cannot_be_trusted_is_refused_in_one_line(path: Path, use) -> None:
    spoil(path, f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    with pytest.raises(FarthingError, match=f"version {SCHEMA_VERSION + 1}.* - update Farthing"):
        use(path)
    spoil_other = path.with_name("other.sqlite")
    with sqlite3.connect(spoil_other) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(FarthingError, match="no bill of Farthing"):
        use(spoil_other)
    whole = path.read_bytes()
    for damaged in (b"not a database at all" * 100, whole[:5000], whole[:100] + os.urandom(4000) + whole[4100:]):
        path.write_bytes(damaged)
        with pytest.raises(FarthingError, match=r"is damaged: .+ - move it away") as refused:
            use(path)
        assert "\n" not in str(refused.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(FarthingError, match=r"can't be (read|written)"):
        use(path)


def test_a_bill_that_loses_a_table_is_damaged(path: Path) -> None:
    spoil(path, "DROP TABLE clock")
    with pytest.raises(FarthingError, match="is damaged"):
        read_bill(path, month=MONTH)


def test_a_folder_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FarthingError, match=r"can't be written: .+ - make it and its folder writable"):
        BillBook(tmp_path / "file" / "bill.sqlite")


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "2026", "2026-11-01", "２０２６-11", "%", ""])
def test_what_is_no_month_is_said_so(path: Path, month: str) -> None:
    with pytest.raises(UsageError, match="--month 2026-11"):
        read_bill(path, month=month)


def test_the_bill_lies_in_the_folder_for_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert bill_path() == tmp_path / "farthing" / "bill.sqlite"
    assert bill_path().name == "bill.sqlite"


@pytest.mark.parametrize(("seconds", "dollars"), [(-1.0, 0.0), (float("nan"), 0.0), (float("inf"), None), (1.0, -0.1)])
def test_no_figure_that_would_spoil_the_sums_is_taken(book: BillBook, seconds: float, dollars: float | None) -> None:
    with pytest.raises(AssertionError):
        book.charge(key="k", model="m", seconds=seconds, dollars=dollars)
    with pytest.raises(AssertionError):
        book.clock(model="m", seconds=seconds, dollars=dollars)
