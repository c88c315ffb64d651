"""A description divided over ranks and stages: the parts add up to the whole, except for what is written down here as
held more than once - norms, biases behind an all-reduce, repeated KV heads, the head's own copy of a shared matrix."""

import pytest

from farthing.errors import UnsupportedError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.parallel import parallelize
from farthing.models.spec import DenseMlp, ModelSpec, MoeMlp, Precision
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.quantization.base import resolve

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 320,
}
MODELS = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-mha-biases": ("LlamaForCausalLM", {"num_key_value_heads": 8, "attention_bias": True, "mlp_bias": True}),
    "llama-mqa-tied": ("LlamaForCausalLM", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    "llama-two-kv-heads": ("LlamaForCausalLM", {"num_key_value_heads": 2}),
    "mistral-window": ("MistralForCausalLM", {"sliding_window": 5}),
    "qwen2-window-tied": (
        "Qwen2ForCausalLM",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 2, "tie_word_embeddings": True},
    ),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "mixtral": ("MixtralForCausalLM", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3-moe-dense-layers": (
        "Qwen3MoeForCausalLM",
        {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 32, "mlp_only_layers": [0, 3]},
    ),
}
ROW_SCALES = ("o_proj.weight_scale", "down_proj.weight_scale", "w2.weight_scale")
BATCH = BatchShape.of([(7, 0), (1, 20), (3, 4)])
EVERY_SPLIT = pytest.mark.parametrize(("tp", "pp"), [(tp, pp) for tp in (1, 2, 4) for pp in (1, 2, 3, 4, 5)])
EVERY_MODEL = pytest.mark.parametrize("name", MODELS)


def described(name: str = "llama", weight_format: str = "bf16", **changes: object) -> ModelSpec:
    architecture, options = MODELS[name]
    config = {"architectures": [architecture], **SIZES, **options, **changes}
    return describe(ConfigReader(config, "config.json"), Precision.of(resolve(weight_format, "cpu")))


def kv_copies(spec: ModelSpec, tp: int) -> int:
    """On how many ranks each KV head lies."""
    return max(1, tp // spec.layers[0].attention.num_kv_heads)


def copies(spec: ModelSpec, tensor: str, tp: int) -> int:
    """On how many of the ranks of its stage each value of the tensor lies."""
    if "norm" in tensor or tensor.endswith(("o_proj.bias", "down_proj.bias", ".gate.weight", *ROW_SCALES)):
        return tp
    return kv_copies(spec, tp) if "k_proj" in tensor or "v_proj" in tensor else 1


@EVERY_MODEL
@EVERY_SPLIT
@pytest.mark.parametrize("weight_format", ["bf16", "w8a16"])
def test_stored_bytes_of_all_ranks_are_the_whole_and_what_is_held_twice(
    name: str, tp: int, pp: int, weight_format: str
) -> None:
    spec = described(name, weight_format)
    whole = {tensor: stored.num_bytes for tensor, stored in spec.stored_tensors().items()}
    ranks = parallelize(spec, tp, pp)
    divided = {tensor: tp * stored.num_bytes for rank in ranks for tensor, stored in rank.stored_tensors().items()}
    expected = {tensor: num_bytes * copies(spec, tensor, tp) for tensor, num_bytes in whole.items()}
    if pp > 1 and "lm_head.weight" not in whole:
        expected["lm_head.weight"] = whole["model.embed_tokens.weight"]
    assert divided == expected
    assert sum(tp * rank.weight_bytes for rank in ranks) == sum(expected.values())


@EVERY_MODEL
@EVERY_SPLIT
def test_flops_and_kv_bytes_of_all_ranks_are_the_whole_and_the_repeated_kv_heads(name: str, tp: int, pp: int) -> None:
    spec = described(name)
    ranks = parallelize(spec, tp, pp)
    repeated = kv_copies(spec, tp) - 1
    kv_flops = sum(op.cost(BATCH).total_flops for layer in spec.layers for op in (layer.k_proj, layer.v_proj))
    routers = [layer.mlp.router for layer in spec.layers if isinstance(layer.mlp, MoeMlp)]
    router_flops = sum(router.cost(BATCH).total_flops for router in routers)
    flops = sum(tp * rank.cost(BATCH).total_flops for rank in ranks)
    assert flops == spec.cost(BATCH).total_flops + repeated * kv_flops + (tp - 1) * router_flops
    assert sum(tp * rank.kv_bytes_per_token for rank in ranks) == spec.kv_bytes_per_token * (repeated + 1)


@EVERY_MODEL
@pytest.mark.parametrize("tp", [2, 4])
def test_each_linear_and_attention_is_divided_evenly(name: str, tp: int) -> None:
    spec = described(name)
    (rank,) = parallelize(spec, tp)
    for whole, part in zip(spec.layers, rank.layers, strict=True):
        for op in ("q_proj", "o_proj", "attention"):
            assert tp * getattr(part, op).cost(BATCH).total_flops == getattr(whole, op).cost(BATCH).total_flops
        assert part.attention.num_heads * tp == whole.attention.num_heads
        assert part.attention.window == whole.attention.window
        assert part.rope.dim == part.q_proj.out_features + part.k_proj.out_features
        assert part.k_proj.out_features == part.attention.num_kv_heads * part.attention.head_dim
        assert part.o_proj.in_features == part.q_proj.out_features and part.o_proj.out_features == 64
        assert tp * part.mlp.intermediate_size == whole.mlp.intermediate_size
        if isinstance(part.mlp, DenseMlp):
            mlp = part.mlp
            sizes = (mlp.gate_proj.out_features, mlp.up_proj.out_features, mlp.swiglu.dim, mlp.down_proj.in_features)
            assert sizes == (mlp.intermediate_size,) * 4
        else:
            assert isinstance(whole.mlp, MoeMlp) and part.mlp.router == whole.mlp.router
        if whole.q_norm is not None and part.q_norm is not None and part.k_norm is not None:
            assert part.q_norm.num_groups == part.attention.num_heads
            assert part.k_norm.num_groups == part.attention.num_kv_heads
    assert rank.head is not None and rank.head.out_features * tp == 320


@EVERY_MODEL
@EVERY_SPLIT
def test_the_layers_are_dealt_out_once_in_order_and_the_ends_get_no_more_than_the_middle(
    name: str, tp: int, pp: int
) -> None:
    spec = described(name)
    ranks = parallelize(spec, tp, pp)
    counts = [len(rank.layers) for rank in ranks]
    assert sum(counts) == 5 and max(counts) - min(counts) <= 1
    assert all(counts[end] <= count for end in (0, -1) for count in counts[1:-1])
    assert [rank.first_layer for rank in ranks] == [sum(counts[:stage]) for stage in range(pp)]
    names = [op for rank in ranks for op, kind in rank.named_ops() if not isinstance(kind, Comm)]
    assert names == [op for op, _ in spec.named_ops()]
    windows = [layer.attention.window for rank in ranks for layer in rank.layers]
    assert windows == [layer.attention.window for layer in spec.layers]


@EVERY_SPLIT
def test_only_the_ends_hold_embedding_norm_and_head(tp: int, pp: int) -> None:
    ranks = parallelize(described("llama-mqa-tied"), tp, pp)
    assert [rank.embedding is not None for rank in ranks] == [stage == 0 for stage in range(pp)]
    for part in ("norm", "head"):
        assert [getattr(rank, part) is not None for rank in ranks] == [stage == pp - 1 for stage in range(pp)]
    assert [rank.send is not None for rank in ranks] == [stage < pp - 1 for stage in range(pp)]
    assert ranks[-1].head is not None and (ranks[-1].head.tied is not None) == (pp == 1)


def test_an_all_reduce_follows_each_row_divided_product() -> None:
    (rank,) = parallelize(described("qwen3"), tp=2)
    names = [name for name, _ in rank.named_ops()]
    for layer in range(5):
        prefix = f"model.layers.{layer}"
        for product, reduction in (
            ("self_attn.o_proj", "self_attn.o_proj.reduce"),
            ("mlp.down_proj", "mlp.down_proj.reduce"),
        ):
            assert names.index(f"{prefix}.{reduction}") == names.index(f"{prefix}.{product}") + 1
    assert names[1] == "model.embed_tokens.reduce" and names[-1] == "lm_head.gather"


def test_the_experts_of_a_layer_are_reduced_once_and_named_as_they_are() -> None:
    (rank,) = parallelize(described("mixtral"), tp=2)
    names = [name for name, _ in rank.named_ops()]
    position = names.index("model.layers.3.block_sparse_moe.experts.reduce")
    assert names[position - 2 : position] == [
        "model.layers.3.block_sparse_moe.gate",
        "model.layers.3.block_sparse_moe.experts",
    ]
    assert rank.cost(BATCH).comm_bytes == parallelize(described(), tp=2)[0].cost(BATCH).comm_bytes


@pytest.mark.parametrize("tp", [2, 4])
def test_a_rank_hands_over_hidden_states_twice_a_layer_and_its_part_of_the_logits(tp: int) -> None:
    (rank,) = parallelize(described(), tp)
    hidden_bytes = BATCH.num_tokens * 64 * 2
    assert rank.cost(BATCH).comm_bytes == (2 * 5 + 1) * hidden_bytes + BATCH.num_logits * (320 // tp) * 4
    first, middle, last = parallelize(described(), tp, pp=3)
    assert first.cost(BATCH).comm_bytes == (2 * len(first.layers) + 1 + 1) * hidden_bytes  # embedding, and the send
    assert middle.cost(BATCH).comm_bytes == (2 * len(middle.layers) + 1) * hidden_bytes
    assert last.cost(BATCH).comm_bytes == 2 * len(last.layers) * hidden_bytes + BATCH.num_logits * (320 // tp) * 4


def test_one_rank_is_the_whole_and_says_nothing() -> None:
    spec = described()
    assert parallelize(spec) == (spec,) and spec.cost(BATCH).comm_bytes == 0


@pytest.mark.parametrize(
    ("changes", "tp", "pp", "named"),
    [
        ({"num_attention_heads": 4}, 8, 1, "4 attention heads do not divide by tp 8"),
        ({"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8}, 2, 1, "3 KV heads"),
        ({"num_attention_heads": 12, "num_key_value_heads": 6, "head_dim": 8}, 4, 1, "6 KV heads"),
        ({"intermediate_size": 98}, 4, 1, "intermediate_size 98 does not divide by tp 4"),
        ({"vocab_size": 321}, 2, 1, "vocab_size 321 does not divide by tp 2"),
        ({"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 4, "num_experts_per_tok": 2,
          "moe_intermediate_size": 34}, 4, 1, "intermediate_size 34 does not divide by tp 4"),
        ({}, 1, 6, "pp 6 is above the 5 layers"),
        ({}, 0, 1, "tp 0 and pp 1"),
        ({}, 1, -1, "tp 1 and pp -1"),
    ],
    ids=str,
)  # fmt: skip
def test_a_split_that_does_not_come_out_even_is_refused_by_the_size(
    changes: dict[str, object], tp: int, pp: int, named: str
) -> None:
    with pytest.raises(UnsupportedError, match=named) as refused:
        parallelize(described(**changes), tp, pp)
    assert len(str(refused.value).splitlines()) == 1
