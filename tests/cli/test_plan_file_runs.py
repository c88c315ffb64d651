"""A plan file stands in place of MODEL: `run` takes what was planned, and a flag goes before it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_hub import REPOSITORY, LoopbackHub, running_hub

from farthing.cli.app import main
from farthing.engine.config import EngineConfig
from farthing.models.reference import find_model
from farthing.planner.plan_file import load_plan_file

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def farthing(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        captured = capsys.readouterr()
        return int(caught.value.code or 0), captured.out, captured.err

    return run


def test_run_takes_the_format_and_the_context_of_the_plan(farthing: Command) -> None:
    assert (
        farthing("plan", "bundled", "--on", "4090", "--format", "int8", "--context", "384", "--save", "p.toml")[0] == 0
    )
    code, out, err = farthing("run", "p.toml", "Once upon a time", "--max-tokens", "4")
    assert code == 0 and out.strip()
    assert re.search(r"bundled · w8a16 on .* KV room 98,304 tokens", err.replace("\n", " "))  # 256 sequences of 384


def test_a_flag_of_run_goes_before_the_plan_also_at_its_default(farthing: Command) -> None:
    farthing("plan", "bundled", "--on", "4090", "--format", "int8", "--context", "384", "--save", "p.toml")
    code, _, err = farthing(
        "run", "p.toml", "Hello there", "--max-tokens", "2", "--format", "auto", "--max-num-seqs", "16"
    )
    assert code == 0
    assert re.search(r"bundled · (bf16|fp32) on .* KV room 6,144 tokens", err.replace("\n", " "))


def test_a_plan_for_several_devices_is_not_run_on_one(farthing: Command) -> None:
    farthing("plan", "bundled", "--on", "2x4090", "--tp", "2", "--save", "p.toml")
    code, out, err = farthing("run", "p.toml", "Hello there")
    assert (code, out) == (2, "") and "tp 2" in err and err.count("\n") == 1


def test_other_hardware_is_planned_anew_from_the_file(farthing: Command) -> None:
    farthing("plan", "llama-3.1-70b", "--on", "4x4090", "--save", "p.toml")
    code, out, _ = farthing("plan", "p.toml", "--on", "2x3090")
    assert code == 0 and "w4a16 on 2x rtx-3090" in out  # fp8, which the 3090 has no path for, was the 4090's


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    yield from running_hub(tmp_path, monkeypatch)


def test_a_model_of_a_hub_is_planned_without_its_weights(hub: LoopbackHub, farthing: Command) -> None:
    code, out, _ = farthing("plan", REPOSITORY, "--on", "4090")
    assert code == 0 and out.startswith(f"{REPOSITORY} · ")
    assert not any("safetensors" in request and "index" not in request for request in map(str, hub.requests))


def test_what_was_said_of_the_old_hardware_is_not_said_of_the_new(farthing: Command) -> None:
    said = ("--price-per-hour", "0.2", "--memory", "20GiB", "--p2p")
    assert farthing("plan", "llama-3.1-8b", "--on", "4090", *said, "--save", "p.toml")[0] == 0
    other = json.loads(farthing("plan", "p.toml", "--on", "h100-sxm", "--json")[1])
    plain = json.loads(farthing("plan", "llama-3.1-8b", "--on", "h100-sxm", "--json")[1])
    assert other["cost"]["dollars_per_hour"] == plain["cost"]["dollars_per_hour"]
    assert other["memory"]["per_device"] == plain["memory"]["per_device"]


def test_lengths_that_were_said_are_never_shortened(farthing: Command) -> None:
    asked = ("--context", "500", "--input-tokens", "512", "--output-tokens", "256")
    code, _, err = farthing("plan", "llama-3.1-8b", "--on", "4090", *asked)
    assert code == 2 and "--context 768" in err
    assert farthing("plan", "llama-3.1-8b", "--on", "4090", "--context", "500")[0] == 0


def test_the_model_of_a_plan_file_is_found_from_any_folder(
    farthing: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").mkdir()
    config = Path(str(find_model("bundled").path)) / "config.json"
    (tmp_path / "f" / "config.json").write_bytes(config.read_bytes())
    assert farthing("plan", "f", "--on", "4090", "--save", "p.toml")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert farthing("plan", "../p.toml")[0] == 0


def test_the_engine_takes_every_option_of_the_plan(farthing: Command) -> None:
    farthing("plan", "bundled", "--on", "4090", "--block-size", "32", "--context", "384", "--save", "p.toml")
    options = load_plan_file("p.toml").engine_options()
    assert (options["block_size"], options["context"], options["max_num_seqs"]) == (32, 384, 256)
    EngineConfig(**options)
