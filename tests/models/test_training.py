"""Training memory: the figures of the ZeRO and recomputation papers, what autograd really keeps, and what divides."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import FarthingError
from farthing.models.auto import config_of, describe
from farthing.models.config_reader import ConfigReader
from farthing.models.parallel import parallelize
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.models.training import OPTIMIZERS, TrainingMemory, TrainingSetup, heaviest_rank, training_memory
from farthing.models.training_ops import adapted_matrices, kept_bytes
from farthing.quantization.base import resolve

HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM, LAYERS, VOCAB = 64, 96, 4, 2, 16, 3, 320
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "vocab_size": VOCAB,
}
MOE = {
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
SETUPS = st.builds(
    TrainingSetup,
    micro_batch=st.integers(1, 3),
    sequence_tokens=st.integers(1, 50),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    zero_stage=st.integers(0, 3),
    data_parallel=st.integers(1, 9),
    tp=st.sampled_from((1, 2)),
    pp=st.integers(1, 3),
    recompute=st.sampled_from(("none", "selective", "full")),
    lora_rank=st.none() | st.integers(1, 8),
    offload=st.sampled_from(("none", "optimizer", "all")),
)
MODELS = st.sampled_from(({}, {"tie_word_embeddings": True}, {"num_key_value_heads": 1}, MOE))


def described(**changes: object) -> ModelSpec:
    return describe(ConfigReader({**CONFIG, **changes}, "config.json"), Precision.of(resolve("bf16", "cpu")))


def published(name: str) -> ModelSpec:
    return describe(config_of(find_model(name)), Precision.of(resolve("bf16", "cpu")))


def states_bytes(memory: TrainingMemory) -> int:
    return memory.weights_bytes + memory.gradient_bytes + memory.optimizer_bytes


def kept_by_layer(spec: ModelSpec, num_tokens: int = 1, cheap: bool = True) -> int:
    return kept_bytes(spec.layers[0].ops(), num_tokens, cheap=cheap, adapter_rank=0)


@pytest.mark.parametrize(("zero_stage", "gigabytes"), [(0, 120.0), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_the_states_of_a_7_5_b_model_on_64_devices_are_those_of_the_zero_paper(
    zero_stage: int, gigabytes: float
) -> None:
    """Rajbhandari et al. 2020, figure 1, in GB of 10^9, scaled from a model near that size."""
    spec = published("llama-3.1-8b")
    memory = training_memory(spec, TrainingSetup(zero_stage=zero_stage, data_parallel=64))
    assert round(states_bytes(memory) / spec.num_parameters * 7.5, 1) == gigabytes


def test_70_b_parameters_take_1028_gib_before_the_first_activation() -> None:
    spec = published("llama-2-70b")
    memory = training_memory(spec, TrainingSetup())
    assert states_bytes(memory) == 16 * spec.num_parameters == 16 * 68_976_648_192
    assert round(states_bytes(memory) / 2**30) == 1028


@pytest.mark.parametrize(
    ("optimizer", "per_parameter"), [("adamw", 16), ("adamw-bf16", 8), ("adamw-8bit", 6), ("sgd", 4)]
)
def test_an_optimizer_says_what_a_parameter_takes(optimizer: str, per_parameter: int) -> None:
    spec = described()
    memory = training_memory(spec, TrainingSetup(optimizer=optimizer))
    assert states_bytes(memory) == per_parameter * spec.num_parameters
    assert OPTIMIZERS[optimizer].bytes_per_parameter == per_parameter


def test_a_layer_keeps_what_korthikanti_et_al_count_without_dropout_masks_and_attention_matrix() -> None:
    """34 s*b*h of a GPT layer are 2 masks of 1, and here an MLP of 2h stands for 4h with GELU; statistics apart."""
    spec = described(num_key_value_heads=HEADS, intermediate_size=2 * HIDDEN)
    statistics = 4 * (2 + HEADS)
    assert kept_by_layer(spec) == (34 - 2) * HIDDEN + statistics


class FusedRMSNorm(torch.autograd.Function):
    """A norm as a fused kernel does it: keeps its input and 1/rms."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x_TH: torch.Tensor) -> torch.Tensor:
        scale_T1 = x_TH.float().pow(2).mean(-1, keepdim=True).rsqrt()
        ctx.save_for_backward(x_TH, scale_T1)
        return (x_TH * scale_T1).to(x_TH.dtype)


def layer_of_plain_operators(x_TH: torch.Tensor, weights: dict[str, torch.Tensor], qk_norm: bool) -> torch.Tensor:
    num_tokens = len(x_TH)
    angle_TD = torch.ones(num_tokens, HEAD_DIM, dtype=x_TH.dtype)

    def heads(name: str) -> torch.Tensor:
        projected = F.linear(y_TH, weights[name]).view(num_tokens, -1, HEAD_DIM)
        return projected.transpose(0, 1)[None]

    def rotated(x: torch.Tensor) -> torch.Tensor:
        return x * angle_TD + torch.cat((-x[..., HEAD_DIM // 2 :], x[..., : HEAD_DIM // 2]), -1) * angle_TD

    y_TH = FusedRMSNorm.apply(x_TH)
    q, k, v = heads("q_proj"), heads("k_proj"), heads("v_proj")
    if qk_norm:
        q, k = FusedRMSNorm.apply(q), FusedRMSNorm.apply(k)
    o = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True, enable_gqa=True)
    x_TH = x_TH + F.linear(o[0].transpose(0, 1).reshape(num_tokens, -1), weights["o_proj"])
    y_TH = FusedRMSNorm.apply(x_TH)
    gated = F.silu(F.linear(y_TH, weights["gate_proj"])) * F.linear(y_TH, weights["up_proj"])
    return x_TH + F.linear(gated, weights["down_proj"])


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen3ForCausalLM"])
def test_a_layer_keeps_exactly_the_tensors_that_autograd_saves(architecture: str) -> None:
    spec = described(architectures=[architecture], head_dim=HEAD_DIM)
    num_tokens, layer = 24, spec.layers[0]
    weights = {
        op.name.split(".")[-1]: torch.randn(*adapted_matrices(op)[0], dtype=torch.bfloat16, requires_grad=True)
        for op in layer.ops()
        if adapted_matrices(op)
    }
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    x_TH = torch.randn(num_tokens, HIDDEN, dtype=torch.bfloat16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        layer_of_plain_operators(x_TH, weights, qk_norm=layer.q_norm is not None)
    angles = {address for address, storage in saved.items() if storage.nbytes() == num_tokens * HEAD_DIM * 2}
    constants = angles | {weight.untyped_storage().data_ptr() for weight in weights.values()}
    assert len(angles) == 1  # the rotary table, of the whole model
    assert sum(storage.nbytes() for address, storage in saved.items() if address not in constants) == kept_by_layer(
        spec, num_tokens
    )


def test_selective_recomputation_keeps_the_results_of_matrix_products() -> None:
    """Norms' inputs, q, k, v, attention's output, gate and up: without norms' outputs, silu(gate) and the product."""
    spec, tokens = described(), 10
    dropped = tokens * 2 * (2 * HIDDEN + 2 * INTERMEDIATE)
    assert kept_by_layer(spec, tokens, cheap=False) == kept_by_layer(spec, tokens) - dropped
    none, selective = (
        training_memory(spec, TrainingSetup(1, tokens, recompute=recompute)) for recompute in ("none", "selective")
    )
    assert none.activation_bytes - selective.activation_bytes == (LAYERS - 1) * dropped


def test_full_recomputation_keeps_the_input_of_each_layer_and_one_layer_at_work() -> None:
    spec, tokens = described(), 10
    memory = training_memory(spec, TrainingSetup(1, tokens, recompute="full"))
    ends = tokens * (8 + 2 * HIDDEN + 4 + 2 * HIDDEN)  # token ids; the norm's input and 1/rms; the head's input
    assert memory.activation_bytes == ends + (LAYERS - 1) * tokens * 2 * HIDDEN + kept_by_layer(spec, tokens)


def test_a_layer_of_experts_keeps_an_mlp_for_each_expert_of_a_token() -> None:
    dense, moe = described(), described(**MOE)
    of_dense_mlp = 2 * 4 * INTERMEDIATE
    of_experts = 2 * 2 * (HIDDEN + 4 * INTERMEDIATE + HIDDEN) + 4 * 8  # gathered input, MLP, output; router in fp32
    assert kept_by_layer(moe) - kept_by_layer(dense) == of_experts - of_dense_mlp


def test_every_expert_is_trained_though_a_token_sees_few() -> None:
    spec = described(**MOE)
    memory = training_memory(spec, TrainingSetup())
    assert states_bytes(memory) == 16 * spec.num_parameters > 16 * spec.num_active_parameters


def test_logits_take_eight_bytes_each_on_the_stage_that_has_the_head() -> None:
    memory = training_memory(described(), TrainingSetup(2, 5))
    assert memory.logits_bytes == 2 * 5 * VOCAB * 8
    assert training_memory(described(), TrainingSetup(2, 5, tp=2)).logits_bytes == 2 * 5 * VOCAB * 8 // 2


def test_the_first_stage_of_a_pipeline_keeps_as_many_micro_batches_as_there_are_stages() -> None:
    spec, tokens = described(), 1000
    memory = training_memory(spec, TrainingSetup(1, tokens, "sgd", pp=3))
    assert memory.stage == 0
    assert memory.activation_bytes == 3 * (kept_by_layer(spec, tokens) + 8 * tokens)


def test_adapters_are_trained_and_everything_else_is_frozen() -> None:
    spec, rank = described(), 4
    kv, queries = KV_HEADS * HEAD_DIM, HEADS * HEAD_DIM
    pairs = ((HIDDEN, queries), (HIDDEN, kv), (HIDDEN, kv), (queries, HIDDEN))
    pairs += ((HIDDEN, INTERMEDIATE), (HIDDEN, INTERMEDIATE), (INTERMEDIATE, HIDDEN))
    adapters = LAYERS * rank * sum(inputs + outputs for inputs, outputs in pairs)
    memory = training_memory(spec, TrainingSetup(lora_rank=rank))
    assert memory.weights_bytes == 2 * (spec.num_parameters + adapters)
    assert (memory.gradient_bytes, memory.optimizer_bytes) == (2 * adapters, 12 * adapters)


def test_frozen_weights_take_the_bytes_of_their_format_and_one_matrix_is_widened() -> None:
    spec = described()
    plain, int4 = (training_memory(spec, TrainingSetup(lora_rank=4, frozen_format=name)) for name in ("bf16", "int4"))
    w4a16 = resolve("int4", "cuda")
    matrices = [shape for layer in spec.layers for op in layer.ops() for shape in adapted_matrices(op)]
    saved = sum(2 * rows * columns - w4a16.nbytes(rows, columns) for rows, columns in matrices)
    assert plain.weights_bytes - int4.weights_bytes == saved
    assert (plain.working_bytes, int4.working_bytes) == (0, 2 * HIDDEN * INTERMEDIATE)


def test_zero_3_gathers_the_largest_part_and_a_layer_beside_it() -> None:
    spec = described()
    memory = training_memory(spec, TrainingSetup(zero_stage=3, data_parallel=1000))
    layer, embedding = sum(t.num_bytes for op in spec.layers[0].ops() for t in op.stored()), VOCAB * HIDDEN * 2
    largest = max(layer, embedding + 2 * HIDDEN)  # the head comes with the last norm
    assert memory.working_bytes == largest + layer + largest  # and the gradients of the largest


def test_what_is_offloaded_is_counted_in_host_memory() -> None:
    spec, setup = described(), TrainingSetup(zero_stage=3, data_parallel=4)
    here = training_memory(spec, setup)
    optimizer = training_memory(spec, replace(setup, offload="optimizer"))
    everything = training_memory(spec, replace(setup, offload="all"))
    assert (here.host_bytes, optimizer.host_bytes, everything.host_bytes) == (
        0,
        here.optimizer_bytes,
        states_bytes(here),
    )
    assert states_bytes(optimizer) == here.weights_bytes + here.gradient_bytes
    assert states_bytes(everything) == 0 < everything.working_bytes


@pytest.mark.parametrize(
    "changes",
    [
        {"micro_batch": 0},
        {"sequence_tokens": -1},
        {"data_parallel": 0},
        {"lora_rank": 0},
        {"optimizer": "lion"},
        {"zero_stage": 4},
        {"recompute": "some"},
        {"offload": "disk"},
        {"frozen_format": "int4"},
        {"frozen_format": "int3", "lora_rank": 8},
    ],
)
def test_a_setup_that_makes_no_sense_is_refused_in_one_line(changes: dict[str, object]) -> None:
    with pytest.raises(FarthingError) as error:
        TrainingSetup(**changes)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert str(next(iter(changes.values()))) in str(error.value)


def test_a_split_that_the_model_does_not_allow_is_refused() -> None:
    with pytest.raises(FarthingError, match="3 "):
        training_memory(described(), TrainingSetup(tp=3))


@given(MODELS, SETUPS)
def test_a_higher_zero_stage_never_needs_more(model: dict[str, object], setup: TrainingSetup) -> None:
    spec = described(**model)
    totals = [training_memory(spec, replace(setup, zero_stage=stage)).total_bytes for stage in range(4)]
    assert totals == sorted(totals, reverse=True)


@given(MODELS, SETUPS)
def test_more_recomputation_never_needs_more(model: dict[str, object], setup: TrainingSetup) -> None:
    spec = described(**model)
    totals = [
        training_memory(spec, replace(setup, recompute=recompute)).total_bytes
        for recompute in ("none", "selective", "full")
    ]
    assert totals == sorted(totals, reverse=True)


@given(MODELS, SETUPS)
def test_more_tensor_parallel_ranks_never_need_more_each(model: dict[str, object], setup: TrainingSetup) -> None:
    spec = described(**model)
    totals = [training_memory(spec, replace(setup, tp=tp)).total_bytes for tp in (1, 2, 4)]
    assert totals == sorted(totals, reverse=True)


@given(MODELS, SETUPS, st.integers(1, 100))
def test_more_data_parallel_ranks_never_need_more_each(
    model: dict[str, object], setup: TrainingSetup, more: int
) -> None:
    spec = described(**model)
    fewer = training_memory(spec, setup)
    wider = training_memory(spec, replace(setup, data_parallel=setup.data_parallel + more))
    assert wider.total_bytes <= fewer.total_bytes


@given(MODELS, SETUPS)
def test_the_parts_of_the_heaviest_rank_add_up_and_no_rank_is_heavier(
    model: dict[str, object], setup: TrainingSetup
) -> None:
    stages = parallelize(described(**model), setup.tp, setup.pp)
    memory = heaviest_rank(stages, setup)
    assert 0 <= memory.stage < setup.pp
    assert memory.total_bytes == states_bytes(memory) + (
        memory.activation_bytes + memory.logits_bytes + memory.working_bytes
    )
    if setup.offload == "none":
        assert memory.host_bytes == 0
        shares = setup.data_parallel if setup.zero_stage == 3 else 1
        if setup.lora_rank is None:
            whole = 2 * stages[memory.stage].num_parameters
            assert whole <= memory.weights_bytes * shares < whole + shares
