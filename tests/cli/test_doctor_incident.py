"""`farthing doctor --last` and `--report`: the last incident for people and for a bug report, without any extra."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nvml import no_nvml

from farthing.cli.app import main
from farthing.engine.accounts.incident import FlightRecorder, incident_folder

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders of its own, no card and no hub."""
    for name in ("XDG_DATA_HOME", "HF_HOME", "MODELSCOPE_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    no_nvml(monkeypatch)


def lose_an_engine(*, hours_ago: float = 0.0, **changed: Any) -> Path:
    """An incident of an engine whose 300 steps took 0.01 s each, and the hundredth from the end 0.5 s."""

    def to_dict(index: int) -> Mapping[str, object]:
        sizes = {"num_sequences": 3, "num_tokens": 7, "num_waiting": 2, "used_blocks": 32}
        seconds = 0.5 if index == 200 else 0.01
        return {"time": time.time(), "phase": "decode", "seconds": seconds, "forecast_seconds": 0.008, **sizes}

    recorder = FlightRecorder(to_dict)
    for index in range(300):
        recorder.step(index)
    recorder.line('{"event": "request", "route": "/v1/completions"}')
    reason = "the engine process ended with exit code -9"
    about = {
        "model": "bundled",
        "plan_line": f"bundled · fp32 · {Path.home()}/models/bundled",
        "device": "a processor",
        "uptime_seconds": 7260.0,
        "num_restarts": 1,
        "status": {"num_steps": 300, "num_running": 3, "num_waiting": 2, "num_blocks": 64, "num_available_blocks": 32},
    }
    path = recorder.write(**{"kind": "crash", "reason": reason, "exit_code": -9, "about": about, **changed})
    assert path is not None
    content = json.loads(path.read_text())
    moment = datetime.now(UTC) - timedelta(hours=hours_ago)
    path.write_text(json.dumps({**content, "time": moment.isoformat()}))
    return path


def doctor(capsys: Capture, *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *arguments])
    return int(caught.value.code or 0), capsys.readouterr().out


def test_without_an_incident_there_is_nothing_to_show(capsys: Capture) -> None:
    assert doctor(capsys, "--last") == (0, "no incident is kept\n")
    code, out = doctor(capsys, "--last", "--json")
    assert code == 0 and json.loads(out) == {"schema": "farthing.last-incident/1", "incident": None, "remedy": None}


def test_the_last_incident_is_told_with_its_reason_remedy_and_steps(capsys: Capture) -> None:
    path = lose_an_engine(hours_ago=3.0)
    code, out = doctor(capsys, "--last")
    assert code == 1
    first, *_ = out.splitlines()
    assert first.startswith("the engine ended (crash), ") and first.endswith(" UTC, 3 h ago")
    for part in ("exit code -9 (SIGKILL)", "lower --memory", "after 2 h 1 min of serving, 1 restart", str(path)):
        assert part in out
    assert "32 of 64 KV blocks used" in out and "3 sequences running" in out
    steps = [line.split() for line in out.splitlines() if " decode " in line]
    assert len(steps) == 13 and all(step[3:6] == ["3", "7", "2"] and step[-1] == "50%" for step in steps)
    assert steps[10][6] == "0.5000"  # the slowest of those before the last ten
    assert out.rstrip().endswith('{"event": "request", "route": "/v1/completions"}')


def test_the_last_incident_as_json_is_all_of_it(capsys: Capture) -> None:
    path = lose_an_engine()
    code, out = doctor(capsys, "--last", "--json")
    document = json.loads(out)
    assert code == 1 and list(document) == ["schema", "incident", "remedy"]
    assert document["incident"]["path"] == str(path) and len(document["incident"]["steps"]) == 256
    assert "--memory" in document["remedy"]


def test_an_incident_of_today_is_a_problem_and_an_older_one_is_not(capsys: Capture) -> None:
    lose_an_engine(hours_ago=25.0)
    code, out = doctor(capsys)
    assert code == 0 and "ok      incident" in out and "1 d 1 h ago" in out
    lose_an_engine(hours_ago=2.0)
    code, out = doctor(capsys)
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.startswith("problem")]
    assert "2 h ago" in line and "lower --memory" in line and "farthing doctor --last" in line


def test_a_damaged_file_is_named_and_the_one_before_it_told(capsys: Capture) -> None:
    lose_an_engine()
    (incident_folder() / "2999-01-01T00-00-00.000000-crash-1.json").write_text("{")
    assert doctor(capsys, "--last")[0] == 1
    assert "2999-01-01T00-00-00.000000-crash-1.json" in doctor(capsys)[1]


def test_an_engine_that_never_finished_a_step_is_told_too(capsys: Capture) -> None:
    FlightRecorder(lambda record: {}).write(
        kind="failed", reason="the engine process can't be started: no space", exit_code=None, about={}
    )
    code, out = doctor(capsys, "--last")
    assert code == 1 and "No step was finished." in out and "given up for good" in out


def test_steps_of_another_kind_are_shown_as_far_as_they_go(capsys: Capture) -> None:
    recorder = FlightRecorder(lambda record: {"time": "noon", "seconds": "long", "phase": 7, "used_blocks": [1]})
    recorder.step(0)
    recorder.write(kind="stall", reason="x", exit_code=None, about={"status": {"num_blocks": "many"}})
    assert doctor(capsys, "--last")[0] == 1


def test_a_report_has_all_findings_and_the_incident_without_home_or_secrets(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    reason = "loading https://alice:hunter2@hub failed with hf_AbCdEfGhIjKlMn and sk-AbCdEfGhIjKl"
    lose_an_engine(reason=reason)
    code, out = doctor(capsys, "--report")
    assert code == 1
    for part in ("farthing 0.", "ok      python", "processor", "## The last incident", "bundled · fp32 · ~/models"):
        assert part in out
    for secret in (str(Path.home()), "hunter2", "hf_AbC", "sk-AbC", "secretsecret"):
        assert secret not in out


@pytest.mark.parametrize("other", ["--last", "--json"])
def test_a_report_is_a_text_of_its_own(capsys: Capture, other: str) -> None:
    assert doctor(capsys, "--report", other)[0] == 2


def test_the_last_incident_needs_no_extra() -> None:
    lose_an_engine()
    blocked = ["torch", "numpy", "huggingface_hub", "httpx2", "psutil", "msgspec", "zmq", "uvicorn", "pynvml"]
    block = f"import sys; sys.modules.update(dict.fromkeys({blocked!r}));"
    run = "from farthing.cli.app import main; main(['doctor', '--last'])"
    result = subprocess.run([sys.executable, "-c", f"{block} {run}"], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (1, "") and "SIGKILL" in result.stdout
