"""Cost adds and scales like a vector; each op's cost against figures worked out by hand."""

from hypothesis import given
from hypothesis import strategies as st

from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.comm import Comm
from farthing.ops.cost import Cost
from farthing.ops.elementwise import Elementwise, RMSNorm
from farthing.ops.linear import Embedding, Linear, Shard
from farthing.quantization.base import formats

COUNTS = st.integers(0, 2**50)
COSTS = st.builds(Cost, st.dictionaries(st.sampled_from(["fp32", "bf16", "int8"]), COUNTS), COUNTS, COUNTS, COUNTS)
FORMATS = formats()
MIXED = BatchShape.of([(3, 5), (1, 9)])  # 4 tokens, 2 logits, 3 * 5 + 6 + 10 = 31 pairs, 8 + 10 = 18 positions


@given(COSTS, COSTS, COSTS, st.integers(0, 100), st.integers(0, 100))
def test_costs_add_and_scale_like_vectors(a: Cost, b: Cost, c: Cost, n: int, m: int) -> None:
    assert a + b == b + a and (a + b) + c == a + (b + c)
    assert a + Cost() == a and a * 1 == a
    assert (a + b) * n == a * n + b * n and a * (n + m) == a * n + a * m and a * n * m == a * (n * m)
    assert (a + b).total_flops == a.total_flops + b.total_flops
    assert (a * n).moved_bytes == n * (a.read_bytes + a.write_bytes)


@given(COSTS, COSTS)
def test_adding_leaves_the_summands_as_they_were(a: Cost, b: Cost) -> None:
    before = dict(a.flops)
    assert (a + b).flops is not a.flops and a.flops == before


def test_a_linear_reads_its_weights_once_and_each_row() -> None:
    linear = Linear("x", in_features=6, out_features=10, format=FORMATS["bf16"], activation_dtype="bf16")
    assert linear.cost(MIXED) == Cost(
        {"bf16": 2 * 4 * 6 * 10}, read_bytes=6 * 10 * 2 + 4 * 6 * 2, write_bytes=4 * 10 * 2
    )


def test_a_bias_is_stored_and_read_and_has_no_flops() -> None:
    plain = Linear("x", 6, 10, FORMATS["fp32"], "fp32")
    biased = Linear("x", 6, 10, FORMATS["fp32"], "fp32", bias=True)
    assert biased.cost(MIXED) == plain.cost(MIXED) + Cost(read_bytes=10 * 4)
    assert sum(t.num_bytes for t in biased.stored()) == sum(t.num_bytes for t in plain.stored()) + 10 * 4


def test_a_quantized_linear_counts_in_its_math_and_its_own_bytes() -> None:
    linear = Linear("x", in_features=256, out_features=10, format=FORMATS["w4a8"], activation_dtype="bf16")
    stored_bytes = 10 * 128 + 10 * 8 * 2  # half a byte a weight, a 16-bit scale for each 32 columns
    assert linear.cost(MIXED) == Cost({"int8": 2 * 4 * 256 * 10}, stored_bytes + 4 * 256 * 2, 4 * 10 * 2)


def test_only_rows_that_yield_a_token_pass_the_head_and_leave_it_in_fp32() -> None:
    head = Linear("lm_head", in_features=6, out_features=50, format=FORMATS["bf16"], activation_dtype="bf16")
    assert head.cost(MIXED) == Cost({"bf16": 2 * 2 * 6 * 50}, 6 * 50 * 2 + 2 * 6 * 2, 2 * 50 * 4)


def test_a_tied_head_stores_nothing_and_reads_the_matrix_all_the_same() -> None:
    head = Linear("lm_head", 6, 50, FORMATS["fp32"], "fp32", shard=Shard.COLUMN, tied="model.embed_tokens")
    assert head.stored() == ()
    assert head.cost(MIXED) == Linear("lm_head", 6, 50, FORMATS["fp32"], "fp32").cost(MIXED)


def test_an_embedding_reads_the_rows_of_its_tokens() -> None:
    embedding = Embedding("x", num_embeddings=1000, embedding_dim=6, dtype="bf16")
    assert embedding.cost(MIXED) == Cost(read_bytes=4 * 6 * 2, write_bytes=4 * 6 * 2)
    assert embedding.stored()[0].num_bytes == 1000 * 6 * 2


def test_attention_counts_causal_pairs_and_touched_positions() -> None:
    attention = Attention("x", num_heads=4, num_kv_heads=2, head_dim=8, activation_dtype="fp32", kv_dtype="bf16")
    token_bytes = 2 * 2 * 8 * 2  # K and V of two heads in 16 bits
    query_bytes = 4 * 4 * 8 * 4
    assert attention.kv_bytes_per_token == token_bytes
    assert attention.cost(MIXED) == Cost(
        {"fp32": 4 * 31 * 4 * 8}, read_bytes=query_bytes + 18 * token_bytes, write_bytes=query_bytes + 4 * token_bytes
    )


def test_an_int8_row_of_the_cache_has_a_scale_in_fp32_and_one_of_fp8_has_none() -> None:
    narrow, fp8 = (Attention("x", 4, 2, 8, "fp32", kv_dtype) for kv_dtype in ("int8", "fp8_e4m3"))
    assert (narrow.kv_row, narrow.kv_bytes_per_token) == (8 + 4, 2 * 2 * (8 + 4))
    assert (fp8.kv_row, fp8.kv_bytes_per_token) == (8, 2 * 2 * 8)
    query_bytes = 4 * 4 * 8 * 4
    assert narrow.cost(MIXED) == Cost(
        {"fp32": 4 * 31 * 4 * 8}, read_bytes=query_bytes + 18 * 48, write_bytes=query_bytes + 4 * 48
    )


def test_a_window_bounds_the_pairs_and_positions_of_attention() -> None:
    attention = Attention("x", 4, 2, 8, "fp32", "fp32", window=4)
    query_bytes, token_bytes = 4 * 4 * 8 * 4, 2 * 2 * 8 * 4
    pairs, touched = 3 * 4 + 4, (3 + 3) + (1 + 3)
    assert attention.cost(MIXED) == Cost(
        {"fp32": 4 * pairs * 4 * 8}, query_bytes + touched * token_bytes, query_bytes + 4 * token_bytes
    )


def test_norms_and_elementwise_ops_move_bytes_and_have_no_flops() -> None:
    assert RMSNorm("x", 16, 1e-6, "bf16").cost(MIXED) == Cost(read_bytes=(4 * 16 + 16) * 2, write_bytes=4 * 16 * 2)
    per_head = RMSNorm("x", 16, 1e-6, "bf16", num_groups=3)
    assert per_head.cost(MIXED) == Cost(read_bytes=(4 * 3 * 16 + 16) * 2, write_bytes=4 * 3 * 16 * 2)
    assert Elementwise("x", 16, 2, "fp32").cost(MIXED) == Cost(read_bytes=2 * 4 * 16 * 4, write_bytes=4 * 16 * 4)


def test_a_collective_is_handed_a_row_for_each_token_or_each_logit() -> None:
    assert Comm("x", "all_reduce", 16, "bf16", num_ranks=2).cost(MIXED) == Cost(comm_bytes=4 * 16 * 2)
    gather = Comm("x", "all_gather", 25, "fp32", num_ranks=2, on_logits=True)
    assert gather.cost(MIXED) == Cost(comm_bytes=2 * 25 * 4) and gather.stored() == ()


def test_a_row_divided_over_ranks_adds_up_to_the_whole_row() -> None:
    whole = Linear("x", 8, 12, FORMATS["fp32"], "fp32")
    halves = [Linear("x", 8, 6, FORMATS["fp32"], "fp32")] * 2
    assert sum(half.cost(MIXED).total_flops for half in halves) == whole.cost(MIXED).total_flops
