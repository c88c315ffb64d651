"""A published model with random weights needs no files: its description stands for them, and for nothing else."""

import json
import stat
from pathlib import Path

import pytest
from command_line import share_kernels

from farthing.cli.model_argument import DownloadFlags, obtain
from farthing.engine.config import EngineConfig
from farthing.engine.model_files import model_files
from farthing.engine.plan import plan_engine
from farthing.errors import FarthingError, ModelNotFoundError
from farthing.hub.cache import find_anywhere
from farthing.models.published_models import find_published

NAME, REPOSITORY = "smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No model is on this machine, and no hub answers."""
    share_kernels(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize("name", [NAME, REPOSITORY])
def test_a_published_model_with_random_weights_is_planned_from_the_table(name: str) -> None:
    config = EngineConfig(weights="random", format="bf16", device="cpu", memory="2GiB", context=256)
    obtain(name, config, DownloadFlags(yes=True))
    plan = plan_engine(name, config)
    published = find_published(NAME)
    assert published is not None and plan.spec.num_parameters == published.parameters


def test_base_weights_are_described_as_such() -> None:
    names = ["llama-3.1-8b", "llama-3.1-8b-base"]
    assert [model_files(find_anywhere(name), needs_weights=False).name for name in names] == names


def test_what_is_written_is_the_tables_config_again_after_a_change_and_the_users_alone() -> None:
    folder = model_files(find_anywhere(NAME), needs_weights=False)
    (folder / "config.json").write_text("{}")
    assert model_files(find_anywhere(NAME), needs_weights=False) == folder
    published = find_published(NAME)
    assert published is not None and json.loads((folder / "config.json").read_text()) == dict(published.config)
    assert [entry.name for entry in folder.iterdir()] == ["config.json"]
    assert stat.S_IMODE(folder.stat().st_mode) & 0o077 == 0


def test_weights_that_are_needed_and_models_that_nobody_described_are_missed() -> None:
    with pytest.raises(ModelNotFoundError, match=f"the weights of {NAME} are not on this machine - farthing pull"):
        plan_engine(NAME, EngineConfig(device="cpu"))
    with pytest.raises(ModelNotFoundError, match="acme/tiny"):
        plan_engine("acme/tiny", EngineConfig(device="cpu", weights="random"))


def test_a_cache_that_can_not_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    with pytest.raises(FarthingError, match=r"config.json can't be written"):
        model_files(find_anywhere(NAME), needs_weights=False)
