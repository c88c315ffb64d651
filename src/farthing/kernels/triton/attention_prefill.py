"""Attention of many rows of a sequence at once: prefill, and chunks of it.

A tile is some rows of a sequence with all query heads of one KV head; it walks over the positions that its rows see, as
fast as the registers allow. `exact`: it has the height of decode's, and with it the instructions; steps and chunks are
summed as there, and a row has the bits that decode gives it.

Shapes: T rows of the step, H query heads, J KV heads, G = H / J, D head_dim, M rows of a tile: G heads of M / G rows.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.attention_parts import (
    attend_all,
    begin_of,
    load_row,
    load_rows,
    owner_of,
)
from farthing.kernels.triton.attention_shapes import FEW_ROWS, VARYING, Shape, example_attention
from farthing.kernels.triton.launch import Launcher
from farthing.kernels.triton.order import after_others
from farthing.kernels.triton.paged_kv import PagedKV


def attend_many(
    launch: Launcher,
    out_THD: torch.Tensor,
    q_THD: torch.Tensor,
    cache: PagedKV,
    sequences: Sequences,
    window: int | None,
    *,
    least_rows: int = 1,
    exact: bool,
) -> None:
    """Write the rows of `out_THD` of sequences with `least_rows` new rows or more. `exact`: to the bits of decode."""
    num_sequences, table_width = sequences.tables_SP.shape
    shape = Shape.of(q_THD, cache, num_sequences)
    tile = shape.row_tile(launch.chip) if exact else shape.tile(launch.chip)
    grid = q_THD.shape[0] // (tile.rows // shape.group) + num_sequences, cache.num_kv_heads
    launch(
        attend_tiles, grid, out_THD, q_THD, cache.k_BSJR, cache.v_BSJR, cache.k_scales, cache.v_scales,
        sequences.first_rows_S, sequences.num_rows_S, sequences.starts_S, sequences.tables_SP, num_sequences,
        table_width, cache.block_stride, least_rows, window, shape.scale,
        EXACT=exact, **shape.options(tile),
    )  # fmt: skip


def examples(launch: Launcher) -> None:
    for q_THD, cache, sequences, window in example_attention(launch.chip):
        for exact in (False, True):
            out_THD, least_rows = torch.empty_like(q_THD), FEW_ROWS + 1
            attend_many(launch, out_THD, q_THD, cache, sequences, window, least_rows=least_rows, exact=exact)


@triton.jit(do_not_specialize=VARYING)
def attend_tiles(
    out, q, k, v, k_scales, v_scales, first_rows, num_rows, starts, tables, num_sequences, table_width, block_stride,
    least_rows, window, scale,
    GROUP: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, CHUNK: tl.constexpr,
    STEP: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, SEQUENCES: tl.constexpr, EXACT: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """A tile and KV head. The last tiles of a sequence see most and come first."""
    after_others(EARLY)
    TILE: tl.constexpr = ROWS // GROUP
    kv_head = tl.program_id(1)
    num_rows_S, _ = load_rows(num_rows, starts, num_sequences, SEQUENCES)
    tiles_S = tl.where(num_rows_S >= least_rows, tl.cdiv(num_rows_S, TILE), 0)
    end_S = tl.cumsum(tiles_S, 0)
    nth = tl.max(end_S, 0) - 1 - tl.program_id(0)
    if nth < 0:
        return
    sequence, tile = owner_of(end_S, tiles_S, nth)
    first_row, count, start = load_row(first_rows, num_rows, starts, sequence)
    first = tile * TILE
    last = tl.minimum(first + TILE, count)
    begin, end = begin_of(start + first + 1, window), start + last

    m_M, d_D = tl.arange(0, ROWS), tl.arange(0, WIDTH)
    row_M = first + m_M // GROUP
    there_M = (m_M < TILE * GROUP) & (row_M < last)
    end_M = tl.where(there_M, start + row_M + 1, 0)
    begin_M = begin_of(end_M, window)
    at_M = ((first_row + row_M) * KV_HEADS + kv_head) * GROUP + m_M % GROUP
    at_MD = at_M[:, None] * HEAD_DIM + d_D[None, :]
    there_MD = there_M[:, None] & (d_D < HEAD_DIM)[None, :]
    q_MD = tl.load(q + at_MD, there_MD, 0.0)

    sum_M, out_MD = attend_all(
        q_MD, begin_M, end_M, begin, end, scale, k, v, k_scales, v_scales, block_stride,
        tables + sequence * table_width, kv_head, KV_HEADS, HEAD_DIM, BLOCK_SIZE, STEP, CHUNK, EXACT,
    )  # fmt: skip
    tl.store(out + at_MD, rounded(out_MD / sum_M[:, None], out.dtype.element_ty), there_MD)
