"""The memory plan: what it adds up, where it ends, and what it says when a model does not fit."""

from dataclasses import replace

import pytest

from farthing.errors import DoesNotFitError
from farthing.models.auto import config_of, describe
from farthing.models.config_reader import ConfigReader
from farthing.models.memory import MemoryPlan, activation_peak_bytes, plan_memory, step_working_set_bytes
from farthing.models.parallel import parallelize
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}
RESERVE, BLOCK_SIZE, CONTEXT, MAX_SEQS, MAX_TOKENS = 1000, 16, 100, 4, 32
BLOCK_BYTES = BLOCK_SIZE * 3 * 2 * 2 * 16 * 2  # 3 layers, K and V, 2 heads of 16, 16 bits
BLOCKS_OF_A_CONTEXT = 7  # 100 tokens


def described(**changes: object) -> ModelSpec:
    return describe(ConfigReader({**CONFIG, **changes}, "config.json"), Precision.of(resolve("bf16", "cpu")))


def plan(budget_bytes: int, spec: ModelSpec | None = None) -> MemoryPlan:
    return plan_memory(
        spec or described(),
        budget_bytes=budget_bytes,
        reserve_bytes=RESERVE,
        block_size=BLOCK_SIZE,
        max_num_seqs=MAX_SEQS,
        max_batch_tokens=MAX_TOKENS,
        max_model_len=CONTEXT,
    )


def fixed_bytes() -> int:
    """All but the KV pool."""
    spec = described()
    return spec.weight_bytes + activation_peak_bytes(spec, MAX_TOKENS, MAX_SEQS, CONTEXT) + RESERVE


def test_a_plan_is_the_sum_of_its_lines_within_the_budget() -> None:
    for extra in (BLOCKS_OF_A_CONTEXT * BLOCK_BYTES, 10 * BLOCK_BYTES + 17, 2**30):
        found = plan(fixed_bytes() + extra)
        assert found.kv_tokens == found.num_blocks * BLOCK_SIZE
        assert found.kv_bytes == found.num_blocks * BLOCK_BYTES
        assert found.total_bytes == fixed_bytes() + found.kv_bytes <= found.budget_bytes


def test_the_budget_fits_to_the_byte() -> None:
    exact = fixed_bytes() + BLOCKS_OF_A_CONTEXT * BLOCK_BYTES
    fitting = plan(exact)
    assert fitting.num_blocks == BLOCKS_OF_A_CONTEXT and fitting.total_bytes == fitting.budget_bytes
    with pytest.raises(DoesNotFitError):
        plan(exact - 1)


def test_room_is_taken_in_whole_blocks_and_never_more_than_the_sequences_can_use() -> None:
    exact = fixed_bytes() + BLOCKS_OF_A_CONTEXT * BLOCK_BYTES
    assert plan(exact + BLOCK_BYTES - 1).num_blocks == BLOCKS_OF_A_CONTEXT
    assert plan(exact + BLOCK_BYTES).num_blocks == BLOCKS_OF_A_CONTEXT + 1
    assert plan(2**40).num_blocks == BLOCKS_OF_A_CONTEXT * MAX_SEQS


@pytest.mark.parametrize("budget_bytes", [0, 1, 50_000])
def test_what_does_not_fit_is_one_line_with_the_whole_sum(budget_bytes: int) -> None:
    with pytest.raises(DoesNotFitError) as refused:
        plan(budget_bytes)
    text = str(refused.value)
    assert "weights 260.88 KiB" in text and described().weight_bytes == 2 * (2 * 320 * 64 + 3 * 30_848 + 64)
    assert "KV of one sequence of 100 tokens 42.00 KiB" in text
    assert "activations" in text and "reserve 1000 B" in text and "usable" in text and "--format int8" in text
    assert len(text.splitlines()) == 1


def test_a_rank_of_a_divided_model_is_planned_by_its_own_part() -> None:
    (half,) = parallelize(described(), tp=2)
    whole, part = plan(2**40), plan(2**40, half)
    assert part.num_blocks == whole.num_blocks and part.kv_bytes * 2 == whole.kv_bytes
    assert part.weights_bytes < whole.weights_bytes and part.activation_bytes < whole.activation_bytes
    for stage in parallelize(described(), pp=3):
        assert plan(2**40, stage).kv_bytes * 3 == whole.kv_bytes


def test_activations_hold_the_stream_the_wider_half_of_a_layer_and_the_logits() -> None:
    spec = described()
    stream = 32 * 64 * (2 * 2 + 8)
    in_attention = 32 * (2 * 4 + 2 * 2) * 16 * 2 + 2 * 100 * 2 * 16 * 4
    in_mlp = 3 * 32 * 96 * 2
    assert in_attention > in_mlp
    assert activation_peak_bytes(spec, 32, 4, 100) == stream + in_attention + 4 * 4 * 320 * 4
    wide = described(intermediate_size=9600)
    assert activation_peak_bytes(wide, 32, 4, 100) == stream + 100 * in_mlp + 4 * 4 * 320 * 4
    assert activation_peak_bytes(replace(spec, head=None), 32, 4, 100) == stream + in_attention


def test_a_step_touches_all_weights_but_the_embedding_and_the_attended_cache() -> None:
    batch = BatchShape.of([(1, 9), (4, 0)])
    untied, tied = described(), described(tie_word_embeddings=True)
    kv_bytes = 14 * untied.kv_bytes_per_token
    assert step_working_set_bytes(untied, batch) == untied.weight_bytes - 320 * 64 * 2 + kv_bytes
    assert step_working_set_bytes(tied, batch) == tied.weight_bytes + kv_bytes  # the head reads the shared matrix whole
    windowed = described(architectures=["MistralForCausalLM"], sliding_window=4)
    assert step_working_set_bytes(windowed, batch) == untied.weight_bytes - 320 * 64 * 2 + 8 * untied.kv_bytes_per_token


MIXTRAL = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 8, "num_experts_per_tok": 2}


def test_a_step_touches_the_experts_that_its_tokens_are_expected_to_choose() -> None:
    spec = described(**MIXTRAL)
    all_experts = 3 * 8 * 3 * 64 * 96 * 2
    rest = spec.weight_bytes - all_experts - 320 * 64 * 2
    one, two, many = BatchShape.decode(0), BatchShape.decode(0, batch=2), BatchShape.prefill(1000)
    assert step_working_set_bytes(spec, one) == rest + all_experts * 2 // 8 + spec.kv_bytes_per_token
    assert step_working_set_bytes(spec, two) == rest + all_experts * 7 // 16 + 2 * spec.kv_bytes_per_token
    assert step_working_set_bytes(spec, many) == rest + all_experts + 1000 * spec.kv_bytes_per_token


def test_activations_of_experts_are_those_of_every_routed_token() -> None:
    spec = described(**MIXTRAL, intermediate_size=9600)
    stream, logits = 32 * 64 * (2 * 2 + 8), 4 * 4 * 320 * 4
    assert activation_peak_bytes(spec, 32, 4, 100) == stream + 32 * (2 * (3 * 9600 + 64) + 8) * 2 + logits
    moe = {**MIXTRAL, "architectures": ["Qwen3MoeForCausalLM"], "moe_intermediate_size": 10}
    mixed = described(**moe, mlp_only_layers=[1], intermediate_size=9600)
    assert activation_peak_bytes(mixed, 32, 4, 100) == stream + 32 * 3 * 9600 * 2 + logits, "the dense layer is wider"


def test_every_tensor_parallel_rank_holds_the_whole_logits_that_it_samples() -> None:
    config = config_of(find_model("llama-3.1-8b"))
    spec = describe(config, Precision.of(resolve("bf16", "cuda")))
    for tp in (1, 2, 8):
        (rank,) = parallelize(spec, tp)
        assert activation_peak_bytes(rank, 1, 256, 1) >= 4 * 256 * spec.vocab_size * 4
