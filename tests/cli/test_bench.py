"""`farthing bench`: what it measures, keeps and compares. No figure is held against another machine's."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from farthing.cli.bench import app
from farthing.errors import FarthingError, UsageError
from farthing.hardware.machine import num_cores

QUICK = ("--quick", "--rounds", "3", "--threads", "1", "--max-num-seqs", "3")
FULL = Path("/dev/full")
Document = dict[str, Any]


def bench(*arguments: str | Path) -> int:
    """The exit code."""
    code = app([str(one) for one in arguments], exit_on_error=False, print_error=False, result_action="return_value")
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The figures of the bundled model, as --save wrote them."""
    path = tmp_path_factory.mktemp("bench") / "before.json"
    assert bench(*QUICK, "--save", path) == 0
    return path


@pytest.fixture
def changed(kept: Path, tmp_path: Path) -> Callable[[Callable[[Document], None]], Path]:
    """A copy of them after a change."""

    def change(how: Callable[[Document], None]) -> Path:
        document = json.loads(kept.read_text())
        how(document)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(document))
        return path

    return change


def scale(factor: float) -> Callable[[Document], None]:
    """As if all had been so many times as fast, without noise."""

    def apply(document: Document) -> None:
        for figure in document["figures"]:
            speeds = figure["tokens_per_second"]
            speeds["rounds"] = [speeds["median"] * factor] * len(speeds["rounds"])

    return apply


def test_the_file_holds_every_round_beside_forecast_and_limit(kept: Path):
    document = json.loads(kept.read_text())
    assert document["schema"] == "farthing.bench/1"
    assert (document["subject"]["model"], document["subject"]["num_cores"]) == ("bundled", num_cores())
    assert "torch" in document["subject"]["versions"] and document["options"]["max_num_seqs"] == 3
    assert [figure["name"] for figure in document["figures"]] == [
        "prefill, 510 tokens",
        "decode, batch 1",
        "decode, batch 3",
    ]
    for figure in document["figures"]:
        speeds = figure["tokens_per_second"]
        assert len(speeds["rounds"]) == 3 and min(speeds["rounds"]) > 0
        assert sorted(speeds["rounds"])[1] == speeds["median"]
        assert 0 < figure["forecast_tokens_per_second"] <= figure["limit_tokens_per_second"]
        assert figure["share_of_limit"] == pytest.approx(speeds["median"] / figure["limit_tokens_per_second"])
        assert figure["repeats"] >= 1


def test_a_table_and_a_json_object_show_the_same_figures(capsys: pytest.CaptureFixture[str]):
    assert bench(*QUICK) == 0
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("bundled", "1 thread", "forecast", "decode, batch 3", "prefill, 510"))
    assert bench(*QUICK, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert all(figure["name"] in shown for figure in document["figures"])


def test_a_machine_a_hundred_times_as_fast_before_is_a_loss(
    changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    before = changed(scale(100))
    assert bench(*QUICK, "--against", before, "--json") == 1
    captured = capsys.readouterr()
    compared = json.loads(captured.out)["against"]["figures"]
    assert [figure["verdict"] for figure in compared] == ["loss"] * 3
    assert all(figure["interval"][0] <= figure["ratio"] <= figure["interval"][1] < 1 for figure in compared)
    assert "decode, batch 3" in captured.err.splitlines()[-1] and "slower" in captured.err


def test_a_machine_a_hundred_times_as_slow_before_is_a_gain(
    changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    assert bench(*QUICK, "--against", changed(scale(0.01))) == 0
    assert capsys.readouterr().out.count("gain") == 3


def test_the_same_work_is_done_again_for_a_comparison(
    kept: Path, changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]
):
    def longer(document: Document) -> None:
        for figure, repeats in zip(document["figures"], (2, 33, 21), strict=True):
            figure["repeats"] = repeats

    bench(*QUICK, "--against", changed(longer), "--json")
    assert [figure["repeats"] for figure in json.loads(capsys.readouterr().out)["figures"]] == [2, 33, 21]


@pytest.mark.parametrize(
    ("field", "value"), [("device", "Abacus 1"), ("num_cores", 999), ("model", "llama"), ("format", "fp8")]
)
def test_other_machines_models_and_formats_are_not_compared(changed: Callable[..., Path], field: str, value: object):
    before = changed(lambda document: document["subject"].update({field: value}))
    with pytest.raises(UsageError, match=f"{field.replace('_', ' ')} {value} and .*--force"):
        bench(*QUICK, "--against", before)


def test_force_compares_all_the_same_and_says_so(changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    before = changed(lambda document: (scale(0.01)(document), document["subject"].update(device="Abacus 1")))
    assert bench(*QUICK, "--against", before, "--force") == 0
    assert "caution - compared all the same: device Abacus 1" in capsys.readouterr().err


def test_what_is_not_measured_this_time_is_said(changed: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    assert bench("--quick", "--threads", "1", "--max-num-seqs", "2", "--against", changed(scale(0.01))) == 0
    assert "not measured this time: decode, batch 3" in capsys.readouterr().err


def spoil_rounds(document: Document) -> None:
    document["figures"][0]["tokens_per_second"]["rounds"][0] = "fast"


def stop_time(document: Document) -> None:
    document["figures"][0]["tokens_per_second"]["rounds"][0] = 0


@pytest.mark.parametrize(
    "how",
    [
        lambda document: document.update(schema="farthing.run/1"),
        lambda document: document.pop("figures"),
        lambda document: document["subject"].pop("model"),
        lambda document: document["figures"][0].update(kind="training"),
        lambda document: document["figures"][0].update(repeats=-1),
        spoil_rounds,
        stop_time,
    ],
)
def test_a_file_that_is_no_such_file_is_refused(changed: Callable[..., Path], how: Callable[[Document], None]):
    with pytest.raises(UsageError, match="no file of farthing bench"):
        bench("--against", changed(how))


def test_garbage_and_missing_files_are_refused(tmp_path: Path):
    (tmp_path / "garbage").write_bytes(b"\xff\x00{")
    for name, reason in (("garbage", "no file of farthing bench"), ("absent", "can't be read"), (".", "can't be read")):
        with pytest.raises(UsageError, match=reason):
            bench("--against", tmp_path / name)


def test_few_rounds_are_not_compared(kept: Path, changed: Callable[..., Path]):
    with pytest.raises(UsageError, match="at least 3"):
        bench("--rounds", "2", "--against", kept)
    few = changed(lambda document: document["figures"][0]["tokens_per_second"].update(rounds=[1.0, 2.0]))
    with pytest.raises(UsageError, match="fewer than 3 rounds"):
        bench("--against", few)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rounds", "0"), "--rounds"),
        (("--force",), "--against"),
        (("--save", "/no/such/folder/x.json"), "--save"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(arguments: tuple[str, ...], named: str):
    with pytest.raises(UsageError, match=named):
        bench(*arguments)


@pytest.mark.parametrize("command", [("--save", "x.json"), ("serve", "--save", "x.json"), ("serve", "--plot", "x.png")])
def test_a_folder_without_permission_is_told_before_anything_is_loaded(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(UsageError, match=rf"{command[-2]} .* can't be written: no permission"):
        bench(*command)


@pytest.mark.skipif(not FULL.exists(), reason="no device here is always full")
def test_a_disk_that_is_full_when_the_figures_are_there_is_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(FarthingError, match="/dev/full can't be written: No space left on device"):
        bench(*QUICK, "--save", FULL)
    assert "decode, batch 3" in capsys.readouterr().out


def test_a_context_of_a_few_tokens_is_measured_too(capsys: pytest.CaptureFixture[str]):
    assert bench(*QUICK, "--context", "12", "--json") == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures[0]["name"] == "prefill, 10 tokens" and len(figures) == 3


def test_a_long_prompt_is_priced_in_the_chunks_in_which_it_is_computed(capsys: pytest.CaptureFixture[str]):
    assert bench(*QUICK, "--max-batch-tokens", "64", "--json") == 0
    chunked = json.loads(capsys.readouterr().out)["figures"][0]
    assert bench(*QUICK, "--json") == 0
    whole = json.loads(capsys.readouterr().out)["figures"][0]
    assert chunked["forecast_tokens_per_second"] < whole["forecast_tokens_per_second"]
