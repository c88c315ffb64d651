"""An engine that is lost under work: the figures say so while it lasts, and `farthing doctor --last` names it after."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from load import ask, completion, exchange
from server_process import SLOW, ServerProcess, serving

from farthing.engine.accounts.incident import Incident, incidents
from farthing.hardware.calibration import calibration_folder

STALL_SECONDS = 3.0
WAIT_SECONDS = 30.0
PROMPT = "Once upon a time the zanzibar"  # nothing of which may be found in a file


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """The environment of a server with a data folder of its own, which knows how fast this machine is."""
    if calibration_folder().is_dir():
        shutil.copytree(calibration_folder(), tmp_path / "farthing" / "calibration")
    return {"XDG_DATA_HOME": str(tmp_path)}


def kept(data: dict[str, str]) -> Incident:
    """The one incident there is."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found, damaged = incidents(Path(data["XDG_DATA_HOME"]) / "farthing" / "incidents")
        assert damaged == []
        if found:
            (incident,) = found
            return incident
        assert time.monotonic() < deadline
        time.sleep(0.05)


def doctor_last(data: dict[str, str], *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "farthing", "doctor", "--last", *arguments]
    environment = {**os.environ, **data}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def metric(server: ServerProcess, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics", timeout=10).text.splitlines()
    (value,) = [line.split()[1] for line in lines if line.startswith(f"{name} ")]
    return float(value)


def ledger(server: ServerProcess) -> dict[str, Any]:
    return httpx.get(f"{server.url}/farthing/ledger", timeout=10).json()


def test_a_frozen_engine_makes_stalled_true_and_doctor_names_it(data: dict[str, str]) -> None:
    with serving(script="faulty.py", engine=SLOW, stall_seconds=STALL_SECONDS, environment=data) as server:
        assert metric(server, "farthing_stalled") == 0 and ledger(server)["stalled"] is False

        async def play() -> None:
            body = completion(server.model, PROMPT, max_tokens=450)
            async with exchange(server.url, "/v1/completions", body) as stream:
                await stream.tokens(2)
                os.kill(server.engine_pid(), signal.SIGSTOP)
                seen = False
                deadline = time.monotonic() + STALL_SECONDS + WAIT_SECONDS
                while not seen:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.1)
                    seen = metric(server, "farthing_stalled") == 1 and ledger(server)["stalled"] is True
                assert metric(server, "farthing_last_step_age_seconds") > 0
                reply = await stream.rest()
                assert reply.error is not None

        asyncio.run(play())
        incident = kept(data)
        assert (incident.kind, incident.exit_code, incident.stall_seconds) == ("stall", None, STALL_SECONDS)
        assert incident.model == server.model and incident.plan_line.startswith(server.model) and incident.device
        assert incident.steps and all(step["phase"] in ("prefill", "decode") for step in incident.steps)
        assert incident.status["num_steps"] > 0 and incident.status["num_blocks"] > 0
        deadline = time.monotonic() + WAIT_SECONDS
        while metric(server, "farthing_engine_restarts_total") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert metric(server, "farthing_stalled") == 0
    assert "zanzibar" not in incident.path.read_text()
    code, out = doctor_last(data)
    assert code == 1 and out.startswith("the engine stood still (stall)")
    assert "finished no step for" in out and "one hung" in out and "decode" in out


@pytest.mark.parametrize(
    ("fault", "exit_code", "remedy"),
    [("abort", -6, "farthing doctor --report"), ("error", 1, "traceback")],
)
def test_a_crash_is_kept_with_its_exit_code(data: dict[str, str], fault: str, exit_code: int, remedy: str) -> None:
    with serving(script="faulty.py", engine=SLOW, environment=data) as server:
        asyncio.run(ask(server.url, "/v1/completions", completion(server.model, f"{PROMPT} FAULT:{fault} comes")))
        incident = kept(data)
    assert (incident.kind, incident.exit_code) == ("crash", exit_code)
    assert "zanzibar" not in incident.path.read_text()
    code, out = doctor_last(data, "--json")
    assert code == 1 and remedy in json.loads(out)["remedy"]


def test_a_server_that_may_not_restart_ends_and_says_that_it_failed(data: dict[str, str]) -> None:
    with serving(script="faulty.py", engine=SLOW, max_restarts=0, environment=data) as server:
        os.kill(server.engine_pid(), signal.SIGKILL)
        assert server.process.wait(WAIT_SECONDS) == 1
        incident = kept(data)
    assert (incident.kind, incident.exit_code) == ("failed", -9)
    assert "lower --memory" in doctor_last(data)[1]


def test_a_server_that_can_not_write_it_says_so_and_serves_on(data: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "farthing").mkdir(exist_ok=True)
    (tmp_path / "farthing" / "incidents").write_text("")  # where the folder should be
    with serving(script="faulty.py", engine=SLOW, environment=data) as server:
        os.kill(server.engine_pid(), signal.SIGKILL)
        deadline = time.monotonic() + WAIT_SECONDS
        while "the incident can't be written" not in server.output() or server.status()["state"] != "ok":
            assert time.monotonic() < deadline, server.output()
            time.sleep(0.05)
        reply = asyncio.run(ask(server.url, "/v1/completions", completion(server.model, PROMPT)))
        assert reply.is_complete
