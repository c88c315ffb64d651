"""Attention of few rows to long contexts: a chunk of KV is one part of the work, whichever row it belongs to.

A fixed grid shares all parts of a step evenly, however long the sequences are; `fold_chunks` then adds up each row's
parts in order. Lengths and tables are read on the device, so a captured step goes on as sequences grow. There is room
for as many parts as the cache has chunks; rows that find none (many sequences may share a prefix) are computed whole by
the second kernel, to the same bits.

Shapes: T rows of the step, H query heads, J KV heads, G = H / J, D head_dim, P parts, M rows of a tile: the G heads of
a row and KV head, at least the 16 of a matrix product.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.reference import CHUNK
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.attention_parts import (
    attend_step,
    begin_of,
    count_before,
    fold,
    load_rows,
    nothing,
    pick,
)
from farthing.kernels.triton.attention_shapes import VARYING, Shape, example_attention
from farthing.kernels.triton.launch import Launcher
from farthing.kernels.triton.paged_kv import PagedKV

_PROGRAMS_A_MULTIPROCESSOR = 4


def attend_few(
    launch: Launcher,
    out_THD: torch.Tensor,
    q_THD: torch.Tensor,
    cache: PagedKV,
    sequences: Sequences,
    window: int | None,
    *,
    most_rows: int | None = None,
) -> None:
    """Write the rows of `out_THD` of all sequences, or of those with no more than `most_rows` new rows."""
    num_sequences, table_width = sequences.tables_SP.shape
    shape = Shape.of(q_THD, cache, num_sequences)
    num_rows = q_THD.shape[0] if most_rows is None else min(q_THD.shape[0], most_rows * num_sequences)
    max_chunks = triton.cdiv(table_width * cache.block_size, CHUNK)
    capacity = min(num_rows * max_chunks, cache.num_positions // CHUNK + num_rows)
    out_PHD, top_PH, sum_PH = (
        torch.empty(size, dtype=torch.float32, device=q_THD.device)
        for size in ((capacity, *q_THD.shape[1:]), (capacity, q_THD.shape[1]), (capacity, q_THD.shape[1]))
    )
    operands = (
        q_THD, cache.k_BSJR, cache.v_BSJR, cache.k_scales, cache.v_scales, sequences.first_rows_S, sequences.num_rows_S,
        sequences.starts_S, sequences.tables_SP, num_sequences, table_width, cache.block_stride, capacity, most_rows,
        window, shape.scale,
    )  # fmt: skip
    num_programs = triton.cdiv(_PROGRAMS_A_MULTIPROCESSOR * launch.chip.num_multiprocessors, cache.num_kv_heads)
    options = shape.options(shape.row_tile(launch.chip))
    grid = min(num_programs, capacity), cache.num_kv_heads
    launch(attend_chunks, grid, out_PHD, top_PH, sum_PH, *operands, **options)
    grid = num_rows, cache.num_kv_heads
    launch(fold_chunks, grid, out_THD, out_PHD, top_PH, sum_PH, *operands, **options)


def examples(launch: Launcher) -> None:
    for q_THD, cache, sequences, window in example_attention(launch.chip):
        attend_few(launch, torch.empty_like(q_THD), q_THD, cache, sequences, window)


@triton.jit
def parts_of(num_rows_S, start_S, most_rows, window, CHUNK: tl.constexpr):
    """Of each sequence: rows that are computed here, the first chunk that one of them sees, how many they see."""
    if most_rows is not None:
        num_rows_S = tl.where(num_rows_S <= most_rows, num_rows_S, 0)
    first_S = begin_of(start_S + 1, window) // CHUNK
    return num_rows_S, first_S, tl.where(num_rows_S > 0, tl.cdiv(start_S + num_rows_S, CHUNK) - first_S, 0)


@triton.jit
def load_query(q, row, kv_head, GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
               ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """The query heads of a row and KV head; where they stand; which of the tile are there."""
    m_M, d_D = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    at_MD = ((row * KV_HEADS + kv_head) * GROUP + m_M)[:, None] * HEAD_DIM + d_D[None, :]
    there_MD = (m_M < GROUP)[:, None] & (d_D < HEAD_DIM)[None, :]
    return tl.load(q + at_MD, there_MD, 0.0), at_MD, there_MD


@triton.jit
def attend_chunk(
    q_MD, chunk, begin, end, scale, k, v, k_scales, v_scales, block_stride, table, kv_head, GROUP: tl.constexpr,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, STEP: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Maximum, sum and weighted values of what a row, which sees begin..end-1, sees of a chunk."""
    m_M = tl.arange(0, q_MD.shape[0])
    begin_M, end_M = tl.where(m_M < GROUP, begin, 0), tl.where(m_M < GROUP, end, 0)
    top_M, sum_M, out_MD = nothing(q_MD.shape[0], q_MD.shape[1])
    for first in range(tl.maximum(chunk * CHUNK, begin // STEP * STEP), tl.minimum((chunk + 1) * CHUNK, end), STEP):
        top_M, sum_M, out_MD = attend_step(
            top_M, sum_M, out_MD, q_MD, begin_M, end_M, first, begin, end, scale, k, v, k_scales, v_scales,
            block_stride, table, kv_head, KV_HEADS, HEAD_DIM, BLOCK_SIZE, STEP,
        )  # fmt: skip
    return top_M, sum_M, out_MD


@triton.jit(do_not_specialize=VARYING)
def attend_chunks(
    part_out, part_top, part_sum, q, k, v, k_scales, v_scales, first_rows, num_rows, starts, tables, num_sequences,
    table_width, block_stride, capacity, most_rows, window, scale,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, CHUNK: tl.constexpr,
    STEP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, SEQUENCES: tl.constexpr,
):  # fmt: skip
    """Parts of a KV head: each a row of a sequence and a chunk."""
    kv_head = tl.program_id(1)
    num_rows_S, start_S = load_rows(num_rows, starts, num_sequences, SEQUENCES)
    rows_S, first_S, chunks_S = parts_of(num_rows_S, start_S, most_rows, window, CHUNK)
    parts_S = rows_S * chunks_S
    end_S = tl.cumsum(parts_S, 0)
    for part in range(tl.program_id(0), tl.max(tl.where(end_S <= capacity, end_S, 0), 0), tl.num_programs(0)):
        sequence = count_before(end_S, part)
        nth = part - pick(end_S - parts_S, sequence)
        row, chunk = nth // pick(chunks_S, sequence), nth % pick(chunks_S, sequence) + pick(first_S, sequence)
        end = pick(start_S, sequence) + row + 1
        first_row = tl.load(first_rows + sequence)
        q_MD, _, _ = load_query(q, first_row + row, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)
        top_M, sum_M, out_MD = attend_chunk(
            q_MD, chunk, begin_of(end, window), end, scale, k, v, k_scales, v_scales, block_stride,
            tables + sequence * table_width, kv_head, GROUP, KV_HEADS, HEAD_DIM, BLOCK_SIZE, STEP, CHUNK,
        )  # fmt: skip
        m_M, d_D = tl.arange(0, ROWS), tl.arange(0, WIDTH)
        at_M = ((part * KV_HEADS + kv_head) * GROUP + m_M).to(tl.int64)
        tl.store(part_top + at_M, top_M, m_M < GROUP)
        tl.store(part_sum + at_M, sum_M, m_M < GROUP)
        there_MD = (m_M < GROUP)[:, None] & (d_D < HEAD_DIM)[None, :]
        tl.store(part_out + at_M[:, None] * HEAD_DIM + d_D[None, :], out_MD, there_MD)


@triton.jit(do_not_specialize=VARYING)
def fold_chunks(
    out, part_out, part_top, part_sum, q, k, v, k_scales, v_scales, first_rows, num_rows, starts, tables,
    num_sequences, table_width, block_stride, capacity, most_rows, window, scale,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, CHUNK: tl.constexpr,
    STEP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, SEQUENCES: tl.constexpr,
):  # fmt: skip
    """A row and KV head: its parts in order, or without them its chunks in order."""
    nth, kv_head = tl.program_id(0), tl.program_id(1)
    num_rows_S, start_S = load_rows(num_rows, starts, num_sequences, SEQUENCES)
    rows_S, first_S, chunks_S = parts_of(num_rows_S, start_S, most_rows, window, CHUNK)
    last_row_S = tl.cumsum(rows_S, 0)
    if nth >= tl.max(last_row_S, 0):
        return
    sequence = count_before(last_row_S, nth)
    row = nth - pick(last_row_S - rows_S, sequence)
    end = pick(start_S, sequence) + row + 1
    begin = begin_of(end, window)
    first_row = tl.load(first_rows + sequence)
    q_MD, at_MD, there_MD = load_query(q, first_row + row, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)

    parts_S = rows_S * chunks_S
    end_S = tl.cumsum(parts_S, 0)
    is_stored = pick(end_S, sequence) <= capacity
    part_0 = pick(end_S - parts_S, sequence) + row * pick(chunks_S, sequence) - pick(first_S, sequence)
    m_M, d_D = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    top_M, sum_M, out_MD = nothing(ROWS, WIDTH)
    for chunk in range(begin // CHUNK, tl.cdiv(end, CHUNK)):
        if is_stored:
            from_M = (((part_0 + chunk) * KV_HEADS + kv_head) * GROUP + m_M).to(tl.int64)
            chunk_top_M = tl.load(part_top + from_M, m_M < GROUP, float("-inf"))
            chunk_sum_M = tl.load(part_sum + from_M, m_M < GROUP, 0.0)
            chunk_out_MD = tl.load(part_out + from_M[:, None] * HEAD_DIM + d_D[None, :], there_MD, 0.0)
        else:
            chunk_top_M, chunk_sum_M, chunk_out_MD = attend_chunk(
                q_MD, chunk, begin, end, scale, k, v, k_scales, v_scales, block_stride,
                tables + sequence * table_width, kv_head, GROUP, KV_HEADS, HEAD_DIM, BLOCK_SIZE, STEP, CHUNK,
            )  # fmt: skip
        top_M, sum_M, out_MD = fold(top_M, sum_M, out_MD, chunk_top_M, chunk_sum_M, chunk_out_MD)
    tl.store(out + at_MD, rounded(out_MD / sum_M[:, None], out.dtype.element_ty), there_MD)
