"""Rows of ops: equal ops together, in order of computation, summing to the description."""

import pytest

from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.op_table import op_rows
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import resolve

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 320,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 2,
    "tie_word_embeddings": True,
}
PHASES = (BatchShape.prefill(40), BatchShape.decode(99, batch=3))


def described(**changes: object) -> ModelSpec:
    config = ConfigReader({**CONFIG, **changes}, "config.json")
    return describe(config, Precision.of(resolve("w8a16", "cpu")))


def test_rows_stand_in_order_of_first_computation_with_their_number() -> None:
    rows = [(row.name, row.count) for row in op_rows((described(),), PHASES)]
    assert rows[:3] == [("model.embed_tokens", 1), ("input_layernorm", 5), ("self_attn.q_proj", 5)]
    assert ("mlp.gate_proj", 3) in rows and ("mlp.experts", 2) in rows and rows[-1] == ("lm_head", 1)


def test_ops_of_one_name_and_different_sizes_are_different_rows() -> None:
    windows = {"architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 7}
    rows = op_rows((described(**windows, max_window_layers=2),), PHASES)
    sizes = [(row.count, row.size) for row in rows if row.kind == "Attention"]
    assert sizes == [(2, "8 heads of 8, 4 KV"), (3, "8 heads of 8, 4 KV, window 7")]


@pytest.mark.parametrize(("tp", "pp"), [(1, 1), (2, 1), (1, 3), (4, 2)])
def test_rows_add_up_to_the_stages(tp: int, pp: int) -> None:
    stages = parallelize(described(), tp, pp)
    rows = op_rows(stages, PHASES)
    assert sum(row.num_parameters for row in rows) == sum(stage.num_parameters for stage in stages)
    assert sum(row.weight_bytes for row in rows) == sum(stage.weight_bytes for stage in stages)
    for index, phase in enumerate(PHASES):
        assert sum((row.costs[index] for row in rows), Cost()) == sum((stage.cost(phase) for stage in stages), Cost())


def test_a_tied_head_has_no_parameters_and_says_whose_matrix_it_reads() -> None:
    *_, head = op_rows((described(),), PHASES)
    assert (head.num_parameters, head.weight_bytes) == (0, 0)
    assert head.size == "64 to 320, matrix of model.embed_tokens"
