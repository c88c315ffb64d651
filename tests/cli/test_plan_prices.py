"""What `farthing plan` says of money is the same in its line, its tables, its file and its page; what it can't heed it
refuses."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from farthing.cli import app, output
from farthing.hardware import calibration
from farthing.hardware.calibration import BandwidthPoint, Calibration, GemmPoint, cpu_key

Farthing = Callable[..., tuple[int, str, str]]
MEASURED = Calibration(
    device=cpu_key(),
    date="2026-11-22T10:00:00+00:00",
    bandwidth=(BandwidthPoint(2**30, 2, "sum", 20e9, 0.01),),
    gemm=(GemmPoint("fp32", 512, 512, 512, 2, 1e11, 0.01),),
    links=(),
    overhead_seconds_per_op=1e-6,
    process_bytes=300 * 2**20,
    device_context_bytes=0,
)


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Farthing:
    """`farthing plan ...` in an empty folder: exit code, stdout, stderr."""
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(output.stdout, "width", 120)

    def run(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            app.main(["plan", *line.split()])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.mark.parametrize("flags", ["--buy", "--rent", "--buy --utilisation 0.2", "--market cn --currency CNY"])
@pytest.mark.parametrize("model", ["llama-3.1-8b --on rtx-4090", "llama-3.1-70b --on 4x4090"])
def test_the_price_of_a_full_box_in_the_line_is_that_of_the_table(plan: Farthing, model: str, flags: str) -> None:
    _, out, _ = plan(f"{model} {flags}")
    headline = re.search(r"· (\S+) per Mtok when full", out)
    table = re.search(r"^Mtok when full +(\S+)", out, re.MULTILINE)
    assert headline and table and headline[1] == table[1]


def test_flags_that_change_no_price_of_an_hour_leave_the_plan_s_price_alone(plan: Farthing) -> None:
    plain = json.loads(plan("llama-3.1-8b --on rtx-4090 --json")[1])
    said = json.loads(plan("llama-3.1-8b --on rtx-4090 --json --currency EUR --against api:1/2 --utilisation 0.5")[1])
    assert said["cost"] == plain["cost"] and said["full"]["cost"] == plain["full"]["cost"]
    assert said["costs"][0]["against"]["output_dollars"] == 2


def test_the_parts_of_a_month_add_up_to_it_at_the_load_that_is_there(plan: Farthing) -> None:
    costs = json.loads(plan("llama-3.1-8b --on rtx-4090 --json --buy --batch 4")[1])["costs"]
    for cost in costs:
        assert sum(part["dollars_per_month"] for part in cost["parts"]) == pytest.approx(cost["dollars_per_month"])


def test_a_market_from_a_file_has_its_law_told_as_one_from_a_flag(plan: Farthing, tmp_path: Path) -> None:
    (tmp_path / "cn.toml").write_text('market = "cn"\n')
    by_file, by_flag = (plan(f"llama-3.1-8b --on h100-sxm {said}")[1] for said in ("--prices cn.toml", "--market cn"))
    assert "export:" in by_file and "not legal advice" in by_file and "export:" in by_flag
    assert "export:" not in plan("llama-3.1-8b --on h100-sxm")[1]
    law = json.loads(plan("llama-3.1-8b --on h100-sxm --prices cn.toml --json")[1])["law"]
    assert law[-1] == "not legal advice" and all(line in by_file for line in law[:1])


def test_what_an_engine_was_saved_with_is_planned_again(plan: Farthing) -> None:
    first = json.loads(plan("llama-3.1-8b --on rtx-4090 --engine vllm --save a.toml --json")[1])
    again = json.loads(plan("a.toml --json")[1])
    for key in ("memory", "prefill", "decode", "full", "cost", "assumptions"):
        assert again[key] == first[key], key
    assert first["decode"] != json.loads(plan("llama-3.1-8b --on rtx-4090 --json")[1])["decode"]


def test_an_engine_is_told_where_nobody_knows_that_it_runs_and_on_a_cpu(plan: Farthing) -> None:
    told = json.loads(plan("llama-3.1-8b --on mi300x --engine tensorrt-llm --json")[1])
    assert any("no tensorrt-llm is known to run on it" in line for line in told["cautions"])
    on_cpu = json.loads(plan("llama-3.1-8b --on epyc-9654 --memory 256GiB --engine llama.cpp --json")[1])
    assert any(line.startswith("llama.cpp: of ten published") for line in on_cpu["assumptions"])
    assert not on_cpu["cautions"]


def test_a_plan_file_does_not_keep_prices_and_says_so(plan: Farthing) -> None:
    assert plan("llama-3.1-8b --on rtx-4090 --buy --save a.toml")[2] == (
        "saved to a.toml; the file does not keep --buy: say it again\n"
    )


def test_training_says_where_its_price_is_from(plan: Farthing) -> None:
    assert "$/h owned" in plan("qwen2.5-0.5b --on rtx-4090 --training --buy")[1]
    assert "--price-per-hour says" in plan("qwen2.5-0.5b --on rtx-4090 --training --price-per-hour 2")[1]


def test_this_machine_costs_what_is_said_of_it(plan: Farthing) -> None:
    calibration.save(MEASURED)
    line = "qwen2.5-0.5b --format fp32 --memory 8GiB"
    code, _, err = plan(f"{line} --buy")
    assert code == 2 and "not in the catalogue" in err and "--price-per-hour" in err
    code, out, _ = plan(f"{line} --price-per-hour 0.5 --against api:1/2 --currency EUR --exchange-rate 1")
    assert code == 0 and "an API at €1.00 in" in out and "€365.00" in out


def test_what_a_plan_file_says_of_its_box_is_not_held_against_a_search(plan: Farthing) -> None:
    plan("llama-3.1-8b --on rtx-4090 --batch 8 --max-num-seqs 32 --save a.toml")
    found = json.loads(plan("a.toml --on l40s,rtx-4090 --users 4 --json")[1])
    assert found["found"] and found["demand"]["users"] == 4


def test_who_only_rents_or_only_buys_is_answered_that_alone_in_json_too(plan: Farthing) -> None:
    for flag, asked, other in (("--rent", "rent", "buy"), ("--buy", "buy", "rent")):
        found = json.loads(plan(f"llama-3.1-8b --on l40s,rtx-4090 --users 4 --json {flag}")[1])
        assert found["best"][asked] and found["options"][asked]
        assert found["best"][other] is None and not found["options"][other] and not found["why_not"][other]
        assert {flip["way"] for flip in found["flips"]} == {asked}


def test_a_search_that_finds_nothing_has_no_page_and_says_so(plan: Farthing, tmp_path: Path) -> None:
    code, out, err = plan("llama-3.1-8b --on rtx-4090 --users 1000000 --no-simulate --html a.html")
    assert code == 2 and "nothing meets this" in out and "no option to report on" in err
    assert not (tmp_path / "a.html").exists()


def test_a_budget_narrows_the_models_for_a_box(plan: Farthing) -> None:
    def fitting(flags: str) -> list[dict[str, object]]:
        return json.loads(plan(f"--on 2x3090 --json {flags}")[1])["models"]  # type: ignore[no-any-return]

    assert any(one["fits"] for one in fitting("--budget 10000"))
    poor = fitting("--budget 100")
    assert not any(one["fits"] for one in poor) and any(one["kind"] == "budget" for one in poor)
    assert all("no fast path for fp8" in str(one["why"]) for one in fitting("--format fp8"))


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ("llama-3.1-8b --engine vllm", ["--engine", "--on rtx-4090"]),
        ("llama-3.1-8b --on any --batch 4", ["a search does not take --batch"]),
        ("llama-3.1-8b --on rtx-4090 --users 4 --memory 20GiB --p2p", ["--memory, --p2p"]),
        ("llama-3.1-8b --on any --against api:1/2", ["--against"]),
        ("llama-3.1-8b --on any --lang zh", ["--lang"]),
        ("llama-3.1-8b --on any --tp 3", ["no --tp 3"]),
        ("llama-3.1-8b --on any --tp 3 --pp 1", ["do not divide by tp 3"]),
        ("--on 2x3090 --tp 3", ["no --tp 3"]),
        ("--on 2x3090 --max-num-seqs 8", ["--max-num-seqs"]),
        ("--on 2x3090 --simulate", ["--simulate"]),
        ("llama-3.1-8b --on rtx-4090 --lang zh", ["--lang", "--html"]),
        ("--on 2x3090 --save a.toml", ["search", "--save"]),
        ("--on 2x3090 --html a.html", ["--html", "one plan"]),
        ("llama-3.1-8b --on rtx-4090 --training --against api:1/2", ["--training does not take --against"]),
        ("llama-3.1-8b --on rtx-4090 --training --currency EUR", ["--currency"]),
        ("llama-3.1-8b --on 2x4090 --replicas 3", ["2 devices", "3 replicas of tp auto x pp auto"]),
    ],
)
def test_what_can_t_be_heeded_is_refused(plan: Farthing, line: str, fragments: list[str]) -> None:
    code, out, err = plan(line)
    assert (code, out) == (2, "") and err.count("\n") == 1
    for fragment in fragments:
        assert fragment in err
