"""Two plan files side by side."""

import json
from pathlib import Path

import pytest

from farthing.cli.app import main
from farthing.cli.plan_diff import plan_diff
from farthing.errors import UsageError


@pytest.fixture
def files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The same model on one 4090 in 8 bits and on one H100 in 16."""
    paths = []
    for name, flags in (("a", ("--on", "4090", "--format", "int8")), ("b", ("--on", "h100-sxm"))):
        path = tmp_path / f"{name}.toml"
        with pytest.raises(SystemExit) as ended:
            main(["plan", "llama-3.1-8b", *flags, "--save", str(path)])
        assert ended.value.code == 0
        paths.append(str(path))
    capsys.readouterr()
    return paths[0], paths[1]


def test_figures_of_both_stand_side_by_side(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert plan_diff(*files, json=False) == 0
    text = capsys.readouterr().out
    for name in ("hardware", "format", "fits", "time per token", "dollars a month", "J per token", "b / a"):
        assert name in text
    assert "1x rtx-4090" in text and "1x h100-sxm" in text
    assert "block-size" not in text  # what both ask alike is left out


def test_the_json_object_has_both_what_differs_and_ratios(
    files: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    plan_diff(*files, json=True)
    made = json.loads(capsys.readouterr().out)
    assert made["schema"] == "farthing.plan-diff/1"
    assert made["differs"]["format"] == {"a": "w8a16", "b": "bf16"}
    assert set(made["differs"]) >= {"hardware", "format"} and "input_tokens" not in made["differs"]
    assert made["ratios"]["tpot_seconds"] == pytest.approx(made["b"]["tpot_seconds"] / made["a"]["tpot_seconds"])
    assert made["a"]["dollars_per_month"] > 0 and made["b"]["joules_per_output_token"] > 0


def test_a_plan_beside_itself_differs_in_nothing(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    plan_diff(files[0], files[0], json=True)
    made = json.loads(capsys.readouterr().out)
    assert made["differs"] == {}
    assert set(made["ratios"].values()) == {1.0}


def test_what_is_no_plan_file_is_named(files: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no plan file"):
        plan_diff("llama-3.1-8b", files[0], json=True)
    with pytest.raises(UsageError, match=r"nothing\.toml"):
        plan_diff(str(tmp_path / "nothing.toml"), files[0], json=True)
    (tmp_path / "broken.toml").write_text("schema = 1", encoding="utf-8")
    with pytest.raises(UsageError, match=r"broken\.toml"):
        plan_diff(files[0], str(tmp_path / "broken.toml"), json=True)
