"""The files that every floor stands on: errors, units, registration by file name, sampling parameters."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing import discover, errors
from farthing.errors import FarthingError, RequestError
from farthing.sampling_params import MAX_LOGPROBS, MAX_N, MAX_STOP_STRINGS, SamplingParams
from farthing.units import format_bytes, format_count, format_seconds, parse_bytes

# --- errors


@given(st.text(), st.text())
def test_the_text_of_an_error_is_one_line_whatever_went_into_it(what: str, fix: str) -> None:
    assert len(str(FarthingError(what, fix=fix)).splitlines()) <= 1


def test_an_error_says_what_happened_and_then_what_to_do() -> None:
    error = RequestError("the prompt\n  is empty", fix="give  text")
    assert (error.what, error.fix, str(error)) == (
        "the prompt is empty",
        "give text",
        "the prompt is empty - give text",
    )


def test_every_error_of_the_tree_is_a_farthing_error() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(found) > 8 and all(issubclass(error, FarthingError) for error in found)


# --- units


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (25_757_220_864, "23.99 GiB"), (-(2**31), "-2.00 GiB")],
)
def test_memory_is_printed_in_binary_units(num_bytes: int, text: str) -> None:
    assert format_bytes(num_bytes) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "", "0"),
        (7, "FLOP", "7 FLOP"),
        (999, "", "999"),
        (999_700, "B/s", "1 MB/s"),
        (1_008e9, "B/s", "1.01 TB/s"),
        (6_738_415_616, "", "6.74 G"),
        (0.5, "", "0.5"),
    ],
)
def test_counts_are_printed_with_three_digits_and_a_decimal_prefix(value: float, unit: str, text: str) -> None:
    assert format_count(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ns"),
        (3e-9, "3 ns"),
        (2.5e-6, "2.5 us"),
        (0.00123, "1.23 ms"),
        (0.9997, "1 s"),
        (75, "75 s"),
        (999.7, "1000 s"),
        (86_400, "86400 s"),
    ],
)
def test_a_duration_is_printed_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@given(st.floats(min_value=1e-9, max_value=1e17))
def test_printed_counts_and_durations_are_within_half_a_percent_and_never_in_powers_of_ten(value: float) -> None:
    prefixes = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    for text in (format_count(max(value, 1e-3)), format_seconds(value)):
        number, _, prefix = text.partition(" ")
        expected = value if "s" in prefix else max(value, 1e-3)
        assert float(number) * prefixes[prefix] == pytest.approx(expected, rel=0.0051)
        assert "e" not in number


@given(st.integers(min_value=1, max_value=2**60))
def test_a_printed_size_reads_back_as_nearly_itself(num_bytes: int) -> None:
    assert parse_bytes(format_bytes(num_bytes)) == pytest.approx(num_bytes, rel=0.005)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [
        ("1", 1),
        (" 1073741824 ", 2**30),
        ("20GiB", 20 * 2**30),
        ("20gib", 20 * 2**30),
        ("512 MB", 512_000_000),
        ("1.5K", 1500),
        ("2TiB", 2**41),
        ("1e3 B", 1000),
    ],
)
def test_sizes_are_read_in_both_kinds_of_units(text: str, num_bytes: int) -> None:
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GB", "0", "0.5", "nan", "inf", "1e400", "9EiB", "1 GG", "10 000 000 TiB"]
)
def test_what_is_no_size_is_refused_by_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match=repr(text)):
        parse_bytes(text)


# --- a file's name is its registration


def test_a_file_dropped_into_a_package_is_found_and_a_private_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_parts"
    package.mkdir()
    for name in ("__init__", "beta", "alpha", "_private"):
        (package / f"{name}.py").write_text(f"HERE = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert discover.names("some_parts") == ("alpha", "beta")
    assert "some_parts.alpha" not in sys.modules  # to know the names is not to import them
    assert discover.load("some_parts", "alpha").HERE == "alpha"
    with pytest.raises(KeyError, match=r"gamma.*alpha, beta"):
        discover.load("some_parts", "gamma")
    with pytest.raises(KeyError):
        discover.load("some_parts", "_private")


# --- sampling parameters

BAD = {
    "temperature": (-0.1, 100.1, float("nan"), float("inf"), "1", None, True, 10**400),
    "top_p": (0, 0.0, 1.01, -1, float("nan"), None),
    "min_p": (-0.01, 1.01, float("nan"), None),
    "repetition_penalty": (0, -1.0, 101, float("inf"), None),
    "presence_penalty": (-2.1, 2.1, float("nan")),
    "frequency_penalty": (-2.1, 2.1, "0"),
    "top_k": (0, -1, 1.5, True, 2**31),
    "seed": (2**64, -(2**63) - 1, 1.0, "7", True),
    "n": (0, MAX_N + 1, 1.0, None, True),
    "max_tokens": (0, -1, 2**31, 8.0),
    "min_tokens": (-1, 1.0, None),
    "logprobs": (-1, MAX_LOGPROBS + 1, True, 1.0),
    "prompt_logprobs": (-1, MAX_LOGPROBS + 1),
    "stop": ("END", ("",), ("a", ""), (1,), ("a",) * (MAX_STOP_STRINGS + 1)),
    "stop_token_ids": ((-1,), (2**31,), (None,), ("5",), (True,)),
    "logit_bias": ({-1: 0.0}, {None: 0.0}, {2**31: 0.0}, {"5": 0.0}, {5: 100.5}, {5: float("nan")}, {5: None}),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_field_out_of_range_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=name) as refused:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    "accepted",
    [
        {"temperature": 0},
        {"temperature": 100.0},
        {"temperature": 1e-40},
        {"top_p": 1e-9},
        {"top_p": 1},
        {"min_p": 1.0},
        {"seed": 2**64 - 1},
        {"seed": -(2**63)},
        {"n": MAX_N},
        {"logprobs": 0},
        {"logprobs": MAX_LOGPROBS},
        {"stop": ["a"] * MAX_STOP_STRINGS},
        {"logit_bias": {0: -100.0, 2**31 - 1: 100}},
        {"min_tokens": 5, "max_tokens": 5},
        {"top_k": None, "seed": None, "max_tokens": None, "logprobs": None},
    ],
    ids=str,
)
def test_the_borders_of_each_range_are_inside(accepted: dict[str, object]) -> None:
    params = SamplingParams(**accepted)  # type: ignore[arg-type]
    assert all(getattr(params, name) == value for name, value in accepted.items())


def test_fewer_tokens_at_most_than_at_least_are_refused() -> None:
    with pytest.raises(RequestError, match="min_tokens 6 is above max_tokens 5"):
        SamplingParams(min_tokens=6, max_tokens=5)


def test_only_penalties_need_the_tokens_before_and_only_temperature_0_is_greedy() -> None:
    assert not SamplingParams(logit_bias={1: 1.0}, min_tokens=3, top_k=5).needs_history
    assert all(
        SamplingParams(**{name: 0.5}).needs_history
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
    )
    assert SamplingParams(temperature=0).greedy and not SamplingParams(temperature=1e-9, top_k=1).greedy
