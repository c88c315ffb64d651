"""Recorded load: what is read, and what is refused with the line's number."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.client.load_trace import TraceLine, read_trace
from farthing.errors import UsageError

FOUND = [TraceLine(0.0, 10, 20), TraceLine(1.5, 30, 40)]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "trace"


@pytest.mark.parametrize(
    "text",
    [
        "0,10,20\n1.5,30,40\n",
        "1.5,30,40\n\n0,10,20",
        "arrival,input_tokens,output_tokens\n0,10,20\n1.5,30,40\n",
        "\ufeffoutput_tokens, input_tokens, note, ARRIVAL\n20,10,x,0\n40,30,,1.5\n",
        "timestamp,ContextTokens,GeneratedTokens\n0,10,20\n1.5,30,40\n",
        '{"arrival": 0, "input_tokens": 10, "output_tokens": 20}\n{"arrival": 1.5, "input_tokens": 30, '
        '"output_tokens": 40, "more": [1]}\n',
        '{"timestamp": 1.5, "input_length": 30, "output_length": 40}\n{"timestamp": 0, "input_length": 10, '
        '"output_length": 20}\n',
    ],
)
def test_a_trace_is_jsonl_or_csv_in_any_order(trace: Path, text: str):
    trace.write_text(text, encoding="utf-8")
    assert read_trace(trace) == FOUND


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("soon,1,2", "arrival is 'soon'"),
        ("1,2", "2 cells, not 3"),
        ("nan,1,2", "arrival is 'nan'"),
        ("-1,1,2", "before the beginning"),
        ("1,0,2", "input_tokens is 0"),
        ("1,1.5,2", "input_tokens is 1.5"),
        ("1,1,1e9", "output_tokens is 1e+09"),
        ('{"arrival": 1, "input_tokens": 2}', "no output_tokens"),
        ('{"arrival": true, "input_tokens": 2, "output_tokens": 3}', "arrival is 'True'"),
        ('{"arrival": 1, "input_tokens": [2], "output_tokens": 3}', "input_tokens is"),
        ("{", "no JSON"),
        ("1,2," + "3" * 20_000, "characters"),
    ],
)
def test_garbage_is_named_with_its_line(trace: Path, bad: str, reason: str):
    trace.write_text(f"0,10,20\n{bad}\n")
    with pytest.raises(UsageError) as caught:
        read_trace(trace)
    assert "line 2 of" in str(caught.value) and reason in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"arrival,input_tokens,output_tokens\n", b"\xff\xfe\x00"])
def test_a_file_without_a_request_is_refused(trace: Path, content: bytes):
    trace.write_bytes(content)
    with pytest.raises(UsageError, match="trace"):
        read_trace(trace)


def test_a_file_that_is_not_there_is_refused(trace: Path):
    for path in (trace, trace.parent):
        with pytest.raises(UsageError, match="can't be read"):
            read_trace(path)


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_no_bytes_are_anything_but_a_trace_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(content)
    with suppress(UsageError):
        assert read_trace(path)
