"""The file of a lost engine: what is in it, who may read it, that it can't be forged into harm, and what it advises."""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing import __version__
from farthing.engine.accounts.incident import FlightRecorder, Incident, incidents, last_incident
from farthing.engine.accounts.remedy import remedy

VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda part: st.lists(part) | st.dictionaries(st.text(), part),
)
ABOUT = {
    "model": "bundled",
    "plan_line": "bundled · fp32",
    "device": "a processor",
    "uptime_seconds": 12.5,
    "num_restarts": 1,
    "stall_seconds": 60.0,
    "status": {"num_steps": 300, "num_blocks": 512},
}


@dataclass
class Step:
    seconds: float
    num_tokens: int = 1


def recorder(folder: Path, *seconds: float) -> FlightRecorder:
    recorder = FlightRecorder(asdict, folder=folder)
    for each in seconds:
        recorder.step(Step(each))
    return recorder


def written(
    folder: Path, *seconds: float, kind: str = "crash", reason: str = "it ended", code: int | None = 1
) -> Incident:
    path = recorder(folder, *seconds).write(kind=kind, reason=reason, exit_code=code, about=ABOUT)
    assert path is not None
    incident = last_incident(folder)
    assert incident is not None and incident.path == path
    return incident


def test_what_is_written_is_read_again(tmp_path: Path):
    flight = recorder(tmp_path, 0.5, 0.25)
    flight.event("engine", {"state": "ready", "reason": "loaded"})
    flight.line('{"event": "engine"}')
    path = flight.write(kind="crash", reason="it ended", exit_code=-9, about=ABOUT)
    incident = last_incident(tmp_path)
    assert incident is not None and incident.path == path
    assert (incident.kind, incident.reason, incident.exit_code) == ("crash", "it ended", -9)
    assert (incident.version, incident.model, incident.device) == (__version__, "bundled", "a processor")
    assert (incident.uptime_seconds, incident.num_restarts, incident.stall_seconds) == (12.5, 1, 60.0)
    assert incident.status == {"num_steps": 300, "num_blocks": 512}
    assert [step["seconds"] for step in incident.steps] == [0.5, 0.25]
    assert [(event["event"], event["state"]) for event in incident.events] == [("engine", "ready")]
    assert incident.log == ('{"event": "engine"}',)


def test_the_file_is_the_owner_s_alone(tmp_path: Path):
    folder = tmp_path / "data" / "incidents"
    path = written(folder).path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in folder.iterdir()] == [path.name]


def test_only_the_last_of_everything_is_kept(tmp_path: Path):
    flight = recorder(tmp_path, *range(1000))
    for number in range(1000):
        flight.event("engine", {"number": number})
        flight.line(f"line {number} " + "x" * 5000)
    flight.write(kind="stall", reason="", exit_code=None, about=ABOUT)
    incident = last_incident(tmp_path)
    assert incident is not None
    assert [step["seconds"] for step in incident.steps] == list(range(744, 1000))
    assert [event["number"] for event in incident.events] == list(range(744, 1000))
    assert len(incident.log) == 256 and incident.log[-1].startswith("line 999 ")
    assert incident.path.stat().st_size < 2 * 2**20


def test_twenty_files_are_kept_and_the_oldest_go(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("not ours")
    paths = [written(tmp_path, reason=str(number)).path for number in range(23)]
    found, damaged = incidents(tmp_path)
    assert [incident.path for incident in found] == paths[:2:-1] and damaged == []
    assert (tmp_path / "notes.txt").exists()


def test_a_step_becomes_a_dict_only_when_it_is_written(tmp_path: Path):
    def never(record: Any) -> Mapping[str, object]:
        raise AssertionError("too early")

    flight = FlightRecorder(never, folder=tmp_path)
    flight.step(Step(1.0))
    assert flight.write(kind="crash", reason="", exit_code=1, about=ABOUT) is None
    assert flight.problem is not None and "too early" in flight.problem
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path):
    flight = FlightRecorder(lambda record: [record], folder=tmp_path)  # type: ignore[arg-type, return-value]
    flight.step(1)
    assert flight.write(kind="crash", reason="", exit_code=1, about=ABOUT) is None
    assert flight.problem is not None and "not an object" in flight.problem


def test_a_folder_that_can_not_be_written_is_told_and_harms_nobody(tmp_path: Path):
    (tmp_path / "file").write_text("")
    flight = recorder(tmp_path / "file" / "incidents")
    assert flight.write(kind="crash", reason="", exit_code=1, about=ABOUT) is None
    assert flight.problem is not None and "can't be written" in flight.problem


def test_figures_that_are_no_numbers_and_odd_values_are_written_as_json(tmp_path: Path):
    flight = recorder(tmp_path, float("nan"), float("inf"))
    flight.event("odd", {"path": tmp_path, "set": {1}, "time": "forged"})
    assert flight.write(kind="crash", reason="", exit_code=1, about={**ABOUT, "schema": "forged"}) is not None
    incident = last_incident(tmp_path)
    assert incident is not None
    assert [step["seconds"] for step in incident.steps] == [None, None]
    assert incident.events[0]["path"] == str(tmp_path) and incident.events[0]["time"] != "forged"


def test_no_incidents_are_no_error(tmp_path: Path):
    assert last_incident(tmp_path / "none") is None
    assert incidents(tmp_path) == ([], [])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"schema": "farthing.incident/2"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"1" * 10_000,
        b'{"schema": "farthing.incident/1", "kind": "crash", "time": Infinity}',
        b" " * (17 * 2**20),
    ],
)
def test_a_damaged_file_is_named_and_the_one_before_it_is_read(tmp_path: Path, content: bytes):
    whole = written(tmp_path)
    broken = tmp_path / "2999-01-01T00-00-00.000000-crash-1.json"
    broken.write_bytes(content)
    found, damaged = incidents(tmp_path)
    assert found == [whole] and damaged == [broken]
    assert last_incident(tmp_path) == whole


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kind", "party"),
        ("kind", ["crash"]),
        ("reason", 7),
        ("exit_code", "x"),
        ("exit_code", True),
        ("exit_code", 10**400),
        ("time", "0001-01-01T00:00:00+23:00"),
        ("time", "yesterday"),
        ("time", None),
        ("steps", {}),
        ("steps", [1]),
        ("events", "no"),
        ("log", [1]),
        ("status", []),
        ("uptime_seconds", "long"),
    ],
)
def test_a_file_with_a_value_of_another_kind_is_damaged(tmp_path: Path, key: str, value: object):
    path = written(tmp_path, 0.5).path
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    assert incidents(tmp_path) == ([], [path])


def test_nothing_in_a_file_reaches_a_terminal(tmp_path: Path):
    path = written(tmp_path, 0.5).path
    nasty = "\x1b]0;owned\x07\x1b[2J\r\n"
    content = {**json.loads(path.read_text()), "reason": nasty, "log": [nasty], "model": nasty}
    content["steps"] = [{"phase": nasty, nasty: 1}]
    path.write_text(json.dumps(content))
    incident = last_incident(tmp_path)
    assert incident is not None
    shown = repr((incident.reason, incident.log, incident.model, incident.steps))
    assert "\\x1b" not in shown and "\\n" not in shown


@given(VALUES)
def test_whatever_was_handed_in_it_is_written_and_read(tmp_path_factory: pytest.TempPathFactory, value: object):
    folder = tmp_path_factory.mktemp("incidents")
    flight = FlightRecorder(lambda record: {"seconds": record}, folder=folder)
    flight.step(value)
    flight.event("engine", {"value": value})
    assert flight.write(kind="crash", reason="", exit_code=1, about=ABOUT) is not None, flight.problem
    assert last_incident(folder) is not None


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (-9, "lower --memory"),
        (-11, "SIGSEGV"),
        (-6, "farthing doctor --report"),
        (-4, "torch"),
        (-15, "somebody ended it with SIGTERM"),
        (1, "traceback"),
        (0, "never should"),
    ],
)
def test_an_exit_code_tells_what_to_do(tmp_path: Path, code: int, says: str):
    crash = written(tmp_path, 0.5, reason=f"the engine process ended with exit code {code}", code=code)
    assert says in remedy(crash) and "\n" not in remedy(crash)
    assert says in remedy(replace(crash, kind="failed")) and "start the server" in remedy(replace(crash, kind="failed"))


def test_a_stall_after_long_steps_wants_a_longer_limit(tmp_path: Path):
    assert "--stall-seconds to 160" in remedy(written(tmp_path, 0.5, 40.0, kind="stall", code=None))


@pytest.mark.parametrize("kind", ["stall", "failed"])
def test_a_stall_after_short_steps_is_a_device_that_hangs(tmp_path: Path, kind: str):
    reason = "the engine finished no step for 60 s while 2 requests waited"
    advice = remedy(written(tmp_path, 0.5, 0.5, kind=kind, reason=reason, code=None))
    assert "hung" in advice and "--stall-seconds" not in advice


def test_an_engine_that_was_never_started_points_at_its_reason(tmp_path: Path):
    reason = "the engine process can't be started: No space left on device"
    assert "the reason" in remedy(written(tmp_path, kind="failed", reason=reason, code=None))


def test_a_model_that_was_refused_when_it_was_loaded_again_points_at_its_reason(tmp_path: Path):
    assert "the reason" in remedy(written(tmp_path, reason="the model is gone - put it back", code=0))


def test_a_signal_without_a_name_is_no_error(tmp_path: Path):
    assert "traceback" in remedy(written(tmp_path, code=-4000))


def test_the_default_folder_is_of_the_user_s_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    path = FlightRecorder(asdict).write(kind="crash", reason="", exit_code=1, about={})
    assert path is not None and path.is_relative_to(tmp_path) and path.parent.name == "incidents"
    assert os.path.getsize(path) > 0
