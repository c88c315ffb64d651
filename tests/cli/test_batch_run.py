"""An order carried out here: a time that comes, an input that changes, and a forecast from what was measured."""

import asyncio
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from batch_rows import completion_row, write_rows
from server_process import SLOW, serving

from farthing.cli.batch_run import Order, answer, dry_run
from farthing.cli.model_argument import DownloadFlags
from farthing.client.batch_journal import Journal
from farthing.client.connection import Server
from farthing.engine.config import EngineConfig
from farthing.errors import UsageError


def order(source: Path, server: Server | None = None, until: float | None = None) -> Order:
    return Order(
        source=source, server=server, model="bundled", config=EngineConfig(threads=1),
        serve_arguments=("bundled", "--threads=1"), served_names=(), concurrency=4, price_per_hour=None, until=until,
        download=DownloadFlags(offline=True), json=False,
    )  # fmt: skip


def test_a_time_that_comes_while_the_server_begins_ends_the_batch_and_the_server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = write_rows(tmp_path / "in.jsonl", map(completion_row, range(3)))
    before = set(psutil.Process().children(recursive=True))
    with Journal(tmp_path / "out.jsonl") as journal:
        assert answer(order(source, until=time.time() - 0.5), journal) == 0
    assert "the time is up: 3 rows are left; the same command goes on" in " ".join(capsys.readouterr().err.split())
    assert set(psutil.Process().children(recursive=True)) <= before
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_time_that_comes_while_the_last_rows_are_asked_leaves_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rows = (completion_row(number, max_tokens=400, ignore_eos=True) for number in range(4))
    source = write_rows(tmp_path / "in.jsonl", rows)
    with serving(engine=SLOW) as server, Journal(tmp_path / "out.jsonl") as journal:
        assert answer(order(source, Server.at(server.url), until=time.time() + 1.5), journal) == 0
    assert "4 rows are left" in " ".join(capsys.readouterr().err.split())


def test_a_batch_whose_time_is_up_is_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = (completion_row(number, max_tokens=30, ignore_eos=True) for number in range(60))
    source = write_rows(tmp_path / "in.jsonl", rows)
    with serving(engine=SLOW) as server:
        asked = order(source, Server.at(server.url))
        with Journal(tmp_path / "out.jsonl") as journal:
            assert answer(replace(asked, until=time.time() + 2.0), journal) == 0
            num_left = journal.tally.num_left
        assert f"{num_left} rows are left" in " ".join(capsys.readouterr().err.split()) and 0 < num_left < 60
        with Journal(tmp_path / "out.jsonl") as journal:
            assert answer(asked, journal) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"{num_left} of 60 rows" in said and "60 rows, 0 failed" in said
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 60


@pytest.mark.parametrize("more", ["one more\n", ""])
def test_an_input_that_changes_meanwhile_makes_no_output(tmp_path: Path, more: str):
    source = write_rows(tmp_path / "in.jsonl", map(completion_row, range(40)))
    part = tmp_path / "out.jsonl.part"

    def change() -> None:
        while not part.exists() or part.read_bytes().count(b"\n") < 3:
            time.sleep(0.01)
        with open(source, "r+") as file:
            file.truncate(source.stat().st_size - (0 if more else 5))
            file.seek(0, os.SEEK_END)
            file.write(more)

    with serving() as server, Journal(tmp_path / "out.jsonl") as journal:
        changing = threading.Thread(target=change, daemon=True)
        changing.start()
        with pytest.raises(UsageError, match=r"was changed while its rows were asked.*--restart"):
            answer(order(source, Server.at(server.url)), journal)
        changing.join()
    assert not (tmp_path / "out.jsonl").exists()


def test_a_server_that_has_computed_says_how_fast_a_batch_will_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = write_rows(tmp_path / "in.jsonl", map(completion_row, range(10)))
    with serving(price_per_hour=3.6) as server:
        reached = Server.at(server.url)
        asyncio.run(reached.ask("POST", "/v1/completions", completion_row(1)["body"]))
        assert dry_run(replace(order(source, reached), json=True)) == 0
        expected = json.loads(capsys.readouterr().out)["forecast"]
        _, ledger = asyncio.run(reached.ask("GET", "/farthing/ledger"))
        assert server.status()["num_ended_requests"]["stop"] == 1
    rates = [ledger["total"][phase]["tokens_per_second"] for phase in ("prefill", "decode")]
    seconds = expected["prompt_tokens"] / rates[0] + expected["max_output_tokens"] / rates[1]
    assert expected["seconds"] == pytest.approx(seconds)
    assert expected["dollars"] == pytest.approx(seconds * 3.6 / 3600)


@pytest.mark.parametrize("computed", [False, True])
def test_a_forecast_says_why_it_has_no_time_or_no_cost(
    computed: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = write_rows(tmp_path / "in.jsonl", map(completion_row, range(2)))
    with serving() as server:
        reached = Server.at(server.url)
        if computed:
            asyncio.run(reached.ask("POST", "/v1/completions", completion_row(1)["body"]))
        assert dry_run(replace(order(source, reached), json=True)) == 0
    expected = json.loads(capsys.readouterr().out)["forecast"]
    assert computed <= (expected["seconds"] is not None)
    notes = [note for note in expected["assumed"] if note.startswith(("no time: ", "no cost: "))]
    assert len(notes) == (expected["dollars"] is None)


def test_a_model_that_is_not_here_has_a_forecast_without_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source = write_rows(tmp_path / "in.jsonl", [completion_row(1)])
    assert dry_run(replace(order(source), model="llama-3.1-8b")) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "no forecast of the time" in told and "no time: the weights of llama-3.1-8b" in told
