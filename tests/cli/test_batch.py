"""`farthing batch` as a person meets it: a file of answers, whatever happens on the way; and what it refuses."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from batch_rows import completion_row, read_rows, write_rows
from server_process import SLOW, serving

from farthing.cli.app import main
from farthing.cli.batch import next_moment
from farthing.errors import UsageError

Refusal = Callable[..., str]
HANG_SECONDS = 120.0


def start(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "farthing", "batch", *map(str, arguments)],
        cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, what it answered and what it said."""
    answered, said = process.communicate(timeout=HANG_SECONDS)
    return process.returncode, answered, said


def batch(*arguments: object, folder: Path) -> tuple[int, str, str]:
    return finish(start(*arguments, folder=folder))


def await_lines(path: Path, number: int, process: subprocess.Popen[str]) -> None:
    """Until the file has so many lines, or the process has ended."""
    deadline = time.monotonic() + HANG_SECONDS
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < number):
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """The one line of an error: exit code 2, nothing on stdout."""

    def refused(*arguments: object) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["batch", *map(str, arguments)])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert (caught.value.code, captured.out, len(lines)) == (2, "", 1), captured
        return lines[0]

    return refused


def test_a_batch_with_an_engine_of_its_own_answers_a_file_and_leaves_nothing_else(tmp_path: Path):
    rows: list[Any] = [completion_row(number) for number in range(6)]
    rows[1]["body"]["model"] = "gpt-x"
    rows += ["nonsense", completion_row(0), completion_row("long", prompt="word " * 900)]
    write_rows(tmp_path / "in.jsonl", rows)
    arguments = ("in.jsonl", "-o", "out.jsonl", "--threads", 1, "--json", "--served-model-name", "tiny")
    code, answered, said = batch(*arguments, folder=tmp_path)
    results = read_rows(tmp_path / "out.jsonl")
    assert code == 1, said
    assert [row["custom_id"] for row in results] == [f"row-{n}" for n in range(6)] + [None, "row-0", "row-long"]
    codes = [row["error"]["code"] if row["error"] else None for row in results]
    refusals = ["invalid_json", "duplicate_custom_id", "context_length_exceeded"]
    assert codes == [None, "model_not_found", None, None, None, None, *refusals]
    assert results[0]["response"]["body"]["model"] == "tiny"
    figures = json.loads(answered)
    assert figures["schema"] == "farthing.batch/1"
    assert (figures["rows"], figures["rows_failed"], figures["rows_left"]) == (9, 4, 0)
    assert figures["output_tokens"] == 5 * 16 and figures["forecast"]["max_output_tokens"] == 7 * 16
    assert "1 rows ask for 'gpt-x'" in said and "--served-model-name" in said
    assert "9 rows (2 can't be asked)" in said and "9 rows, 4 failed" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_what_is_complete_is_said_to_be_and_is_not_asked_again(tmp_path: Path, refusal: Refusal):
    source, output = write_rows(tmp_path / "in.jsonl", ["nonsense", "more"]), tmp_path / "out.jsonl"
    assert batch(source, "-o", output, folder=tmp_path)[0] == 1
    before = output.stat().st_mtime_ns
    code, _, said = batch(source, "-o", output, folder=tmp_path)
    assert code == 1 and "complete already (2 rows failed)" in said and output.stat().st_mtime_ns == before
    assert batch(source, "-o", output, "--dry-run", folder=tmp_path)[0] == 1
    write_rows(source, ["nonsense", "more", "and more"])
    assert "--restart" in refusal(source, "-o", output)
    assert batch(source, "-o", output, "--restart", folder=tmp_path)[0] == 1
    assert len(read_rows(output)) == 3


def test_what_is_complete_tells_programs_the_figures_that_it_still_has(tmp_path: Path):
    write_rows(tmp_path / "in.jsonl", map(completion_row, range(3)))
    arguments = ("in.jsonl", "-o", "out.jsonl", "--threads", 1, "--json")
    code, answered, said = batch(*arguments, folder=tmp_path)
    assert code == 0, said
    first = json.loads(answered)
    code, answered, said = batch(*arguments, folder=tmp_path)
    again = json.loads(answered)
    assert code == 0 and "complete already;" in said and list(again) == list(first)
    untold = {"cached_tokens", "engine_seconds", "dollars", "share_of_limit", "forecast"}
    assert {name for name in first if again[name] is None} >= untold
    kept = {"output", "rows", "rows_done", "rows_failed", "rows_left", "prompt_tokens", "output_tokens"}
    assert all(again[name] == first[name] for name in kept) and again["output_tokens"] == 3 * 16


def kill_ten_times(folder: Path, arguments: Sequence[object], *, num_rows: int) -> None:
    """Kills of the whole process at random points, each after it has done something more or while it begins."""
    chance = random.Random(5)
    part = folder / "out.jsonl.part"
    for turn in range(10):
        done = part.read_bytes().count(b"\n") if part.exists() else 0
        process = start("in.jsonl", "-o", "out.jsonl", *arguments, folder=folder)
        if turn % 5 == 4:
            time.sleep(chance.uniform(0.0, 1.0))
        else:
            await_lines(part, min(done + chance.randrange(1, 7), num_rows), process)
            time.sleep(chance.uniform(0.0, 0.05))
        assert process.poll() is None, finish(process)
        process.kill()
        process.communicate()
    code, _, said = batch("in.jsonl", "-o", "out.jsonl", *arguments, folder=folder)
    assert code == 0 and " of " in said, said


def test_a_batch_that_is_killed_ten_times_gives_the_same_file_and_asks_nothing_twice(tmp_path: Path):
    """Of what was done, nothing: what was in flight at a kill is asked again."""
    num_rows, concurrency = 70, 3
    write_rows(tmp_path / "in.jsonl", (completion_row(number, max_tokens=10) for number in range(num_rows)))
    with serving(engine=SLOW) as server:
        arguments = ("--server", server.url, "--concurrency", concurrency)
        kill_ten_times(tmp_path, arguments, num_rows=num_rows)
        server.await_idle()
        num_ended = len(server.events("request"))
        assert batch("in.jsonl", "-o", "whole.jsonl", *arguments, folder=tmp_path)[0] == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert num_rows <= num_ended <= num_rows + 10 * concurrency


@pytest.mark.slow
def test_a_batch_that_is_killed_ten_times_with_its_engine_gives_the_same_file(tmp_path: Path):
    write_rows(tmp_path / "in.jsonl", map(completion_row, range(150)))
    arguments = ("--batch-invariant", "--threads", 1, "--concurrency", 4)
    kill_ten_times(tmp_path, arguments, num_rows=150)
    assert batch("in.jsonl", "-o", "whole.jsonl", *arguments, folder=tmp_path)[0] == 0
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_however_a_batch_is_ended_its_engine_ends_and_what_is_done_is_kept(tmp_path: Path, number: int, code: int):
    rows = (completion_row(number, max_tokens=300, ignore_eos=True) for number in range(200))
    write_rows(tmp_path / "in.jsonl", rows)
    process = start("in.jsonl", "-o", "out.jsonl", "--threads", 1, "--concurrency", 2, folder=tmp_path)
    await_lines(tmp_path / "out.jsonl.part", 2, process)
    children = children_of(process)
    assert len(children) >= 2
    process.send_signal(number)
    ended, _, said = finish(process)
    assert ended == code, said
    assert ("the same command goes on" in said) == (code > 0)
    psutil.wait_procs(children, timeout=20)
    assert not [child for child in children if child.is_running()]
    assert (tmp_path / "out.jsonl.part").read_bytes().count(b"\n") >= 2
    assert not (tmp_path / "out.jsonl").exists()


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path):
    """While the server of its own, which is stopped, does not end."""
    write_rows(tmp_path / "in.jsonl", [completion_row(1, max_tokens=300, ignore_eos=True)])
    process = start("in.jsonl", "-o", "out.jsonl", "--threads", 1, folder=tmp_path)
    await_lines(tmp_path / "out.jsonl.part", 1, process)
    time.sleep(0.5)
    children = children_of(process)
    for child in children:
        child.suspend()
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.communicate()
    for child in children:
        if child.is_running():
            child.resume()
    psutil.wait_procs(children, timeout=20)


def test_another_input_model_or_option_is_not_gone_on_with(tmp_path: Path, refusal: Refusal):
    source, output = write_rows(tmp_path / "in.jsonl", map(completion_row, range(200))), tmp_path / "out.jsonl"
    process = start(source, "-o", output, "--threads", 1, "--concurrency", 2, folder=tmp_path)
    await_lines(tmp_path / "out.jsonl.part", 3, process)
    assert "another batch is at work" in refusal(source, "-o", output)
    process.kill()
    process.communicate()
    code, answered, said = batch(source, "-o", output, "--dry-run", "--threads", 1, "--json", folder=tmp_path)
    kept = (tmp_path / "out.jsonl.part").read_bytes()
    assert code == 0, said
    assert json.loads(answered)["forecast"]["rows_to_ask"] == 200 - (kept.count(b"\n") - 1) < 200
    assert "with --format fp32" in refusal(source, "-o", output, "--format", "fp32", "--dry-run")
    assert "with --format fp32" in refusal(source, "-o", output, "--format", "fp32")
    link = tmp_path / "model"
    link.mkdir()
    assert "model bundled" in refusal(source, "-o", output, "-m", link)
    write_rows(source, map(completion_row, range(199)))
    assert "another input" in refusal(source, "-o", output)
    assert "--restart" in refusal(source, "-o", output)
    assert (tmp_path / "out.jsonl.part").read_bytes() == kept


def test_a_dry_run_says_what_is_expected_and_starts_nothing(tmp_path: Path):
    rows = [completion_row(number, max_tokens=50) for number in range(30)]
    chat = {"messages": [{"role": "user", "content": "Tell me a story."}]}
    rows.append({"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat})
    write_rows(tmp_path / "in.jsonl", [*rows, "nonsense"])
    code, answered, said = batch("in.jsonl", "--dry-run", "--price-per-hour", 0.5, "--json", folder=tmp_path)
    assert code == 0, said
    expected = json.loads(answered)["forecast"]
    assert (expected["rows"], expected["rows_refused"], expected["rows_to_ask"]) == (32, 1, 31)
    assert expected["max_output_tokens"] == 30 * 50 + 256
    assert 250 < expected["prompt_tokens"] < 400
    if expected["seconds"] is not None:  # where this machine has been measured
        assert expected["dollars"] == pytest.approx(expected["seconds"] * 0.5 / 3600)
    else:
        assert any(note.startswith("no time: ") for note in expected["assumed"])
    assert any("chat template" in note for note in expected["assumed"])
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]
    code, answered, _ = batch("in.jsonl", "--dry-run", folder=tmp_path)
    assert code == 0 and "32 rows (1 can't be asked)" in answered and "at most" in answered


def test_a_key_is_asked_for_before_anything_is_begun_and_then_taken(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text("night:0123456789abcdef0123\n")
    write_rows(tmp_path / "in.jsonl", map(completion_row, range(3)))
    with serving(api_keys=str(keys)) as server:
        arguments = ("in.jsonl", "-o", "out.jsonl", "--server", server.url)
        code, _, said = batch(*arguments, folder=tmp_path)
        assert code == 2 and "--key-file" in said
        code, _, said = batch(*arguments, "--dry-run", "--key-file", keys, folder=tmp_path)
        assert code == 0 and not server.events("request")
        code, _, said = batch(*arguments, "--key-file", keys, folder=tmp_path)
        assert code == 0, said
        assert {event["caller"] for event in server.events("request")} == {"night"}
    assert len(read_rows(tmp_path / "out.jsonl")) == 3


def test_a_batch_whose_engine_has_no_room_says_so_and_names_the_way_out(tmp_path: Path):
    write_rows(tmp_path / "in.jsonl", [completion_row(1)])
    code, _, said = batch("in.jsonl", "-o", "out.jsonl", "--memory", "20MiB", folder=tmp_path)
    last = said.splitlines()[-1]
    assert code == 2 and "does not fit" in last and "--server" in last, said
    code, _, said = batch("in.jsonl", "-o", "out.jsonl", "--threads", 1, folder=tmp_path)
    assert code == 0, said


def test_mistakes_are_told_before_anything_is_started(tmp_path: Path, refusal: Refusal):
    source = write_rows(tmp_path / "in.jsonl", [completion_row(1)])
    empty = write_rows(tmp_path / "empty.jsonl", ["", " "])
    output = tmp_path / "out.jsonl"
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    for arguments, told in (
        ((source,), "-o out.jsonl"),
        ((source, "-o", source), "input itself"),
        ((tmp_path / "absent", "-o", output), "can't be read"),
        ((empty, "-o", output), "has no rows"),
        ((source, "-o", tmp_path / "no" / "out"), "folder"),
        ((source, "-o", output, "--until", "25:00"), "HH:MM"),
        ((source, "-o", output, "--concurrency", 0), "--concurrency"),
        ((source, "-o", output, "--price-per-hour", -1), "price"),
        ((source, "-o", output, "--key-file", source), "--server"),
        ((source, "-o", output, "--server", nobody, "-m", "bundled"), "--model"),
        ((source, "-o", output, "--server", nobody, "--threads", 2), "--threads"),
        ((source, "-o", output, "--server", nobody, "--yes"), "--yes"),
        ((source, "-o", output, "--server", nobody, "--offline"), "--offline"),
        ((source, "-o", output, "--dry-run", "--until", "07:00"), "--until"),
        ((source, "-o", output, "--dry-run", "--restart"), "--restart"),
        ((source, "-o", source, "--dry-run"), "input itself"),
        ((source, "-o", output, "--server", nobody), "no server answers"),
        ((source, "-o", output, "--server", "ftp://x"), "http://HOST:PORT"),
        ((source, "-o", output, "-m", "lama-3.1-8b"), "llama-3.1-8b"),
    ):
        assert told in refusal(*arguments), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "in.jsonl"]


def test_a_time_of_day_is_the_next_such_moment():
    now = datetime(2026, 11, 29, 22, 30, 15)
    assert datetime.fromtimestamp(next_moment("22:31", now)) == datetime(2026, 11, 29, 22, 31)
    assert datetime.fromtimestamp(next_moment("22:30", now)) == datetime(2026, 11, 30, 22, 30)
    assert datetime.fromtimestamp(next_moment("6:05", now)) == datetime(2026, 11, 30, 6, 5)
    for text in ("", "24:00", "noon", "6", "6:5:4"):
        with pytest.raises(UsageError, match="HH:MM"):
            next_moment(text, now)
