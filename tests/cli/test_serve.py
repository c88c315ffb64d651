"""`farthing serve` as its operator meets it: what it says when it starts, what it refuses, how it ends."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from farthing.cli.app import main
from farthing.cli.plan_pages import pages_of

Refusal = Callable[..., str]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """The one line of an error: exit code 2, nothing on stdout."""

    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["serve", *arguments])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert (caught.value.code, captured.out, len(lines)) == (2, "", 1), captured
        assert lines[0].startswith("farthing: ")
        return lines[0]

    return refused


@contextmanager
def serve(*arguments: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The process, its URL and what it said until it served."""
    command = [sys.executable, "-m", "farthing", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
    said = ""
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if (found := re.match(r"serving \S+ at (\S+)", line)) is not None:
                yield process, found[1], said
                return
        raise AssertionError(said)
    finally:
        process.kill()
        process.wait(10)


def test_it_says_what_runs_and_how_to_ask_and_ends_when_told(tmp_path: Path):
    with serve("--threads", "1", folder=tmp_path) as (process, url, said):
        assert re.search(r"bundled · \w+ on .*KV room [\d,]+ tokens", said.replace("\n", " "))
        assert httpx.get(f"{url}/readyz").text == "ok"
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "bundled"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_plan_file_stands_in_place_of_the_model_and_a_flag_goes_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plan = tmp_path / "p.toml"
    with pytest.raises(SystemExit):
        main(["plan", "bundled", "--on", "4090", "--context", "256", "--save", str(plan)])
    with serve(
        str(plan), "--max-num-seqs", "2", "--served-model-name", "a", "--served-model-name", "b", folder=tmp_path
    ) as (_, url, said):
        assert "KV room 512 tokens" in said.replace("\n", " ")
        names = [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]]
        assert names == ["a", "b"]
        asked = {"model": "b", "prompt": "Once", "max_tokens": 1}
        assert httpx.post(f"{url}/v1/completions", json=asked).json()["model"] == "b"


def test_with_a_key_file_nothing_is_served_without_a_key(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text("alice:0123456789abcdef\n")
    keys.chmod(0o600)
    with serve("--api-keys", str(keys), folder=tmp_path) as (_, url, _):
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"x-api-key": "0123456789abcdef"}).status_code == 200
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_an_address_that_others_reach_needs_keys(refusal: Refusal):
    assert "--api-keys FILE" in refusal("--host", "0.0.0.0")


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(refusal: Refusal):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use" in refusal("--port", str(port))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-model"], "no-such-model"),
        (["--api-keys", "no-such-file"], "can't be read"),
        (["--max-queued-requests", "0"], "--max-queued-requests is 0"),
        (["--max-queued-requests", "1.5"], "1.5"),
        (["--request-timeout", "0"], "--request-timeout is 0"),
        (["--request-timeout", "nan"], "--request-timeout is nan"),
        (["--port", "70000"], "--port is 70000"),
        (["--memory", "much"], "--memory is 'much'"),
        (["--context", "100000", "--port", "0"], "--context 100000 is above 512"),
        (["--memory", "1MiB", "--port", "0"], "does not fit"),
        (["--cors-origin", "*", "--port", "0"], "--api-keys"),
        (["--tensor-parallel-size", "2"], "one device is used"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(refusal: Refusal, arguments: list[str], complaint: str):
    assert complaint in refusal(*arguments)


def test_ctrl_c_while_it_loads_ends_it(tmp_path: Path):
    command = [sys.executable, "-m", "farthing", "serve", "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ})
    assert process.stderr is not None
    process.stderr.readline()  # the plan line: signals are minded by now
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)


def test_a_plan_file_is_served_with_its_report_in_both_languages(tmp_path: Path) -> None:
    plan_file = tmp_path / "plan.toml"
    command = [sys.executable, "-m", "farthing", "plan", "bundled", "--on", "rtx-4090", "--save", str(plan_file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    pages = pages_of(str(plan_file))
    assert set(pages) == {"en", "zh"} and all("rtx-4090" in page for page in pages.values())
    assert 'lang="zh' in pages["zh"] and pages["en"] != pages["zh"]
