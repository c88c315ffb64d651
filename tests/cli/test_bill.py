"""`farthing bill`: the table, CSV, JSON, and an API's price beside them."""

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farthing
from farthing.cli.amounts import dollars, dollars_column, duration, percent
from farthing.cli.app import main
from farthing.cli.bill_view import bill_lines
from farthing.engine.accounts.api_price import compare
from farthing.engine.accounts.bill import BillBook
from farthing.engine.accounts.statement import Amount, Bill, Line, read_bill
from farthing.errors import UsageError
from farthing.planner.money.api_price import ApiPrice, parse_api_price

NOON = 1_794_225_600.0  # 2026-11-09 12:00 UTC
PRICE = 0.36


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A day's bill: 3 hours up at 36 cents, of which alice took half an hour and those without a key a quarter."""
    path = tmp_path / "bill.sqlite"
    book = BillBook(path, now=lambda: NOON)
    for key, seconds, num_tokens in (("alice", 1800.0, 200_000), ("", 900.0, 50_000)):
        book.charge(key=key, model="small", seconds=seconds, dollars=seconds * PRICE / 3600)
        book.finished(
            key=key, model="small", prompt_tokens=2 * num_tokens, cached_tokens=num_tokens, output_tokens=num_tokens
        )
    book.clock(model="small", seconds=10_800.0, dollars=3 * PRICE)
    book.close()
    return path


@pytest.fixture
def unpriced_file(tmp_path: Path) -> Path:
    path = tmp_path / "unpriced.sqlite"
    book = BillBook(path, now=lambda: NOON)
    book.charge(key="alice", model="small", seconds=1800.0, dollars=None)
    book.finished(key="alice", model="small", prompt_tokens=1_000_000, cached_tokens=0, output_tokens=1_000_000)
    book.clock(model="small", seconds=7200.0, dollars=None)
    book.close()
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["bill", *arguments])
    streams = capsys.readouterr()
    assert caught.value.code == code, streams.err
    return streams.out, streams.err


def november(file: Path) -> tuple[str, ...]:
    return "--file", str(file), "--month", "2026-11"


def row(text: str, label: str) -> list[str]:
    [line] = [line for line in text.splitlines() if line.startswith(f"{label}  ")]
    return line.split()


def test_the_table_has_a_line_for_each_key_one_for_idle_time_and_the_total(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, _ = run(capsys, *november(file))
    assert text.startswith("November 2026 (UTC): up 3.0 h at $0.36 an hour\n")
    assert row(text, "alice") == ["alice", "1", "400", "K", "50", "%", "200", "K", "30", "min", "17", "%", "$0.18"]
    assert row(text, "(no key)")[-1] == "$0.09"
    assert row(text, "(idle)") == ["(idle)", "2.2", "h", "75", "%", "$0.81"]
    assert row(text, "total") == ["total", "2", "500", "K", "50", "%", "250", "K", "3.0", "h", "100", "%", "$1.08"]
    assert "total: 3.00 h x $0.36 = $1.08" in text
    assert "per million output tokens: $4.32, and $1.08 without the idle time" in text


@pytest.mark.parametrize(("by", "label"), [("model", "small"), ("day", "2026-11-09")])
def test_a_model_and_a_day_have_hours_and_idle_time_of_their_own(
    file: Path, capsys: pytest.CaptureFixture[str], by: str, label: str
) -> None:
    text, _ = run(capsys, *november(file), "--by", by)
    assert row(text, label) == f"{label} 2 500 K 50 % 250 K 3.0 h 25 % $0.27 $0.81 $1.08".split()
    assert row(text, "total")[1:] == row(text, label)[1:]


def test_the_json_object_keeps_the_identity(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(capsys, *november(file), "--json", "--against", "api:2.5/10")[0])
    assert list(document) == [
        "schema", "month", "by", "lines", "requests", "idle", "total", "dollars_per_hour",
        "dollars_per_million_output_tokens", "against",
    ]  # fmt: skip
    assert document["schema"] == "farthing.bill/1"
    for figure in ("seconds", "dollars"):
        spent = sum(line[figure] for line in document["lines"]) + document["idle"][figure]
        assert spent == pytest.approx(document["total"][figure], abs=1e-9)
    assert document["total"]["dollars"] == pytest.approx(3 * PRICE, abs=1e-9)
    assert list(document["lines"][0]) == [
        "label", "requests", "prompt_tokens", "cached_tokens", "output_tokens", "seconds", "unpriced_seconds",
        "dollars", "up", "api_dollars",
    ]  # fmt: skip
    assert list(document["against"]) == [
        "input_dollars", "output_dollars", "dollars", "output_tokens_per_second", "busy_ratio", "load_ratio",
        "break_even_output_tokens_per_second", "break_even_busy_ratio",
    ]  # fmt: skip


@pytest.mark.parametrize("by", ["key", "model", "day"])
def test_the_columns_of_the_csv_add_up(file: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, *november(file), "--by", by, "--csv")[0])))
    assert {one["month"] for one in rows} == {"2026-11"} and by in rows[0]
    [total] = [one for one in rows if one["kind"] == "total"]
    for column in ("seconds", "dollars"):
        parts = sum(float(one[column]) for one in rows if one["kind"] != "total")
        assert parts == pytest.approx(float(total[column]), abs=1e-9)
    assert sum(int(one["output_tokens"]) for one in rows if one["kind"] == "requests") == int(total["output_tokens"])


def test_seconds_without_a_price_are_said_and_priced_when_a_price_is_given(
    unpriced_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, _ = run(capsys, *november(unpriced_file), "--against", "api:1/1")
    assert row(text, "total")[-2:] == ["-", "$2.00"] and "no price was known: --price-per-hour" in text
    document = json.loads(run(capsys, *november(unpriced_file), "--json")[0])
    assert (document["total"]["unpriced_seconds"], document["total"]["dollars"]) == (7200.0, None)
    assert document["dollars_per_million_output_tokens"] is None
    text, _ = run(capsys, *november(unpriced_file), "--price-per-hour", "0.5")
    assert row(text, "total")[-1] == "$1.00" and row(text, "(idle)")[-1] == "$0.75" and "no price" not in text


def test_an_api_is_compared_by_the_same_tokens_and_the_load_at_which_both_cost_the_same(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 0.5 million in and 0.25 out: 0.1 x 0.5 + 0.2 x 0.25 = $0.10 against $1.08, so 10.8 times the load.
    text, _ = run(capsys, *november(file), "--against", "api:.1/.2")
    assert row(text, "total")[-1] == "$0.100"
    assert "break-even at 10.8 times this load: 250 output tokens/s, now 23.1" in text
    assert "out of reach as it computes now: busy 270 % of the time instead of 25 %" in text
    text, _ = run(capsys, *november(file), "--against", "api:1/2")
    assert "break-even at 1.08 times" in text and "the box would then be busy 27 % of the time; now 25 %" in text
    text, _ = run(capsys, *november(file), "--against", "api:10/20")
    assert "the box is the cheaper one already" in text


@given(
    st.integers(0, 10**9), st.integers(1, 10**9), st.floats(1, 1e6), st.floats(1e-3, 1e3),
    st.floats(1e-3, 100), st.floats(1e-3, 100),
)  # fmt: skip
def test_at_break_even_the_api_would_ask_for_what_the_box_costs(
    prompt: int, answers: int, seconds: float, cost: float, input_price: float, output_price: float
) -> None:
    line = Line("k", 1, prompt, 0, answers, Amount(seconds / 2, 0.0, cost / 2), None)
    comparison = compare(Bill("2026-11", "key", (line,), line, Amount(seconds, 0.0, cost)), ApiPrice(input_price, 10))
    assert comparison.load_ratio is not None and comparison.break_even_output_tokens_per_second is not None
    assert comparison.dollars * comparison.load_ratio == pytest.approx(cost)
    assert comparison.break_even_output_tokens_per_second * seconds == pytest.approx(answers * comparison.load_ratio)


@pytest.mark.parametrize(
    "text", ["", "api", "api:", "api:2.5", "api:2.5/", "api:-1/2", "api:nan/1", "api:1e9/1", "2.5/10", "api:9999999/1"]
)
def test_garbage_is_no_price_of_an_api(text: str) -> None:
    with pytest.raises(UsageError, match=r"--against api:2\.5/10"):
        parse_api_price(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--month", "november"), "write year and month: --month 2026-11"),
        (("--against", "gpt"), "--against api:2.5/10"),
        (("--csv", "--json"), "give one of them"),
        (("--price-per-hour", "nan"), "between 0 and"),
        (("--price-per-hour", "-1"), "between 0 and"),
        (("--file", "/no/such/file"), "name the bill.sqlite of a server"),
        (("--by", "week"), "farthing bill --help"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, error = run(capsys, *arguments, code=2)
    assert text == "" and said in error and error.count("\n") == 1


def test_where_nothing_was_served_it_is_said_kindly_and_what_to_do(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text, said = run(capsys)
    assert text == "" and "farthing serve writes it" in said
    text, said = run(capsys, "--file", str(file), "--month", "2025-02")
    assert (text, said) == ("", "nothing was served in February 2025; there are bills of 2026-11: --month 2026-11\n")
    assert json.loads(run(capsys, "--json")[0])["lines"] == []


def test_the_month_is_the_current_one_unless_another_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    book = BillBook(tmp_path / "bill.sqlite")
    book.clock(model="m", seconds=1.0, dollars=1.0)
    months = [time.strftime("%Y-%m", time.gmtime())]
    book.close()
    months.append(time.strftime("%Y-%m", time.gmtime()))
    assert json.loads(run(capsys, "--file", str(tmp_path / "bill.sqlite"), "--json")[0])["month"] in months


@pytest.mark.parametrize("by", ["key", "model", "day"])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_keeps_to_the_width_of_the_terminal(tmp_path: Path, by: str, width: int) -> None:
    path = tmp_path / "bill.sqlite"
    book = BillBook(path, now=lambda: NOON)
    for key in ("a", "a-name-of-" + "x" * 54):
        book.charge(key=key, model="some-organization/some-model-of-some-size", seconds=1e5, dollars=1234.5)
        book.finished(key=key, model="some-organization/some-model-of-some-size", prompt_tokens=10**9,
                      cached_tokens=10**8, output_tokens=10**9)  # fmt: skip
    book.clock(model="some-organization/some-model-of-some-size", seconds=2e6, dollars=23456.78)
    book.close()
    bill = read_bill(path, month="2026-11", by=by)  # type: ignore[arg-type]
    lines = list(bill_lines(bill, compare(bill, ApiPrice(2.5, 10.0)), width))
    assert max(map(len, lines[1:])) <= width
    if width >= 80:
        assert any(line.startswith("total") and line.endswith("$25,000.00") for line in lines)
    assert any(line.startswith("total") and "$23,456.78" in line for line in lines)


def test_it_needs_no_extra(file: Path) -> None:
    code = f"""
import atexit, sys
atexit.register(lambda: print(*sys.modules))
from farthing.cli.app import main
main({["bill", *november(file)]})
"""
    source = str(Path(farthing.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "farthing.engine.accounts.statement" in loaded
    assert not loaded & {"torch", "msgspec", "fastapi", "numpy", "zmq", "huggingface_hub"}


# --- dollars and durations as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"), (0.0, "$0.00"), (1234.5, "$1,234.50"), (0.052, "$0.052"), (0.12, "$0.12"), (-0.3, "-$0.30"),
        (1e-6, "$0.000001"), (-1e-17, "$0.00"), (0.9999, "$1.00"),
    ],
)  # fmt: skip
def test_dollars_have_cents_at_least_and_three_digits(value: float | None, text: str) -> None:
    assert dollars(value) == text


def test_a_column_of_dollars_has_one_number_of_decimals() -> None:
    assert dollars_column([0.01234, None, 0.5]) == ["$0.012", "-", "$0.500"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (3.21, "3.2 s"), (75, "75 s"), (900, "15 min"), (7199, "2.0 h"), (54_000, "15.0 h"), (2.6e6, "722 h")],
)
def test_durations_end_at_hours(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(None, "-"), (0.0, "0 %"), (0.0123, "1.2 %"), (0.425, "42 %"), (1.0, "100 %")]
)
def test_a_small_share_shows_a_decimal(ratio: float | None, text: str) -> None:
    assert percent(ratio) == text
