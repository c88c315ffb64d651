"""`farthing bench serve` as its user meets it: a real server, the table, the JSON, the picture, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess, serving

import farthing
from farthing.cli.bench import app
from farthing.client.connection import ConnectionLostError
from farthing.errors import UsageError

FEW = ("--requests", "6", "--input-tokens", "U(4,20)", "--output-tokens", "5")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The bundled model."""
    with serving() as running:
        yield running


def bench_serve(*arguments: str | Path) -> int:
    """The exit code."""
    words = ["serve", *(str(one) for one in arguments)]
    code = app(words, exit_on_error=False, print_error=False, result_action="return_value")
    assert isinstance(code, int)
    return code


def test_the_table_shows_latencies_rates_goodput_and_the_ledger(
    server: ServerProcess, capsys: pytest.CaptureFixture[str]
):
    assert bench_serve(server.url, "--rate", "30", *FEW, "--ttft", "60", "--tpot", "60") == 0
    shown = capsys.readouterr().out
    assert "Poisson, 30 requests/s · input U(4,20), output 5 tokens · seed 0" in shown
    assert "6 answered, 0 refused (429), 0 failed" in shown
    for row in ("time to first token", "time per output token", "between tokens", "whole request", "sent late by"):
        assert row in shown
    assert "100.0% of all sent, within TTFT 60 s and TPOT 60 s" in shown
    assert "ledger" in shown and "of the measured limit" in shown


def test_the_json_adds_up_and_has_the_records_that_were_asked_for(
    server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    saved = tmp_path / "load.json"
    command = (server.url, "--concurrency", "2", *FEW, "--seed", "5", "--json", "--records", "--save", saved)
    assert bench_serve(*command) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(saved.read_text())
    assert document["schema"] == "farthing.bench-serve/1"
    assert document["load"]["concurrency"] == 2 and document["load"]["rate"] is None
    counts = [document[name] for name in ("answered", "refused", "failed", "cut")]
    assert sum(counts) == document["sent"] == len(document["records"]) == 6 == document["answered"]
    assert document["output_tokens"] == 6 * 5 == sum(record["output_tokens"] for record in document["records"])
    assert document["input_tokens"] == sum(record["asked_input_tokens"] for record in document["records"])
    over_time = document["over_time"]
    assert sum(over_time["output_tokens_per_second"]) * over_time["bin_seconds"] == pytest.approx(6 * 5)
    ledger = document["ledger"]
    assert ledger["output_tokens"] - ledger["other_output_tokens"] <= 6 * 5
    assert ledger["decode"]["steps"] >= 4 and ledger["decode"]["forecast_seconds"] > 0
    assert "records" not in json.loads(_json(capsys, server.url, *FEW))


def _json(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert bench_serve(*arguments, "--json") == 0
    return capsys.readouterr().out


def test_the_price_of_the_server_makes_dollars_a_million_tokens(capsys: pytest.CaptureFixture[str]):
    with serving(price_per_hour=3.6) as server:
        document = json.loads(_json(capsys, server.url, *FEW))
    dollars = 3.6 / 3600 * document["seconds"]
    assert document["ledger"]["dollars"] == pytest.approx(dollars)
    assert document["dollars_per_million_output_tokens"] == pytest.approx(1e6 * dollars / document["output_tokens"])


def test_a_trace_is_sent_at_its_moments(server: ServerProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival,input_tokens,output_tokens\n5.0,10,3\n5.1,20,2\n5.3,5,4\n")
    document = json.loads(_json(capsys, server.url, "--trace", str(trace), "--records"))
    records = [(round(one["scheduled"], 6), one["input_tokens"], one["output_tokens"]) for one in document["records"]]
    assert records == [(0.0, 10, 3), (0.1, 20, 2), (0.3, 5, 4)]
    assert document["load"]["trace"] == "trace.csv"


def test_a_picture_is_drawn(server: ServerProcess, tmp_path: Path):
    picture = tmp_path / "load.png"
    assert bench_serve(server.url, "--rate", "50", *FEW, "--ttft", "1", "--plot", picture) == 0
    assert picture.read_bytes().startswith(PNG) and picture.stat().st_size > 20_000


def test_prompts_that_the_server_has_seen_before_are_told(server: ServerProcess, capsys: pytest.CaptureFixture[str]):
    long = ("--requests", "2", "--input-tokens", "100", "--output-tokens", "2", "--seed", "99")
    assert bench_serve(server.url, *long) == 0
    assert "take another --seed" not in capsys.readouterr().err
    assert bench_serve(server.url, *long) == 0
    assert "take another --seed" in capsys.readouterr().err


def test_a_package_that_is_missing_is_told_before_the_load(server: ServerProcess, tmp_path: Path):
    hidden = tmp_path / "matplotlib.py"
    hidden.write_text("raise ModuleNotFoundError('no', name='matplotlib')")
    code = "from farthing.cli.app import _missing_extra\nfrom farthing.cli.bench_serve import bench_serve, LoadFlags\n"
    code += "from pathlib import Path\ntry: bench_serve('http://127.0.0.1:9', flags=LoadFlags(plot=Path('x.png')))\n"
    code += "except ImportError as error: print(_missing_extra(error))"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path(farthing.__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout == "this command needs matplotlib - pip install 'farthing[report]'\n"


def num_ended(server: ServerProcess) -> int:
    return sum(server.status()["num_ended_requests"].values())


def test_ctrl_c_ends_the_load_and_shows_what_there_is(server: ServerProcess):
    code = "import sys\nfrom farthing.cli.bench import app\nsys.exit(app(sys.argv[1:], result_action='return_value'))"
    command = [sys.executable, "-c", code, "serve", server.url, "--rate", "20", "--seconds", "60", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    before, deadline = num_ended(server), time.monotonic() + 30
    while num_ended(server) < before + 4:  # one of them is not counted
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    document = json.loads(stdout)
    assert document["interrupted"] and document["answered"] >= 1 and document["failed"] == 0
    assert "Traceback" not in stderr and "interrupted" in stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rate", "1", "--concurrency", "1"), "choose one"),
        (("--rate", "0"), "--rate"),
        (("--rate", "inf"), "--rate"),
        (("--concurrency", "0"), "--concurrency"),
        (("--requests", "0"), "--requests"),
        (("--seconds", "-1"), "--seconds"),
        (("--prefix-tokens", "-1"), "--prefix-tokens"),
        (("--input-tokens", "many"), "--input-tokens"),
        (("--trace", "x.csv", "--input-tokens", "5"), "--input-tokens"),
        (("--trace", "absent.csv"), "absent.csv"),
        (("--ttft", "0"), "--ttft"),
        (("--save", "/no/such/folder/x.json"), "--save"),
        (("--plot", "x.jpeg"), "--plot"),
        (("--plot", "/no/such/folder/x.png"), "--plot"),
        (("--records",), "--json or --save"),
        (("--key-file", "absent"), "key file"),
    ],
)
def test_a_mistake_is_told_before_anything_is_sent(arguments: tuple[str, ...], named: str):
    with pytest.raises(UsageError, match=named):
        bench_serve("http://127.0.0.1:9", *arguments)


def test_what_is_longer_than_the_context_is_refused(server: ServerProcess, tmp_path: Path):
    with pytest.raises(UsageError, match="context of bundled, 512"):
        bench_serve(server.url, "--input-tokens", "U(100,500)")
    trace = tmp_path / "trace.csv"
    trace.write_text("0,10,10\n1,600,1\n")
    with pytest.raises(UsageError, match="context of bundled, 512"):
        bench_serve(server.url, "--trace", trace)
    assert bench_serve(server.url, "--trace", trace, "--requests", "1") == 0


def test_nobody_at_the_address_is_one_line():
    with pytest.raises(ConnectionLostError, match="no server answers"):
        bench_serve("http://127.0.0.1:9")
