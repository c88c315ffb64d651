"""Attention of few rows to long contexts: a chunk of KV is one part of the work, whichever row it belongs to.

A fixed grid shares all parts of a step evenly, however long the sequences are; `fold_chunks` then adds up each row's
parts in order. Lengths and tables are read on the device, so a captured step goes on as sequences grow. There is room
for as many parts as the cache has chunks; rows that find none (many sequences may share a prefix) are computed whole by
`attend_rows`, to the same bits.

Shapes: T rows of the step, H query heads, J KV heads, G = H / J, D head_dim, P parts, M rows of a tile: the G heads of
a row and KV head, for a matrix product at least 16.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.reference import CHUNK
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.attention_parts import (
    attend_all,
    attend_step,
    begin_of,
    fold,
    load_row,
    load_rows,
    nothing,
    owner_of,
)
from farthing.kernels.triton.attention_shapes import VARYING, Shape, example_attention
from farthing.kernels.triton.launch import Launcher
from farthing.kernels.triton.order import after_others
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
    most_rows = q_THD.shape[0] if most_rows is None else most_rows
    num_rows = min(q_THD.shape[0], most_rows * num_sequences)
    max_chunks = triton.cdiv(table_width * cache.block_size, CHUNK)
    capacity = min(num_rows * max_chunks, cache.num_positions // CHUNK + num_rows)
    out_PHD, top_PH, sum_PH = (
        torch.empty(size, dtype=torch.float32, device=q_THD.device)
        for size in ((capacity, *q_THD.shape[1:]), (capacity, q_THD.shape[1]), (capacity, q_THD.shape[1]))
    )
    parts, options = (out_PHD, top_PH, sum_PH), shape.options(shape.row_tile(launch.chip))
    rows = sequences.first_rows_S, sequences.num_rows_S, sequences.starts_S
    operands = (
        q_THD, cache.k_BSJR, cache.v_BSJR, cache.k_scales, cache.v_scales, *rows, sequences.tables_SP, num_sequences,
        table_width, cache.block_stride, capacity, most_rows, window, shape.scale,
    )  # fmt: skip
    num_programs = triton.cdiv(_PROGRAMS_A_MULTIPROCESSOR * launch.chip.num_multiprocessors, cache.num_kv_heads)
    launch(attend_chunks, (min(num_programs, capacity), cache.num_kv_heads), *parts, *operands, **options)
    fold_operands = out_THD, *parts, *rows, num_sequences, capacity, most_rows, window
    launch(fold_chunks, (num_rows, cache.num_kv_heads), *fold_operands, **shape.fold_options())
    if num_rows * max_chunks > capacity:
        launch(attend_rows, (min(num_programs, num_rows), cache.num_kv_heads), out_THD, *operands, **options)


def examples(launch: Launcher) -> None:
    for q_THD, cache, sequences, window in example_attention(launch.chip):
        attend_few(launch, torch.empty_like(q_THD), q_THD, cache, sequences, window)


@triton.jit
def parts_of(num_rows_S, start_S, most_rows, window, CHUNK: tl.constexpr):
    """Of each sequence: rows that are computed here; their parts, as many chunks for each as one of them sees."""
    num_rows_S = tl.where(num_rows_S <= most_rows, num_rows_S, 0)
    first_S = begin_of(start_S + 1, window) // CHUNK
    return num_rows_S, num_rows_S * (tl.cdiv(start_S + num_rows_S, CHUNK) - first_S)


@triton.jit
def place_of(row, kv_head, GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
             ROWS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """Where the query heads of a row, or of its part, and KV head stand; which of the tile are there."""
    m_M, d_D = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    at_M, there_M = ((row * KV_HEADS + kv_head) * GROUP + m_M).to(tl.int64), m_M < GROUP
    return at_M, at_M[:, None] * HEAD_DIM + d_D[None, :], there_M, there_M[:, None] & (d_D < HEAD_DIM)[None, :]


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
    part_out, part_top, part_sum, q, k, v, k_scales, v_scales, first_rows, num_rows, starts, tables,
    num_sequences, table_width, block_stride, capacity, most_rows, window, scale,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, CHUNK: tl.constexpr,
    STEP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, SEQUENCES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Parts of a KV head: each a row of a sequence and a chunk."""
    after_others(EARLY)
    kv_head = tl.program_id(1)
    num_rows_S, start_S = load_rows(num_rows, starts, num_sequences, SEQUENCES)
    parts_S = parts_of(num_rows_S, start_S, most_rows, window, CHUNK)[1]
    end_S = tl.cumsum(parts_S, 0)
    for part in range(tl.program_id(0), tl.max(tl.where(end_S <= capacity, end_S, 0), 0), tl.num_programs(0)):
        sequence, nth = owner_of(end_S, parts_S, part)
        first_row, count, start = load_row(first_rows, num_rows, starts, sequence)
        row, chunk = nth % count, begin_of(start + 1, window) // CHUNK + nth // count  # rows of a chunk read the same
        end = start + row + 1
        _, at_MD, _, there_MD = place_of(first_row + row, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)
        top_M, sum_M, out_MD = attend_chunk(
            tl.load(q + at_MD, there_MD, 0.0), chunk, begin_of(end, window), end, scale, k, v, k_scales, v_scales,
            block_stride, tables + sequence * table_width, kv_head, GROUP, KV_HEADS, HEAD_DIM, BLOCK_SIZE, STEP, CHUNK,
        )  # fmt: skip
        to_M, to_MD, there_M, _ = place_of(part, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)
        tl.store(part_top + to_M, top_M, there_M)
        tl.store(part_sum + to_M, sum_M, there_M)
        tl.store(part_out + to_MD, out_MD, there_MD)


@triton.jit(do_not_specialize=VARYING)
def fold_chunks(
    out, part_out, part_top, part_sum, first_rows, num_rows, starts, num_sequences, capacity, most_rows, window,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, CHUNK: tl.constexpr, ROWS: tl.constexpr,
    WIDTH: tl.constexpr, SEQUENCES: tl.constexpr, AT_ONCE: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A row and KV head whose parts found room: these in order, while the next ones are on their way. Behind the last
    come some that are none, which change nothing."""
    after_others(EARLY)
    nth, kv_head = tl.program_id(0), tl.program_id(1)
    num_rows_S, start_S = load_rows(num_rows, starts, num_sequences, SEQUENCES)
    rows_S, parts_S = parts_of(num_rows_S, start_S, most_rows, window, CHUNK)
    end_row_S = tl.cumsum(rows_S, 0)
    if nth >= tl.max(tl.where(tl.cumsum(parts_S, 0) <= capacity, end_row_S, 0), 0):
        return
    sequence, row = owner_of(end_row_S, rows_S, nth)
    first_row, count, start = load_row(first_rows, num_rows, starts, sequence)
    end = start + row + 1
    first = begin_of(end, window) // CHUNK
    skipped = first - begin_of(start + 1, window) // CHUNK  # chunks that only rows before it see
    first_part = tl.sum(tl.where(end_row_S <= nth, parts_S, 0), 0) + skipped * count + row
    from_M, from_MD, _, inside_MD = place_of(first_part, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)

    top_M, sum_M, out_MD = nothing(ROWS, WIDTH)
    num_chunks = tl.cdiv(end, CHUNK) - first
    for begin in tl.range(0, num_chunks, AT_ONCE, num_stages=STAGES):
        for after in tl.static_range(AT_ONCE):
            further = (begin + after) * (count * KV_HEADS * GROUP)
            there_M = tl.arange(0, ROWS) < tl.where(begin + after < num_chunks, GROUP, 0)
            chunk_top_M = tl.load(part_top + further + from_M, there_M, float("-inf"))
            chunk_sum_M = tl.load(part_sum + further + from_M, there_M, 0.0)
            from_chunk = part_out + further.to(tl.int64) * HEAD_DIM
            chunk_out_MD = tl.load(from_chunk + from_MD, inside_MD & there_M[:, None], 0.0)
            top_M, sum_M, out_MD = fold(top_M, sum_M, out_MD, chunk_top_M, chunk_sum_M, chunk_out_MD)
    at_MD = place_of(first_row + row, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)[1]
    tl.store(out + at_MD, rounded(out_MD / sum_M[:, None], out.dtype.element_ty), inside_MD)


@triton.jit(do_not_specialize=VARYING)
def attend_rows(
    out, q, k, v, k_scales, v_scales, first_rows, num_rows, starts, tables, num_sequences, table_width, block_stride,
    capacity, most_rows, window, scale,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, CHUNK: tl.constexpr,
    STEP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, SEQUENCES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Rows of a KV head whose parts found no room."""
    after_others(EARLY)
    kv_head = tl.program_id(1)
    num_rows_S, start_S = load_rows(num_rows, starts, num_sequences, SEQUENCES)
    rows_S, parts_S = parts_of(num_rows_S, start_S, most_rows, window, CHUNK)
    end_row_S = tl.cumsum(rows_S, 0)
    first = tl.max(tl.where(tl.cumsum(parts_S, 0) <= capacity, end_row_S, 0), 0)
    for nth in range(first + tl.program_id(0), tl.max(end_row_S, 0), tl.num_programs(0)):
        sequence, row = owner_of(end_row_S, rows_S, nth)
        first_row, _, start = load_row(first_rows, num_rows, starts, sequence)
        end = start + row + 1
        begin = begin_of(end, window)
        _, at_MD, _, there_MD = place_of(first_row + row, kv_head, GROUP, KV_HEADS, HEAD_DIM, ROWS, WIDTH)
        m_M = tl.arange(0, ROWS)
        sum_M, out_MD = attend_all(
            tl.load(q + at_MD, there_MD, 0.0), tl.where(m_M < GROUP, begin, 0), tl.where(m_M < GROUP, end, 0), begin,
            end, scale, k, v, k_scales, v_scales, block_stride, tables + sequence * table_width, kv_head, KV_HEADS,
            HEAD_DIM, BLOCK_SIZE, STEP, CHUNK, EXACT=True,
        )  # fmt: skip
        tl.store(out + at_MD, rounded(out_MD / sum_M[:, None], out.dtype.element_ty), there_MD)
