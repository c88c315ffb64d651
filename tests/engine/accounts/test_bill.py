"""The bill on disk: requests + idle = hours x price, whatever is charged, restarted, killed or locked meanwhile."""

import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.engine.accounts.bill import BillBook
from farthing.engine.accounts.statement import Amount, By, billed_months, read_bill

MONTH = "2026-11"
NOON = 1_794_225_600.0  # 2026-11-09 12:00 UTC
DAY = 86_400.0
PRICE = 0.36  # dollars per hour: 0.0001 a second


class Time:
    def __init__(self) -> None:
        self.seconds = NOON

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "farthing" / "bill.sqlite"


@pytest.fixture
def now() -> Time:
    return Time()


@pytest.fixture
def book(path: Path, now: Time) -> Iterator[BillBook]:
    book = BillBook(path, now=now)
    yield book
    book.close()
    assert book.problem is None


def priced(seconds: float) -> float:
    return seconds * PRICE / 3600


def until(condition, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_requests_took_and_what_was_idle_are_the_hours_times_the_price(book: BillBook, path: Path) -> None:
    for key, seconds in (("alice", 300.0), ("bob", 500.0), ("alice", 100.0), ("", 60.0)):
        book.charge(key=key, model="small", seconds=seconds, dollars=priced(seconds))
    book.finished(key="alice", model="small", prompt_tokens=100, cached_tokens=40, output_tokens=7)
    book.finished(key="alice", model="small", prompt_tokens=50, cached_tokens=0, output_tokens=3)
    book.clock(model="small", seconds=3600.0, dollars=PRICE)
    book.close()
    bill = read_bill(path, month=MONTH)
    assert [(line.label, line.requests, line.amount.seconds) for line in bill.lines] == [
        ("", 0, 60.0), ("alice", 2, 400.0), ("bob", 0, 500.0)
    ]  # fmt: skip
    alice = bill.lines[1]
    assert (alice.prompt_tokens, alice.cached_tokens, alice.output_tokens) == (150, 40, 10)
    assert alice.amount.dollars == pytest.approx(0.04, abs=1e-12)
    assert bill.requests.amount.dollars == pytest.approx(0.096, abs=1e-12)
    assert (bill.idle.seconds, bill.idle.dollars) == (2640.0, pytest.approx(0.264, abs=1e-12))
    assert bill.total == Amount(3600.0, 0.0, 0.36)
    assert bill.dollars_per_hour == pytest.approx(0.36)


def test_a_day_begins_at_midnight_utc_and_a_month_ends_there(path: Path) -> None:
    now = Time()
    book = BillBook(path, now=now)
    for seconds in (NOON + DAY / 2 - 1, NOON + DAY / 2, NOON + 21.5 * DAY - 1, NOON + 21.5 * DAY):
        now.seconds = seconds
        book.charge(key="k", model="m", seconds=1.0, dollars=0.25)
        book.clock(model="m", seconds=2.0, dollars=0.5)
    book.close()
    days = read_bill(path, month=MONTH, by="day").lines
    assert [(line.label, line.amount.dollars, line.up) for line in days] == [
        (f"2026-11-{day}", 0.25, Amount(2.0, 0.0, 0.5)) for day in ("09", "10", "30")
    ]
    assert [line.label for line in read_bill(path, month="2026-12", by="day").lines] == ["2026-12-01"]
    assert billed_months(path) == ("2026-11", "2026-12")


def test_each_model_and_day_has_its_hours_even_where_nothing_was_asked(book: BillBook, path: Path) -> None:
    book.charge(key="k", model="busy", seconds=5.0, dollars=0.5)
    book.clock(model="busy", seconds=10.0, dollars=1.0)
    book.clock(model="alone", seconds=20.0, dollars=3.0)
    book.close()
    lines = read_bill(path, month=MONTH, by="model").lines
    assert [(line.label, line.amount.seconds, line.up) for line in lines] == [
        ("alone", 0.0, Amount(20.0, 0.0, 3.0)), ("busy", 5.0, Amount(10.0, 0.0, 1.0))
    ]  # fmt: skip
    assert read_bill(path, month=MONTH, by="key").idle == Amount(25.0, 0.0, 3.5)


def test_seconds_without_a_price_stand_apart_and_can_be_priced_later(book: BillBook, path: Path) -> None:
    book.charge(key="k", model="m", seconds=600.0, dollars=None)
    book.clock(model="m", seconds=3600.0, dollars=None)
    book.clock(model="m", seconds=1800.0, dollars=1.0)
    book.close()
    bill = read_bill(path, month=MONTH)
    assert bill.lines[0].amount == Amount(0.0, 600.0, 0.0) and bill.lines[0].amount.known_dollars is None
    assert bill.idle == Amount(1800.0, 3000.0, 1.0) and bill.idle.known_dollars == 1.0
    assert bill.dollars_per_hour == 2.0  # of the priced half hour
    later = bill.priced(0.6)
    assert later.lines[0].amount == Amount(600.0, 0.0, pytest.approx(0.1))
    assert later.total == Amount(5400.0, 0.0, pytest.approx(1.6))
    assert later.idle.dollars == pytest.approx(1.5) and later.idle.unpriced_seconds == 0.0


def test_what_a_request_took_goes_to_the_disk_with_the_next_tick_of_the_clock(book: BillBook, path: Path) -> None:
    book.charge(key="k", model="m", seconds=1.0, dollars=None)
    book.finished(key="k", model="m", prompt_tokens=1, cached_tokens=0, output_tokens=1)
    book.clock(model="m", seconds=2.0, dollars=None)
    until(lambda: read_bill(path, month=MONTH).total.seconds == 2.0)
    assert read_bill(path, month=MONTH).requests.requests == 1


# --- whatever happens, the sums agree

KEYS, MODELS = ("", "alice", "bob"), ("small", "large")
SECONDS = st.floats(0, 1e5)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("charge"), st.sampled_from(KEYS), st.sampled_from(MODELS), SECONDS, st.booleans()),
        st.tuples(st.just("clock"), st.sampled_from(MODELS), SECONDS, st.booleans()),
        st.tuples(st.just("finished"), st.sampled_from(KEYS), st.sampled_from(MODELS), st.integers(0, 10**6)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("later"), st.floats(0, 2 * DAY)),
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(STEPS, st.floats(0, 100))
def test_the_bill_is_the_exact_sum_of_whatever_was_charged(steps: list[tuple], price: float) -> None:
    charged, up, dollars_charged, dollars_up = (Fraction(0) for _ in range(4))
    requests = tokens = 0
    now = Time()
    now.seconds = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bill.sqlite")
        book = BillBook(path, now=now)
        for name, *values in steps:
            match name, values:
                case "charge", [key, model, seconds, has_price]:
                    dollars = seconds * price / 3600 if has_price else None
                    book.charge(key=key, model=model, seconds=seconds, dollars=dollars)
                    charged += Fraction(seconds)
                    dollars_charged += Fraction(dollars or 0)
                case "clock", [model, seconds, has_price]:
                    dollars = seconds * price / 3600 if has_price else None
                    book.clock(model=model, seconds=seconds, dollars=dollars)
                    up += Fraction(seconds)
                    dollars_up += Fraction(dollars or 0)
                case "finished", [key, model, count]:
                    book.finished(
                        key=key, model=model, prompt_tokens=count, cached_tokens=count // 2, output_tokens=count
                    )
                    requests, tokens = requests + 1, tokens + count
                case "flush", []:
                    book.flush()
                case "reopen", []:
                    book.close()
                    book = BillBook(path, now=now)
                case "later", [seconds]:
                    now.seconds += seconds
        book.close()
        assert book.problem is None
        by: By
        for by in ("key", "model", "day"):
            bills = [read_bill(path, month=month, by=by) for month in billed_months(path)]
            assert sum(bill.requests.requests for bill in bills) == requests
            assert sum(bill.requests.output_tokens for bill in bills) == tokens
            assert agree((bill.requests.amount.seconds for bill in bills), charged)
            assert agree((bill.requests.amount.dollars for bill in bills), dollars_charged)
            assert agree((bill.total.seconds for bill in bills), up)
            assert agree((bill.total.dollars for bill in bills), dollars_up)
            assert agree((bill.idle.dollars for bill in bills), dollars_up - dollars_charged)
            for bill in bills:
                both = sum(line.amount.dollars for line in bill.lines) + bill.idle.dollars
                assert agree([both], Fraction(bill.total.dollars))
                if by != "key":
                    assert agree((line.up.dollars for line in bill.lines if line.up), Fraction(bill.total.dollars))


def agree(parts, whole: Fraction) -> bool:
    return abs(sum(map(Fraction, parts)) - whole) <= 1e-9 * max(1, abs(whole))


# --- processes

WRITER = """
import sys, time
from pathlib import Path
from farthing.engine.accounts.bill import BillBook
path, rounds = Path(sys.argv[1]), int(sys.argv[2])
written = 0
while written < rounds:
    book = BillBook(path)
    for _ in range(min(rounds, 200)):
        for key in ("alice", "bob", "carol"):
            book.charge(key=key, model="m", seconds=1.0, dollars=0.25)
            book.finished(key=key, model="m", prompt_tokens=2, cached_tokens=1, output_tokens=3)
        book.clock(model="m", seconds=3.0, dollars=0.75)
        book.flush()
        time.sleep(0.0001)  # each in a transaction of its own
        written += 1
    book.close()
    assert book.problem is None, book.problem
    print(written, flush=True)
"""


def start_writer(path: Path, rounds: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(rounds)], stdout=subprocess.PIPE, text=True)


def sums(path: Path) -> tuple[float, float, float]:
    """(seconds charged, seconds up, requests) of all months."""
    bills = [read_bill(path, month=month) for month in billed_months(path)]
    return (
        sum(bill.requests.amount.seconds for bill in bills),
        sum(bill.total.seconds for bill in bills),
        sum(bill.requests.requests for bill in bills),
    )


def test_a_writer_that_is_killed_leaves_whole_transactions_and_all_that_it_had_written(path: Path) -> None:
    moments, kept = random.Random(5), 0.0
    for _ in range(20):
        writer = start_writer(path, 10**6)
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(moments.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split())])
        writer.wait(10)
        writer.stdout.close()
        charged, up, requests = sums(path)
        assert charged == up == requests
        assert up >= kept + 3.0 * acknowledged
        kept = up


def test_several_servers_add_to_one_bill_from_its_first_moment(path: Path) -> None:
    writers = [start_writer(path, 100) for _ in range(3)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    assert sums(path) == (900.0, 900.0, 900)


FULL_DISK = """
import json, resource, signal, sys, time
from pathlib import Path
from farthing.engine.accounts.bill import BillBook
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails, as on a full disk
path = Path(sys.argv[1])
book = BillBook(path)
limit, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (16384, hard))
for number in range(2000):
    book.charge(key=f"key {number}", model="m", seconds=1.0, dollars=None)
book.clock(model="m", seconds=4000.0, dollars=None)
book.flush()
while book.problem is None:
    time.sleep(0.01)
problem = book.problem
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
book.charge(key="last", model="m", seconds=1.0, dollars=None)
book.close()
print(json.dumps([problem, book.problem]))
"""


def test_what_a_full_disk_refused_is_kept_and_written_when_there_is_room(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    problem, later = json.loads(done.stdout)
    assert str(path) in problem and later is None
    [month] = billed_months(path)
    bill = read_bill(path, month=month)
    assert (len(bill.lines), bill.requests.amount.seconds, bill.total.seconds) == (2001, 2001.0, 4000.0)


def test_a_server_never_waits_for_the_disk(book: BillBook, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # nobody else can write now
    for _ in range(3):
        book.charge(key="k", model="m", seconds=1.0, dollars=None)
        book.clock(model="m", seconds=1.0, dollars=None)
        book.flush()
    assert read_bill(path, month=MONTH).total.seconds == 0.0
    other.execute("ROLLBACK")
    other.close()
    book.close()
    assert read_bill(path, month=MONTH).total.seconds == 3.0


def test_a_bill_that_is_moved_away_while_a_server_runs_is_begun_anew(book: BillBook, path: Path, now: Time) -> None:
    book.clock(model="m", seconds=1.0, dollars=None)
    book.flush()
    until(lambda: read_bill(path, month=MONTH).total.seconds == 1.0)
    for file in list(path.parent.iterdir()):
        file.rename(file.with_name(f"old-{file.name}"))
    book.clock(model="m", seconds=2.0, dollars=None)
    book.close()
    assert read_bill(path, month=MONTH).total.seconds == 2.0


# --- the file


def test_only_its_owner_may_read_the_bill(path: Path, book: BillBook) -> None:
    book.clock(model="m", seconds=1.0, dollars=None)
    book.flush()
    until(lambda: read_bill(path, month=MONTH).total.seconds == 1.0)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}


def test_the_file_holds_days_names_and_sums_and_nothing_else(path: Path, book: BillBook) -> None:
    with sqlite3.connect(path) as connection:
        tables = {
            table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    assert tables == {
        "charges": [
            "day", "key", "model", "requests", "prompt_tokens", "cached_tokens", "output_tokens",
            "priced_seconds", "unpriced_seconds", "dollars",
        ],
        "clock": ["day", "model", "priced_seconds", "unpriced_seconds", "dollars"],
    }  # fmt: skip


def test_a_bill_that_is_not_there_yet_is_empty(path: Path) -> None:
    bill = read_bill(path, month=MONTH)
    assert (bill.lines, bill.total, bill.idle, bill.dollars_per_hour) == ((), Amount(), Amount(), None)
    assert billed_months(path) == () and not path.parent.exists()


def test_a_file_without_a_byte_is_a_bill_that_was_never_begun(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert read_bill(path, month=MONTH).total == Amount()
    BillBook(path).close()
    assert billed_months(path) == ()
