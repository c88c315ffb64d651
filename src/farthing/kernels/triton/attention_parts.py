"""What decode and prefill share of attention, so that a row has the same bits in both.

A row's softmax is summed by steps of STEP positions within a chunk of CHUNK, as in flash attention (Dao et al. 2022,
arXiv 2205.14135), and the chunks are folded in order. Steps and chunks lie at multiples of their length whatever a
window begins with; a step that a row does not see changes none of its bits.

Shapes: M rows of a tile (query rows times the query heads of one KV head), N positions of a step, D head_dim, S
sequences.
"""

import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import dot, rounded


@triton.jit
def owner_of(ends_S, sizes_S, item):
    """Which sequence an item belongs to, of which the i-th has sizes_S[i] and they end at ends_S[i]; and which of its
    own it is."""
    before_S = ends_S <= item
    return tl.sum(before_S.to(tl.int32), 0), item - tl.sum(tl.where(before_S, sizes_S, 0), 0)


@triton.jit
def load_rows(num_rows, starts, num_sequences, SEQUENCES: tl.constexpr):
    """num_rows and starts of all sequences; none of those that are not there."""
    index = tl.arange(0, SEQUENCES)
    rows = tl.load(num_rows + index, index < num_sequences, 0).to(tl.int32)
    return rows, tl.load(starts + index, index < num_sequences, 0).to(tl.int32)


@triton.jit
def load_row(first_rows, num_rows, starts, sequence):
    """first_rows, num_rows and starts of one sequence: what is read again waits for no other thread."""
    count, start = tl.load(num_rows + sequence).to(tl.int32), tl.load(starts + sequence).to(tl.int32)
    return tl.load(first_rows + sequence), count, start


@triton.jit
def begin_of(end, window):
    """The first position that the row before `end` sees."""
    if window is None:
        return end * 0
    else:
        return tl.maximum(end - window, 0)


@triton.jit
def attend_step(
    top_M, sum_M, out_MD, q_MD, begin_M, end_M, first, begin, end, scale, k, v, k_scales, v_scales, block_stride,
    table, kv_head, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """Positions first..first+STEP-1 on top of the running maximum, sum and weighted values. Rows see begin_M..end_M-1;
    nothing outside begin..end-1 is read."""
    position_N = first + tl.arange(0, STEP)
    inside_N = (position_N >= begin) & (position_N < end)
    block_N = tl.load(table + position_N // BLOCK_SIZE, inside_N, 0)
    row_N = position_N % BLOCK_SIZE * KV_HEADS + kv_head
    d_D = tl.arange(0, q_MD.shape[1])
    at_ND = (block_N * block_stride + row_N * HEAD_DIM)[:, None] + d_D[None, :]
    inside_ND = inside_N[:, None] & (d_D < HEAD_DIM)[None, :]

    k_ND = widened(tl.load(k + at_ND, inside_ND, 0.0), q_MD.dtype)
    score_MN = dot(q_MD, tl.trans(k_ND)) * scale
    if k_scales is not None:
        score_MN *= tl.load(k_scales + block_N * (block_stride // 4) + row_N, inside_N, 0.0)[None, :]
    visible_MN = (position_N[None, :] >= begin_M[:, None]) & (position_N[None, :] < end_M[:, None])
    score_MN = tl.where(visible_MN, score_MN, float("-inf"))

    new_top_M = tl.maximum(top_M, tl.max(score_MN, 1))
    origin_M = tl.where(new_top_M == float("-inf"), 0.0, new_top_M)
    kept_M = tl.exp2(top_M - origin_M)
    weight_MN = tl.exp2(score_MN - origin_M[:, None])
    sum_M = tl.fma(sum_M, kept_M, tl.sum(weight_MN, 1))
    if v_scales is not None:
        weight_MN *= tl.load(v_scales + block_N * (block_stride // 4) + row_N, inside_N, 0.0)[None, :]
    v_ND = widened(tl.load(v + at_ND, inside_ND, 0.0), q_MD.dtype)
    return new_top_M, sum_M, dot(rounded(weight_MN, q_MD.dtype), v_ND, out_MD * kept_M[:, None])


@triton.jit
def attend_all(
    q_MD, begin_M, end_M, begin, end, scale, k, v, k_scales, v_scales, block_stride, table, kv_head,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, STEP: tl.constexpr, CHUNK: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """Sum and weighted values of positions begin..end-1, of which rows see begin_M..end_M-1. `EXACT`: chunk by chunk,
    as if each were a part of its own."""
    top_M, sum_M, out_MD = nothing(q_MD.shape[0], q_MD.shape[1])
    if EXACT:
        before_top_M, before_sum_M, before_out_MD = nothing(q_MD.shape[0], q_MD.shape[1])
    for position in range(begin // STEP * STEP, end, STEP):
        top_M, sum_M, out_MD = attend_step(
            top_M, sum_M, out_MD, q_MD, begin_M, end_M, position, begin, end, scale, k, v, k_scales, v_scales,
            block_stride, table, kv_head, KV_HEADS, HEAD_DIM, BLOCK_SIZE, STEP,
        )  # fmt: skip
        if EXACT:  # noqa: SIM102 (known when compiling, the other when running)
            if (position + STEP) % CHUNK == 0 or position + STEP >= end:
                before_top_M, before_sum_M, before_out_MD = fold(
                    before_top_M, before_sum_M, before_out_MD, top_M, sum_M, out_MD
                )
                top_M, sum_M, out_MD = nothing(q_MD.shape[0], q_MD.shape[1])
    if EXACT:
        sum_M, out_MD = before_sum_M, before_out_MD
    return sum_M, out_MD


@triton.jit
def widened(values, dtype: tl.constexpr):
    """Of the KV cache, as the queries: exact."""
    if values.dtype == dtype:
        return values
    else:
        return values.to(tl.float32).to(dtype)


@triton.jit
def fold(top_M, sum_M, out_MD, chunk_top_M, chunk_sum_M, chunk_out_MD):
    """The next chunk on top of those before it."""
    new_top_M = tl.maximum(top_M, chunk_top_M)
    origin_M = tl.where(new_top_M == float("-inf"), 0.0, new_top_M)
    kept_M, added_M = tl.exp2(top_M - origin_M), tl.exp2(chunk_top_M - origin_M)
    sum_M = tl.fma(sum_M, kept_M, chunk_sum_M * added_M)
    return new_top_M, sum_M, tl.fma(out_MD, kept_M[:, None], chunk_out_MD * added_M[:, None])


@triton.jit
def nothing(ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Maximum, sum and weighted values of no position."""
    sum_M = tl.zeros([ROWS], tl.float32)
    return sum_M + float("-inf"), sum_M, tl.zeros([ROWS, WIDTH], tl.float32)
