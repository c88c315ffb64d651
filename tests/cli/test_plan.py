"""`farthing plan` as a user meets it: an answer, a file that is taken back, or one line and exit code 2."""

import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import WITHOUT_EXTRAS, Done, Farthing

import farthing
from farthing.cli import app

LOADED = """
import atexit, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
from farthing.cli.app import main
main()
"""


def start(*arguments: str, code: str | None = None, home: Path) -> subprocess.CompletedProcess[str]:
    source = str(Path(farthing.__file__).parents[1])
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": source, "COLUMNS": "100"}
    command = [sys.executable, *(("-c", code) if code else ("-m", "farthing")), "plan", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def assert_one_line_mistake(done: Done, *fragments: str) -> None:
    assert (done.code, done.out) == (2, ""), done
    assert re.fullmatch(r"farthing: .+ - .+\n", done.err), done.err
    for fragment in fragments:
        assert fragment in done.err


def test_a_plan_as_json_needs_no_extra(tmp_path: Path):
    done = start("llama-3.1-8b", "--on", "rtx-4090", "--json", code=WITHOUT_EXTRAS, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["schema"] == "farthing.plan/1"


def test_a_plan_for_people_needs_no_extra(tmp_path: Path):
    done = start("llama-3.1-70b", "--on", "4x4090", code=WITHOUT_EXTRAS, home=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("llama-3.1-70b · fp8 on 4x rtx-4090")


def test_a_plan_as_json_loads_nothing_heavy(tmp_path: Path):
    done = start("llama-3.1-8b", "--on", "rtx-4090", "--json", code=LOADED, home=tmp_path)
    loaded = set(done.stderr.split())
    assert "farthing.planner.plan" in loaded
    heavy = {"torch", "numpy", "rich.table", "huggingface_hub", "transformers", "farthing.engine"}
    assert not loaded & heavy


def test_the_exit_code_of_a_process_is_0_for_what_does_not_fit_and_2_for_a_mistake(tmp_path: Path):
    refused = start("llama-2-70b", "--on", "rtx-4090", "--format", "fp16", "--json", home=tmp_path)
    assert refused.returncode == 0 and json.loads(refused.stdout)["fits"] is False
    assert start("llama-2-70b", "--on", "rtx-4091", home=tmp_path).returncode == 2


def test_a_plan_shows_memory_speed_ops_and_what_it_rests_on(run_farthing: Farthing):
    done = run_farthing("plan", "llama-3.1-8b", "--on", "rtx-4090")
    assert (done.code, done.err) == (0, "")
    for part in ("memory of each device", "KV room", "time per token", "limited by", "assumed", "bandwidth"):
        assert part in done.out


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_figures_survive_a_narrow_terminal(run_farthing: Farthing, columns: int):
    done = run_farthing("plan", "llama-3.1-8b", "--on", "rtx-4090", columns=columns)
    assert done.code == 0
    for figure in ("14.96 GiB", "23.99 GiB"):
        assert figure in done.out
    (row,) = [line for line in done.out.splitlines() if line.startswith("mlp.gate_proj")]
    assert re.search(r"[\d.]+ ms +\d+%", row), "time and share of an op are whole"


def test_what_does_not_fit_is_an_answer_with_what_would(run_farthing: Farthing):
    done = run_farthing("plan", "llama-2-13b", "--on", "4090", "--format", "fp16")
    assert (done.code, done.err) == (0, "")
    for part in ("does not fit", "missing", "what would fit", "--format fp8", "2x rtx-4090"):
        assert part in done.out


def test_every_flag_is_heard(run_farthing: Farthing):
    flags = (
        "--format int8 --kv-format int8 --tp 2 --pp 2 --replicas 2 --batch 8 --input-tokens 100 --output-tokens 50 "
        "--context 1000 --memory 80% --no-p2p --network 10GB --price-per-hour 2 --max-num-seqs 32 "
        "--max-batch-tokens 512 --block-size 32"
    )
    document = json.loads(run_farthing("plan", "llama-3.1-8b", "--on", "8x4090", "--json", *flags.split()).out)
    assert (document["format"], document["kv_format"]) == ("w8a16", "int8")
    assert (document["tp"], document["pp"], document["replicas"], document["batch"]) == (2, 2, 2, 8)
    assert (document["input_tokens"], document["output_tokens"], document["context"]) == (100, 50, 1000)
    device = document["memory"]["per_device"][0]
    assert device["usable_bytes"] == int(25_757_220_864 * 0.8)
    assert device["kv_tokens"] == 32 * 1024  # sequences of 1,000 tokens in blocks of 32
    assert document["cost"]["dollars_per_hour"] == 2


def test_training_is_answered_in_words_and_as_json(run_farthing: Farthing):
    done = run_farthing("plan", "llama-2-70b", "--on", "8x4090", "--train")
    assert done.code == 0 and "training llama-2-70b does not fit 8x rtx-4090" in done.out
    document = json.loads(run_farthing("plan", "llama-2-70b", "--on", "8x4090", "--train", "--json").out)
    assert document["schema"] == "farthing.training/1" and document["fits"] is False


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        ("llama-9 --on 4090", ["'llama-9'", "did you mean llama-3"]),
        ("llama-3.1-8b --on 4099", ["'4099'", "did you mean rtx-4090"]),
        ("llama-3.1-8b --on h100", ["h100-nvl, h100-pcie, h100-sxm", "name one of them"]),
        ("llama-3.1-8b --on 0x4090", ["0 is no number of devices"]),
        ("llama-3.1-8b --on 2000x4090", ["2,000 devices"]),
        ("llama-3.1-8b --on any --rate 0", ["rate", "above 0"]),
        ("llama-3.1-8b", ["not been measured", "farthing probe"]),
        ("--on 8x4090 --training", ["--training is about a model", "name one"]),
        ("llama-3.1-8b --on 4090 --price-per-hour -1", ["--price-per-hour is -1"]),
        ("llama-3.1-8b --on 4090 --price-per-hour nan", ["--price-per-hour is nan"]),
        ("llama-3.1-8b --on 4090 --price-per-hour 1e308", ["--price-per-hour"]),
        ("llama-3.1-8b --on 4090 --network abc", ["--network", "'abc'"]),
        ("llama-3.1-8b --on 2x8xh100-sxm --network 0", ["--network"]),
        ("llama-3.1-8b --on 4090 --memory lots", ["--memory is 'lots'", "85%"]),
        ("llama-3.1-8b --on 4090 --memory 0.000000001%", ["--memory"]),
        ("llama-3.1-8b --on xeon-8480p", ["--memory 64GiB"]),
        ("llama-3.1-8b --on 4090 --batch 0", ["--batch is 0"]),
        ("llama-3.1-8b --on 4090 --batch 99999999999999999999", ["--batch"]),
        ("llama-3.1-8b --on 4090 --batch four", ["--batch"]),
        ("llama-3.1-8b --on 4090 --context 200000", ["--context 200000", "131072"]),
        ("llama-3.1-8b --on 4090 --context 100 --input-tokens 600", ["--context 856"]),
        ("llama-3.1-8b --on 4090 --format int3", ["'int3'", "int4"]),
        ("llama-3.1-8b --on a100-80-sxm --format fp8", ["a100-80-sxm has no fast path for fp8"]),
        ("llama-3.1-8b --on 4090 --kv-format int3", ["int3"]),
        ("llama-3.1-8b --on 8x4090 --tp 3", ["8 devices", "tp 3"]),
        ("llama-3.1-8b --on 4090 --max-num-seqs 4096", ["--max-batch-tokens"]),
        ("llama-3.1-8b --on 4090 --quantization int8", ["--quantization", "here it is --format"]),
        ("llama-3.1-8b --on 4090 --max-model-len 4096", ["here it is --context"]),
        ("llama-3.1-8b --on 4090 -ngl 99", ["-ngl", "here it is"]),
        ("llama-3.1-8b --on 4090 --tensor-parallel-size 2", ["here it is --tp"]),
        ("llama-3.1-8b --on 4090 --save plan", ["name it plan.toml"]),
        ("llama-3.1-8b --on 4090 --train --save plan.toml", ["--train", "--save"]),
        ("nothing.toml", ["nothing.toml can't be read"]),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_cause_and_fix(run_farthing: Farthing, arguments: str, fragments: list[str]):
    assert_one_line_mistake(run_farthing("plan", *arguments.split()), *fragments)


ZERO_HEADS = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "vocab_size": 320}
ZERO_HEADS |= {"num_hidden_layers": 2, "num_attention_heads": 0}


@pytest.mark.parametrize(
    ("config", "fragment"),
    [
        (json.dumps(ZERO_HEADS), "num_attention_heads is 0"),
        (json.dumps({**ZERO_HEADS, "num_attention_heads": 4, "num_key_value_heads": 3}), "num_key_value_heads"),
        ("{", "not valid JSON"),
        ("[]", "no JSON object"),
        (json.dumps({"architectures": ["GPT2LMHeadModel"]}), "GPT2LMHeadModel"),
        (None, "config.json"),
    ],
)
def test_a_folder_that_is_no_model_is_one_line(
    run_farthing: Farthing, tmp_path: Path, config: str | None, fragment: str
):
    (tmp_path / "model").mkdir()
    if config is not None:
        (tmp_path / "model" / "config.json").write_text(config)
    assert_one_line_mistake(run_farthing("plan", "model", "--on", "4090"), fragment)


def test_a_saved_plan_is_taken_in_place_of_the_model(run_farthing: Farthing, tmp_path: Path):
    first = run_farthing("plan", "llama-3.1-70b", "--on", "4x4090", "--batch", "16", "--save", "a.toml", "--json")
    assert first.code == 0 and first.err == "saved to a.toml\n"
    second = run_farthing("plan", "a.toml", "--json")
    before, after = json.loads(first.out), json.loads(second.out)
    for key in ("model", "hardware", "format", "tp", "pp", "replicas", "batch", "memory", "prefill", "decode", "cost"):
        assert after[key] == before[key], key


def test_flags_go_before_what_the_file_says_even_at_their_defaults(run_farthing: Farthing):
    run_farthing("plan", "llama-3.1-8b", "--on", "4090", "--batch", "16", "--format", "int8", "--save", "a.toml")
    assert json.loads(run_farthing("plan", "a.toml", "--json").out)["batch"] == 16
    for flags, key, expected in (
        ("--batch 4", "batch", 4),
        ("--batch 1", "batch", 1),
        ("--format auto", "format", "bf16"),
        ("--on h100-sxm", "hardware", "1x h100-sxm"),
        ("--input-tokens 512", "input_tokens", 512),
    ):
        assert json.loads(run_farthing("plan", "a.toml", "--json", *flags.split()).out)[key] == expected, flags


def test_other_hardware_than_the_file_s_is_divided_anew(run_farthing: Farthing):
    run_farthing("plan", "llama-3.1-70b", "--on", "4x4090", "--save", "a.toml")
    document = json.loads(run_farthing("plan", "a.toml", "--on", "8x4090", "--json").out)
    assert document["tp"] * document["pp"] * document["replicas"] == 8


def test_an_edited_plan_file_is_one_line(run_farthing: Farthing, tmp_path: Path):
    run_farthing("plan", "llama-3.1-8b", "--on", "4090", "--save", "a.toml")
    good = (tmp_path / "a.toml").read_text()
    assert tomllib.loads(good)["request"]["on"] == "4090"
    for found, nonsense, fragment in (
        ('on = "4090"', 'on = "x9"', "'x9'"),
        ("batch = 1", "batch = -1", "--batch is -1"),
        ('model = "llama-3.1-8b"', 'model = "lama"', "'lama'"),
        ("[request]", "[requests]", "requests"),
        ("tp = 1", "tp = 7", "tp 7"),
        ("plan-file/1", "plan-file/9", "plan-file/9"),
        ("schema", "scheme", "schema"),
    ):
        assert found in good
        (tmp_path / "b.toml").write_text(good.replace(found, nonsense))
        assert_one_line_mistake(run_farthing("plan", "b.toml"), fragment)


def test_a_plan_that_does_not_fit_is_told_and_not_saved(run_farthing: Farthing, tmp_path: Path):
    done = run_farthing("plan", "llama-2-70b", "--on", "4090", "--format", "fp16", "--save", "a.toml")
    assert done.code == 2 and "does not fit" in done.err
    assert not (tmp_path / "a.toml").exists()


def test_a_long_prompt_in_small_steps_is_planned_while_one_waits(tmp_path: Path):
    """Thousands of steps on many layouts: it once took minutes."""
    flags = ["--max-batch-tokens", "256", "--input-tokens", "130000", "--context", "131072", "--json"]
    done = start("llama-3.1-8b", "--on", "8xh200-sxm", *flags, home=tmp_path)
    assert done.returncode == 0 and json.loads(done.stdout)["fits"]


def test_the_text_can_be_piped_to_a_file_without_utf_8(run_farthing: Farthing, monkeypatch: pytest.MonkeyPatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as ended:
        app.main(["plan", "llama-3.1-8b", "--on", "4090"])
    assert ended.value.code == 0
