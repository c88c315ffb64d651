"""The journal: what is in it is done, whatever became of the process; what is torn is not."""

import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from farthing.client.batch_journal import Head, Journal
from farthing.client.batch_result import Facts, Result
from farthing.errors import UsageError

HEAD = Head("ab" * 32, 100, 1700000000, "bundled")


def result(number: int, *, failed: bool = False) -> Result:
    return Result(json.dumps({"row": number, "text": "\t é\u2028"}).encode(), Facts(failed, output_tokens=number))


def begun(output: Path, *, num_rows: int, head: Head = HEAD) -> Journal:
    journal = Journal(output)
    journal.tally.num_rows = num_rows
    if journal.head is None:
        journal.begin(head)
    return journal


def test_the_output_has_the_order_of_the_input_and_the_journal_is_gone(tmp_path: Path):
    output = tmp_path / "out.jsonl"
    with begun(output, num_rows=50) as journal:
        numbers = list(range(50))
        random.Random(1).shuffle(numbers)
        for number in numbers:
            journal.append(number, result(number))
            assert not output.exists()
        journal.write_output()
    assert [json.loads(line)["row"] for line in output.read_text().splitlines()] == list(range(50))
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_journal_that_nobody_closed_is_gone_on_with(tmp_path: Path):
    output = tmp_path / "out.jsonl"
    process = os.fork()
    if process == 0:
        journal = begun(output, num_rows=3)
        journal.append(2, result(2, failed=True))
        journal.append(0, result(0))
        os._exit(0)
    os.waitpid(process, 0)
    with begun(output, num_rows=3) as journal:
        assert journal.head == HEAD
        assert [journal.is_done(index) for index in range(4)] == [True, False, True, False]
        assert (journal.tally.num_done, journal.tally.num_failed, journal.tally.output_tokens) == (2, 1, 2)
        journal.append(1, result(1))
        journal.write_output()
    assert [json.loads(line)["row"] for line in output.read_text().splitlines()] == [0, 1, 2]


def test_a_journal_cut_or_damaged_anywhere_gives_the_same_output_when_gone_on_with(tmp_path: Path):
    output, expected = tmp_path / "out.jsonl", [json.loads(result(number).line) for number in range(6)]
    with begun(output, num_rows=6) as journal:
        for number in (3, 0, 5, 1, 2, 4):
            journal.append(number, result(number))
    whole, chance = journal.path.read_bytes(), random.Random(2)
    head_bytes = len(HEAD.to_json())
    for turn in range(200):
        damaged = bytearray(whole[: chance.randrange(len(whole) + 1)])
        if turn % 2 and len(damaged) > head_bytes:
            place = chance.randrange(head_bytes, len(damaged))
            damaged[place:] = bytes(len(damaged) - place) if turn % 4 == 1 else chance.randbytes(len(damaged) - place)
        journal.path.write_bytes(damaged)
        with begun(output, num_rows=6) as journal:
            for number in range(6):
                if not journal.is_done(number):
                    journal.append(number, result(number))
            journal.write_output()
        assert [json.loads(line) for line in output.read_text().splitlines()] == expected


def test_what_is_kept_grows_with_what_is_cut_less_and_less(tmp_path: Path):
    """A cut behind a whole line loses none of the lines before it."""
    output = tmp_path / "out.jsonl"
    with begun(output, num_rows=4) as journal:
        for number in range(4):
            journal.append(number, result(number))
    lines = journal.path.read_bytes().splitlines(keepends=True)
    for number in range(5):
        journal.path.write_bytes(b"".join(lines[: number + 1]) + b"12ab\t9")
        with Journal(output) as again:
            assert again.tally.num_done == number


def test_a_second_batch_on_the_same_output_is_refused_while_the_first_is_at_work(tmp_path: Path):
    output = tmp_path / "out.jsonl"
    with begun(output, num_rows=1) as journal:
        journal.append(0, result(0))
        with pytest.raises(UsageError, match="another batch"):
            Journal(output)
    with Journal(output) as journal:
        assert journal.head == HEAD


def test_one_in_which_nothing_is_done_leaves_nothing(tmp_path: Path):
    with Journal(tmp_path / "out.jsonl"):
        pass
    with begun(tmp_path / "out.jsonl", num_rows=1):
        pass
    assert list(tmp_path.iterdir()) == []


def test_one_in_which_nothing_is_done_may_become_another(tmp_path: Path):
    (tmp_path / "out.jsonl.part").write_bytes(HEAD.to_json() + b"12ab")
    other = Head("cd" * 32, 1, 0, "another")
    with Journal(tmp_path / "out.jsonl") as journal:
        journal.begin(other)
        journal.append(0, result(0))
    with Journal(tmp_path / "out.jsonl") as journal:
        assert (journal.head, journal.tally.num_done) == (other, 1)


def test_restart_forgets_what_was_done(tmp_path: Path):
    with begun(tmp_path / "out.jsonl", num_rows=1) as journal:
        journal.append(0, result(0))
    with Journal(tmp_path / "out.jsonl", restart=True) as journal:
        assert journal.head is None and journal.tally.num_done == 0


def test_a_file_of_that_name_that_is_no_journal_is_left_alone(tmp_path: Path):
    (tmp_path / "out.jsonl.part").write_text("my own notes\n")
    with pytest.raises(UsageError, match="no journal"):
        Journal(tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl.part").read_text() == "my own notes\n"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Head("cd" * 32, 100, 0, "bundled"), "another input"),
        (Head(HEAD.sha256, 99, 0, "bundled"), "another input"),
        (Head(HEAD.sha256, 100, 0, "llama"), "model bundled, not llama"),
        (Head(HEAD.sha256, 100, 0, "bundled", {"format": "fp32"}), "not with --format fp32"),
    ],
)
def test_another_input_model_or_option_is_told(other: Head, said: str):
    assert said in (HEAD.difference(other) or "")


def test_a_later_time_of_the_input_is_no_other_input():
    assert HEAD.difference(Head(HEAD.sha256, 100, 1800000000, "bundled")) is None


def test_outputs_that_can_not_be_are_refused(tmp_path: Path):
    for output in (tmp_path, tmp_path / "absent" / "out", Path("/dev/null")):
        with pytest.raises(UsageError):
            Journal(output)


def test_a_link_stays_one(tmp_path: Path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "out.jsonl"
    link.symlink_to(tmp_path / "real" / "answers.jsonl")
    with begun(link, num_rows=1) as journal:
        journal.append(0, result(0))
        journal.write_output()
    assert link.is_symlink() and json.loads(link.read_text())["row"] == 0


def test_a_full_disk_is_told_and_what_was_done_before_is_kept(tmp_path: Path):
    """A limit on the size of files stands for the disk, in a process of its own."""
    output = tmp_path / "out.jsonl"
    code = f"""
import resource, signal
from pathlib import Path
from farthing.client.batch_journal import Head, Journal, JournalError
from farthing.client.batch_result import Facts, Result
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
with Journal(Path({str(output)!r})) as journal:
    journal.begin(Head("ab", 1, 0, "m"))
    try:
        for number in range(100):
            journal.append(number, Result(b'{{"a": "' + b"x" * 400 + b'"}}', Facts()))
    except JournalError as error:
        print(number, error)
"""
    said = _python(code)
    assert "make room" in said
    with Journal(output) as journal:
        assert journal.tally.num_done == int(said.split()[0]) > 5


def test_memory_does_not_grow_with_the_answers(tmp_path: Path):
    peaks = []
    for size in (10, 10_000):
        tracemalloc.start()
        with begun(tmp_path / "out.jsonl", num_rows=1000) as journal:
            for number in reversed(range(1000)):
                journal.append(number, Result(b'{"a": "%b"}' % (b"x" * size), Facts()))
        with begun(tmp_path / "out.jsonl", num_rows=1000) as journal:
            journal.write_output()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 200_000  # of 10 MB more


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
