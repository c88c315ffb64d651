"""`farthing doctor`: one line each, secrets left out, exit code 1 only when something is broken."""

import json
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, running_hub
from nvml import no_nvml

from farthing.cli import doctor_checks
from farthing.cli.app import main
from farthing.hardware.calibration import calibration_folder

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    no_nvml(monkeypatch)
    yield from running_hub(tmp_path, monkeypatch)


def findings(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, dict[str, str]]:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--json", *arguments])
    document = json.loads(capsys.readouterr().out)
    assert caught.value.code == code and document["healthy"] == (code == 0)
    assert list(document) == ["schema", "version", "healthy", "findings"]
    assert document["schema"] == "farthing.doctor/1"
    return {finding["name"]: finding for finding in document["findings"]}


def test_every_finding_is_one_line_with_its_mark(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "missing", "problem"}
    assert {"python", "torch", "processor", "memory", "gpu", "cache", "token", "hub"} <= {
        line.split()[1] for line in lines
    }


def test_a_missing_thing_names_the_command_that_adds_it(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert all(finding["fix"] for finding in findings(capsys).values() if finding["mark"] != "ok")


def test_the_token_is_never_shown(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@127.0.0.1:9")
    found = findings(capsys)
    assert found["token"]["mark"] == "ok"
    assert found["proxies"]["text"] == "HTTPS_PROXY"
    assert "hf_secret" not in str(found) and "hidden" not in str(found)


def test_a_hub_that_answers_is_ok_and_one_out_of_reach_breaks_nothing(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(capsys)["hub"]["mark"] == "ok"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = findings(capsys)["hub"]
    assert found["mark"] == "missing" and "HF_ENDPOINT" in found["fix"]


def test_offline_asks_nobody(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "not asked" in findings(capsys, "--offline")["hub"]["text"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    findings(capsys)
    assert hub.log == []


def test_a_cache_that_is_no_folder_is_a_problem(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert findings(capsys, code=1)["cache"]["mark"] == "problem"


def test_a_data_folder_that_is_no_folder_is_a_problem(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert "XDG_DATA_HOME" in findings(capsys, code=1)["data"]["fix"]


def test_a_calibration_of_another_torch_is_stale(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not measured" in findings(capsys)["calibration"]["text"]
    calibration_folder().mkdir(parents=True)
    (calibration_folder() / "cpu-another-torch.json").write_text("{}")
    stale = findings(capsys)["calibration"]
    assert stale["mark"] == "missing" and "stale" in stale["text"] and stale["fix"] == "farthing probe"


def test_the_compiler_is_the_first_on_the_path_whatever_cxx_says(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", sys.executable)
    found = findings(capsys)["compiler"]
    assert found["mark"] == "missing" and "apt install g++" in found["fix"]
    (tmp_path / "clang++").touch(0o755)
    (tmp_path / "g++").touch(0o755)
    assert findings(capsys)["compiler"]["text"] == str(tmp_path / "g++")


def test_a_version_that_is_not_supported_is_a_problem(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(doctor_checks.EXTRAS["serve"], "torch", ">=2.11,<2.12")
    found = findings(capsys, code=1)["torch"]
    assert found["mark"] == "problem" and "pip install 'torch>=2.11,<2.12'" in found["fix"]


@pytest.mark.parametrize(
    ("version", "wanted", "expected"),
    [
        ("2.13.0+cpu", ">=2.11,<2.14", True),
        ("2.14.0", ">=2.11,<2.14", False),
        ("2.9.1", ">=2.11", False),
        ("2.11", ">=2.11", True),
        ("6.0.0rc1", ">=6", True),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, wanted: str, expected: bool) -> None:
    assert doctor_checks.satisfies(version, wanted) is expected


def test_the_packages_are_those_of_pyproject() -> None:
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    for extra, packages in doctor_checks.EXTRAS.items():
        wanted = {f"{package}{versions}" for package, versions in packages.items()}
        assert wanted == {requirement for requirement in extras[extra] if not requirement.startswith("farthing")}
