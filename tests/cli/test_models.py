"""`farthing models`: the table and the caches."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import REPOSITORY, LoopbackHub, running_hub

from farthing.cli.app import main
from farthing.models.published_models import published_models


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    yield from running_hub(tmp_path, monkeypatch)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_every_published_model_is_one_line(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "models").splitlines()
    for model in published_models().values():
        assert [line for line in lines if line.startswith(f"{model.name} ") and line.endswith(model.hub_id)]
    assert "farthing pull" in lines[-1]


def test_mixtures_of_experts_are_marked_plan_only(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    marked = [line.split()[0] for line in printed(capsys, "models").splitlines() if "plan only" in line]
    assert "mixtral-8x7b" in marked and "llama-3.1-8b" not in marked


def test_models_of_this_machine_are_listed_with_what_keeps_them_from_running(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(printed(capsys, "pull", REPOSITORY).strip())
    line = printed(capsys, "models", "--local").splitlines()[-1]
    assert line.split()[0] == REPOSITORY and line.endswith("yes")
    (folder / "quantize_config.json").write_text("{}")
    assert "unsupported: quantize_config.json" in printed(capsys, "models", "--local")
    (folder / "quantize_config.json").unlink()
    (folder / "model.safetensors").unlink()
    assert "incomplete: " in printed(capsys, "models", "--local")


def test_a_folder_of_the_cache_that_is_no_model_is_no_failure(
    hub: LoopbackHub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cache = tmp_path / "hf" / "hub"
    for name in ("models--a--b/blobs", "models--c--d/snapshots/x", "datasets--e--f/snapshots/x", ".locks"):
        (cache / name).mkdir(parents=True)
    lines = printed(capsys, "models", "--local").splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["c/d"] and "incomplete" in lines[1]


def test_the_json_object_has_both_lists(hub: LoopbackHub, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "pull", REPOSITORY)
    document = json.loads(printed(capsys, "models", "--json"))
    assert document["schema"] == "farthing.models/1" and list(document) == ["schema", "local", "published"]
    assert list(document["local"][0]) == ["name", "alias", "folder", "bytes", "problem"]
    assert document["local"][0]["bytes"] > 3_000_000
    assert list(document["published"][0]) == [
        "name", "hub_id", "base_hub_id", "parameters", "context", "plan_only", "source"
    ]  # fmt: skip
    assert "published" not in json.loads(printed(capsys, "models", "--local", "--json"))
