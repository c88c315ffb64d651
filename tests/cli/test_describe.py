"""What `farthing describe` prints: the description's own sums, a row per kind of op, one line for a mistake."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import farthing
from farthing.cli import app
from farthing.cli.describe import DescribeFlags, describe
from farthing.models.auto import config_of
from farthing.models.auto import describe as describe_model
from farthing.models.reference import find_model
from farthing.models.spec import Precision
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve

MOE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 24,
    "mlp_only_layers": [0],
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def moe(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(MOE))
    return str(tmp_path)


def as_json(capsys: pytest.CaptureFixture[str], model: str, **flags: Any) -> dict[str, Any]:
    describe(model, flags=DescribeFlags(json=True, **flags))
    parsed = json.loads(capsys.readouterr().out)
    assert isinstance(parsed, dict)
    return parsed


def as_text(capsys: pytest.CaptureFixture[str], model: str, **flags: Any) -> str:
    describe(model, flags=DescribeFlags(**flags))
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command line says of a mistake: one line on stderr, exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        app.main(["describe", *arguments])
    printed = capsys.readouterr()
    assert stopped.value.code == 2 and printed.out == ""
    assert re.fullmatch(r"farthing: .+ - .+\n", printed.err), printed.err
    return printed.err


def test_the_json_object_keeps_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    told = as_json(capsys, "llama-3.1-8b")
    assert list(told) == [
        "schema", "model", "hub_id", "family", "plan_only", "format", "activation_dtype", "kv_format", "num_layers",
        "num_parameters", "num_active_parameters", "weights_bytes", "active_weights_bytes", "kv_bytes_per_token",
        "max_context", "max_context_reason", "tp", "pp", "stages", "phases", "ops",
    ]  # fmt: skip
    assert told["schema"] == "farthing.describe/1"
    assert list(told["stages"][0]) == [
        "first_layer", "num_layers", "num_parameters", "weights_bytes", "kv_bytes_per_token",
    ]  # fmt: skip
    cost = ["flops", "flops_by_math", "read_bytes", "write_bytes", "comm_bytes"]
    for phase in ("prefill", "decode"):
        assert list(told["phases"][phase]) == ["num_sequences", "new_tokens", "context_tokens", *cost]
        assert list(told["ops"][0][phase]) == cost
    assert list(told["ops"][0])[:6] == ["name", "kind", "count", "size", "num_parameters", "weights_bytes"]


def test_the_figures_are_those_of_the_description(capsys: pytest.CaptureFixture[str]) -> None:
    told = as_json(capsys, "llama-3.1-8b", input_tokens=100, context=1000, batch=3)
    spec = describe_model(config_of(find_model("llama-3.1-8b")), Precision.of(resolve("bf16", "cuda")))
    assert (told["family"], told["num_layers"], told["format"], told["plan_only"]) == ("llama", 32, "bf16", False)
    assert told["hub_id"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert told["num_parameters"] == told["num_active_parameters"] == 8_030_261_248
    assert (told["weights_bytes"], told["kv_bytes_per_token"], told["max_context"]) == (
        16_060_522_496,
        131_072,
        131_072,
    )
    for name, batch in (("prefill", BatchShape.prefill(100, 3)), ("decode", BatchShape.decode(999, 3))):
        cost, phase = spec.cost(batch), told["phases"][name]
        assert (phase["num_sequences"], phase["new_tokens"]) == (3, batch.sequences[0][0])
        assert phase["flops"] == cost.total_flops == sum(op[name]["flops"] for op in told["ops"])
        assert (phase["read_bytes"], phase["write_bytes"]) == (cost.read_bytes, cost.write_bytes)
    assert sum(op["num_parameters"] for op in told["ops"]) == told["num_parameters"]
    assert sum(op["weights_bytes"] for op in told["ops"]) == told["weights_bytes"]


def test_equal_ops_of_all_layers_are_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    lines = as_text(capsys, "llama-3.1-8b").splitlines()
    assert "llama-3.1-8b · llama · 32 layers · 8.03 G parameters · weights 14.96 GiB in bf16" in lines[0]
    assert "KV 128.00 KiB a token" in lines[0] and "meta-llama/Llama-3.1-8B-Instruct" in lines[0]
    assert "prefill: 1 prompt of 512 tokens · decode: 1 token in a context of 4,096" in lines[1]
    [row] = [line for line in lines if "q_proj" in line]
    assert row.startswith("self_attn.q_proj x 32") and "4096 to 4096" in row and " 537 M " in row
    assert [line.split()[1] for line in lines if line.startswith("total")] == ["8.03"]


def test_no_column_is_cut_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = as_text(capsys, "llama-3.1-8b", tp=2, pp=2)
    assert "…" not in text and "post_attention_layernorm x 32" in text and "decode sent" in text


def test_layers_that_differ_have_rows_of_their_own(moe: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = as_text(capsys, moe)
    assert "self_attn.q_proj x 4" in text and "mlp.experts x 3" in text
    assert re.search(r"^mlp\.gate_proj +64 to 96", text, re.MULTILINE)


def test_active_and_stored_are_told_apart_and_what_is_planned_only_is_marked(
    moe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = as_json(capsys, moe)
    idle = 3 * 12 * 3 * 64 * 24
    assert told["plan_only"] and told["hub_id"] is None
    assert told["num_parameters"] - told["num_active_parameters"] == idle
    assert told["weights_bytes"] - told["active_weights_bytes"] == 2 * idle
    text = as_text(capsys, moe)
    assert "active)" in text.splitlines()[0] and text.splitlines()[1].startswith("plan only")
    assert "of its 16 experts a layer reads 16.0 in prefill, 4.0 in decode" in text


def test_formats_are_resolved_and_the_cache_has_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    plain, int8 = as_json(capsys, "llama-3.1-8b"), as_json(capsys, "llama-3.1-8b", format="int8", kv_format="fp8")
    assert (int8["format"], int8["activation_dtype"], int8["kv_format"]) == ("w8a16", "bf16", "fp8_e4m3")
    assert int8["weights_bytes"] < 0.6 * plain["weights_bytes"]
    assert 2 * int8["kv_bytes_per_token"] == plain["kv_bytes_per_token"]
    assert as_json(capsys, "llama-2-70b")["format"] == "fp16"


def test_rows_of_a_divided_model_are_those_of_one_rank_of_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    whole, part = as_json(capsys, "llama-3.1-8b"), as_json(capsys, "llama-3.1-8b", tp=2, pp=4)
    assert [(stage["first_layer"], stage["num_layers"]) for stage in part["stages"]] == [
        (0, 8),
        (8, 8),
        (16, 8),
        (24, 8),
    ]
    assert part["num_parameters"] == whole["num_parameters"]
    assert 2 * part["phases"]["decode"]["flops"] == whole["phases"]["decode"]["flops"]
    assert sum(op["weights_bytes"] for op in part["ops"]) == sum(stage["weights_bytes"] for stage in part["stages"])
    assert {op["name"]: op["count"] for op in part["ops"]}["send"] == 3
    assert part["phases"]["prefill"]["comm_bytes"] > 0 == whole["phases"]["prefill"]["comm_bytes"]


def test_a_model_of_few_positions_is_described_with_as_many(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**MOE, "max_position_embeddings": 100}))
    phases = as_json(capsys, str(tmp_path))["phases"]
    assert (phases["prefill"]["new_tokens"], phases["decode"]["context_tokens"]) == (100, 99)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["llama-3.1-9b"], "llama-3.1-8b"),
        (["someone/unknown-model"], "farthing pull someone/unknown-model"),
        (["llama-3.1-8b", "--context", "131073"], "max_position_embeddings"),
        (["llama-3.1-8b", "--input-tokens", "200000"], "--input-tokens 200000"),
        (["llama-3.1-8b", "--input-tokens", "0"], "--input-tokens is 0"),
        (["llama-3.1-8b", "--batch", "-3"], "--batch is -3"),
        (["llama-3.1-8b", "--batch", "99999999999"], "at most"),
        (["llama-3.1-8b", "--tp", "3"], "32 attention heads do not divide by tp 3"),
        (["llama-3.1-8b", "--pp", "33"], "pp 33"),
        (["llama-3.1-8b", "--format", "int3"], "'int3'"),
        (["llama-3.1-8b", "--kv-format", "int3"], "--kv-format 'int3'"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refusal(capsys, *arguments)


def test_an_empty_folder_and_zero_heads_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "config.json" in refusal(capsys, str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**MOE, "num_attention_heads": 0}))
    assert "num_attention_heads is 0" in refusal(capsys, str(tmp_path))


def test_neither_torch_nor_numpy_is_loaded() -> None:
    code = (
        "import sys; from farthing.cli.describe import describe; describe('llama-3.1-8b'); "
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(Path(farthing.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
