"""From a name to a model: files, aliases and repositories are told apart; a name of nothing is one line."""

from pathlib import Path

import pytest

from farthing.errors import ModelNotFoundError
from farthing.models.reference import find_model


def test_a_folder_its_config_and_a_gguf_file_are_found(tmp_path: Path) -> None:
    for name in ("config.json", "model.gguf"):
        (tmp_path / name).write_text("{}")
    assert find_model(str(tmp_path)).path == find_model(str(tmp_path / "config.json")).path == tmp_path
    assert find_model(str(tmp_path / "model.gguf")).path == tmp_path / "model.gguf"
    (tmp_path / "config.json").unlink()
    assert find_model(str(tmp_path)).path == tmp_path / "model.gguf"  # the one GGUF file of a folder without config


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert find_model("~/model").path == tmp_path / "model"


@pytest.mark.parametrize(
    "name",
    ["no-such-model", "~nobody-of-this-name/model", "a\0b", "x" * 5000, "/dev/null/x"],
    ids=lambda name: name[:20],
)
def test_a_name_of_nothing_is_one_line(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as refused:
        find_model(name)
    assert len(str(refused.value).splitlines()) == 1


def test_a_misspelt_alias_gets_the_nearest_one() -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean bundled"):
        find_model("bundeld")


def test_a_file_of_another_kind_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("x")
    with pytest.raises(ModelNotFoundError, match="no known kind"):
        find_model(str(tmp_path / "model.bin"))


@pytest.mark.parametrize("name", ["llama-3.1-8b", "Llama 3.1 8B", "llama3.1:8b", "meta-llama/Llama-3.1-8B-Instruct"])
def test_a_published_model_is_found_by_alias_loose_spelling_and_hub_id(name: str) -> None:
    found = find_model(name)
    assert (found.name, found.path, found.repository) == ("llama-3.1-8b", None, "meta-llama/Llama-3.1-8B-Instruct")
    assert found.published is not None


def test_base_behind_an_alias_means_the_base_weights() -> None:
    assert find_model("llama-3.1-8b-base").repository == "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize("name", ["org/name", "modelscope:org/name"])
def test_an_unknown_org_and_name_is_a_repository(name: str) -> None:
    assert (find_model(name).repository, find_model(name).published) == (name, None)


def test_a_folder_goes_before_a_repository_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_model("org/name").path == Path("org/name")
