"""A file of requests: rows and the errors of rows, the same at every reading, in memory that does not grow with it."""

import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest
from batch_rows import completion_row, write_rows

from farthing.client.batch_file import MAX_LINE_BYTES, Reading, check_input
from farthing.errors import UsageError


def test_rows_are_numbered_and_blank_lines_are_none(tmp_path: Path):
    path = write_rows(tmp_path / "in.jsonl", [completion_row(1), "", "  \r", completion_row(2)])
    rows = list(Reading(path))
    assert [(row.index, row.line, row.custom_id) for row in rows] == [(0, 1, "row-1"), (1, 4, "row-2")]
    assert rows[0].body["max_tokens"] == 16 and rows[0].url == "/v1/completions"


def test_a_byte_order_mark_windows_lines_and_a_last_line_without_end_are_taken(tmp_path: Path):
    path = tmp_path / "in.jsonl"
    lines = [json.dumps(completion_row(number)).encode() for number in (1, 2)]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    assert [row.error for row in Reading(path)] == [None, None]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nonsense", "invalid_json"),
        ("[1]", "invalid_json"),
        ('{"custom_id": "a", "body": {"temperature": NaN}}', "invalid_json"),
        ("[" * 100_000, "invalid_json"),
        ('{"method": "POST"}', "missing_custom_id"),
        ('{"custom_id": ""}', "missing_custom_id"),
        ('{"custom_id": 7}', "invalid_custom_id"),
        ('{"custom_id": "\\ud800"}', "invalid_custom_id"),
        ('{"custom_id": "a", "method": "GET"}', "invalid_method"),
        ('{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {}}', "unsupported_url"),
        ('{"custom_id": "a", "method": "POST", "url": "/v1/files", "body": {}}', "unsupported_url"),
        ('{"custom_id": "a", "method": "POST", "url": ["/v1/completions"], "body": {}}', "unsupported_url"),
        ('{"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": "x"}', "invalid_body"),
    ],
)
def test_a_row_that_asks_nothing_is_an_error_with_its_line_and_the_next_is_read(tmp_path: Path, line: str, code: str):
    first, second = Reading(write_rows(tmp_path / "in.jsonl", [line, completion_row(2)]))
    assert first.error is not None and first.error.code == code and "line 1" in first.error.message
    assert (second.custom_id, second.error) == ("row-2", None)


def test_bytes_that_are_no_text_are_an_error(tmp_path: Path):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"custom_id": "\xff"}\n')
    assert [row.error.code for row in Reading(path) if row.error] == ["invalid_json"]


def test_the_second_row_of_a_custom_id_is_an_error_and_has_an_id_of_its_own(tmp_path: Path):
    rows = list(Reading(write_rows(tmp_path / "in.jsonl", [completion_row(1), completion_row(2), completion_row(1)])))
    assert [row.error.code if row.error else None for row in rows] == [None, None, "duplicate_custom_id"]
    assert len({row.id for row in rows}) == 3


def test_duplicates_are_found_among_many(tmp_path: Path):
    numbers = [*range(5000), *range(0, 5000, 7)]
    rows = list(Reading(write_rows(tmp_path / "in.jsonl", map(completion_row, numbers))))
    assert all(row.error is None for row in rows[:5000]) and all(row.error for row in rows[5000:])


def test_a_line_that_is_too_long_is_an_error_and_the_next_is_read(tmp_path: Path):
    long = completion_row(1, prompt="x" * (MAX_LINE_BYTES + 10))
    first, second = Reading(write_rows(tmp_path / "in.jsonl", [long, completion_row(2)]))
    assert first.error is not None and first.error.code == "line_too_long" and second.error is None


def test_every_reading_gives_the_same_rows_and_the_digest_of_the_file(tmp_path: Path):
    path = write_rows(tmp_path / "in.jsonl", [completion_row(1), "bad", completion_row(1), ""])
    first, second = Reading(path), Reading(path)
    assert list(first) == list(second)
    assert first.whole_sha256() == second.whole_sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    peaks = []
    for number in (200, 4000):
        path = write_rows(tmp_path / "in.jsonl", (completion_row(i, prompt="word " * 400) for i in range(number)))
        tracemalloc.start()
        assert sum(1 for _ in Reading(path)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 400_000  # of 8 MB more


def test_what_can_not_be_read_twice_is_refused(tmp_path: Path):
    for path in (tmp_path, tmp_path / "absent", Path("/dev/null")):
        with pytest.raises(UsageError):
            check_input(path)
