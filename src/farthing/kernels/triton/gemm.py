"""y = x W^T + b on the matrix units, a tile of it a block, for any number of rows and every format: the codes of W are
widened in registers, scales come to the sums.

A sum goes over K in the order of the tile, and splits of K are added up in theirs: of two calls with the same tile a
row gets the same bits, whatever rows are beside it. Which tile is linear.py's affair.
Shapes: T rows, N outputs, K columns, S splits of K.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import INTERPRETED, dot, rounded
from farthing.kernels.triton.launch import Chip, Launcher
from farthing.kernels.triton.order import after_others
from farthing.kernels.triton.widen import e4m3, nibbles
from farthing.kernels.weight import Weight

_ROWS_APART = 64
"""Up to so many rows each split is a block's, and a second kernel adds the splits up; for more rows one block takes
them in turn and adds them in the same order, so the bits are the same."""
_ROW_TILES_TOGETHER = 8  # that read the same outputs one after the other, while these are in the L2 cache


@dataclass(frozen=True, slots=True)
class Tile:
    """What a block computes: `rows` x `outputs`, `columns` of K at a time, one of `splits` parts of K."""

    rows: int
    outputs: int
    columns: int
    splits: int = 1
    num_warps: int = 4
    num_stages: int = 3

    def shared_bytes(self, weight: Weight, x_bytes: int, chip: Chip) -> int:
        """What the stages of a block take: on Hopper its matrix units read the last of them from there, too."""
        of_columns = self.rows * x_bytes + self.outputs * weight.format.bits // 8
        buffers = self.num_stages - (0 if chip.capability == 90 and self.rows >= 64 else 1)
        return max(buffers, 1) * self.columns * of_columns


def tiled(
    launch: Launcher,
    x_TK: torch.Tensor,
    weight: Weight,
    bias_N: torch.Tensor | None,
    tile: Tile,
    scale_T: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """x may be codes, int8 or e4m3 as the weight's are, with `scale_T`; then `dtype` is that of the result. 4-bit
    weights lie in halves (halves.py), and a tile's columns are one group."""
    rows, columns, outputs = x_TK.shape[0], weight.in_features, weight.codes.shape[0]
    y_TN = x_TK.new_empty((rows, outputs), dtype=dtype or x_TK.dtype)
    bits, x_TK, codes = weight.format.bits, operand(launch, x_TK), operand(launch, weight.codes)
    scale_NG = weight.scale_NG
    per_group = bits == 4
    assert not per_group or tile.columns == weight.format.group_size, "a group of a 4-bit weight at a time"
    apart = tile.splits > 1 and rows <= _ROWS_APART
    to = x_TK.new_empty((tile.splits, rows, outputs), dtype=torch.float32) if apart else y_TN
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(outputs, tile.outputs)
    launch(
        _tiled,
        (tiles, tile.splits if apart else 1),
        to, x_TK, codes, scale_NG, weight.zero_NG, scale_T, bias_N, rows, outputs, columns, codes.shape[1], tile.splits,
        ROWS=tile.rows,
        OUTPUTS=tile.outputs,
        COLUMNS=tile.columns,
        SPLITS="apart" if apart else "in turn" if tile.splits > 1 else "one",
        HALVES=per_group,
        WHOLE=columns % tile.columns == 0,
        TOGETHER=_ROW_TILES_TOGETHER,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
    )  # fmt: skip
    if apart:
        block = 256
        launch(
            _combine,
            (rows, triton.cdiv(outputs, block)),
            y_TN, to, None if per_group else scale_NG, scale_T, bias_N, rows, outputs, tile.splits,
            BLOCK=block,
        )  # fmt: skip
    return y_TN


def operand(launch: Launcher, tensor: torch.Tensor) -> torch.Tensor:
    """Codes of e4m3 as bytes where the chip, or the interpreter, does not know these numbers."""
    known = launch.chip.has_fp8 and not INTERPRETED.value
    return tensor.view(torch.uint8) if tensor.dtype == torch.float8_e4m3fn and not known else tensor


@triton.jit(do_not_specialize=["num_rows", "num_splits"])
def _tiled(
    y, x, codes, scales, zeros, row_scales, bias, num_rows, num_outputs, num_columns, row_bytes, num_splits,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, SPLITS: tl.constexpr,
    HALVES: tl.constexpr, WHOLE: tl.constexpr, TOGETHER: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    after_others(EARLY)
    row_tile, output_tile = _place(tl.cdiv(num_rows, ROWS), tl.cdiv(num_outputs, OUTPUTS), TOGETHER)
    row_R = row_tile * ROWS + tl.arange(0, ROWS)
    output_O = output_tile * OUTPUTS + tl.arange(0, OUTPUTS)
    # What lies beyond the ends is computed from the last row and output, and not stored.
    x_R1 = x + tl.minimum(row_R, num_rows - 1).to(tl.int64)[:, None] * num_columns
    held_O = tl.minimum(output_O, num_outputs - 1).to(tl.int64)
    codes_1O = codes + held_O[None, :] * row_bytes
    scales_O = scales + held_O * tl.cdiv(num_columns, COLUMNS) if HALVES else None
    zeros_O = zeros + held_O * tl.cdiv(num_columns, COLUMNS) if zeros is not None else None
    sizes: tl.constexpr = (ROWS, OUTPUTS, COLUMNS)
    if SPLITS == "apart":
        sums = _part(tl.program_id(1), num_splits, x_R1, codes_1O, scales_O, zeros_O, num_columns, sizes, HALVES, WHOLE)
    else:
        if SPLITS == "one":
            sums = _part(0, 1, x_R1, codes_1O, scales_O, zeros_O, num_columns, sizes, HALVES, WHOLE)
        else:
            sums = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
            for split in range(num_splits):
                sums += _part(split, num_splits, x_R1, codes_1O, scales_O, zeros_O, num_columns, sizes, HALVES, WHOLE)
        factors = None if HALVES else scales
        sums = _finished(sums, row_R[:, None], output_O[None, :], num_rows, num_outputs, factors, row_scales, bias)
    place = tl.program_id(1).to(tl.int64) * num_rows + row_R[:, None]
    mask = (row_R[:, None] < num_rows) & (output_O[None, :] < num_outputs)
    tl.store(y + place * num_outputs + output_O[None, :], rounded(sums, y.dtype.element_ty), mask=mask)


@triton.jit
def _place(num_row_tiles, num_output_tiles, TOGETHER: tl.constexpr):
    """Which tile a block computes: a few tiles of rows for one of outputs, then for the next."""
    block = tl.program_id(0)
    of_a_group = TOGETHER * num_output_tiles
    first = block // of_a_group * TOGETHER
    height = tl.minimum(num_row_tiles - first, TOGETHER)
    return first + block % of_a_group % height, block % of_a_group // height


@triton.jit
def _part(split, num_splits, x_R1, codes_1O, scales_O, zeros_O, num_columns,
          SIZES: tl.constexpr, HALVES: tl.constexpr, WHOLE: tl.constexpr):  # fmt: skip
    """The sums over one part of K."""
    num_steps = tl.cdiv(num_columns, SIZES[2])
    of_a_split = tl.cdiv(num_steps, num_splits)
    first = split * of_a_split
    last = tl.minimum(first + of_a_split, num_steps)
    if HALVES:
        sums = _grouped(
            x_R1, codes_1O, scales_O, zeros_O, first, last, num_columns, SIZES[0], SIZES[1], SIZES[2], WHOLE
        )
    else:
        sums = _plain(x_R1, codes_1O, first, last, num_columns, SIZES[0], SIZES[1], SIZES[2], WHOLE)
    return sums


@triton.jit
def _plain(x_R1, codes_1O, first, last, num_columns,
           ROWS: tl.constexpr, OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr):  # fmt: skip
    """Sums of products of numbers, or of codes."""
    integers: tl.constexpr = x_R1.dtype.element_ty == tl.int8
    sums = tl.zeros((ROWS, OUTPUTS), dtype=tl.int32 if integers else tl.float32)
    for step in range(first, last):
        column_C = step * COLUMNS + tl.arange(0, COLUMNS)
        if WHOLE:
            x_RC = tl.load(x_R1 + column_C[None, :])
            w_CO = tl.load(codes_1O + column_C[:, None])
        else:
            inside_C = column_C < num_columns
            x_RC = tl.load(x_R1 + column_C[None, :], mask=inside_C[None, :], other=0.0)
            w_CO = tl.load(codes_1O + column_C[:, None], mask=inside_C[:, None], other=0.0)
        if integers:
            sums += tl.dot(x_RC, w_CO, out_dtype=tl.int32)
        elif x_RC.dtype == tl.uint8:
            sums += dot(e4m3(x_RC).to(tl.bfloat16), e4m3(w_CO).to(tl.bfloat16))
        elif x_RC.dtype == tl.float8e4nv:
            # Matrix units keep some 14 bits of a sum of e4m3 products (DeepSeek-V3, arXiv 2412.19437, section 3.3.2),
            # of fp16's fp32. Few rows wait for memory either way; of more, the sums of steps are added up in fp32.
            if ROWS < 64:
                sums += dot(x_RC.to(tl.float16), w_CO.to(tl.float16))
            else:
                sums += tl.dot(x_RC, w_CO, max_num_imprecise_acc=COLUMNS)
        else:
            sums += dot(x_RC, w_CO.to(tl.float32).to(x_RC.dtype) if w_CO.dtype == tl.int8 else w_CO)
    return sums.to(tl.float32)


@triton.jit
def _grouped(x_R1, codes_1O, scales_O, zeros_O, first, last, num_columns,
             ROWS: tl.constexpr, OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr):  # fmt: skip
    """Sums of the groups' sums, each times its scale. Codes are counted from 8; where a group has another zero, its
    distance counts as often as the activations add up to."""
    HALF: tl.constexpr = COLUMNS // 2
    sums = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    at_H = tl.arange(0, HALF)
    for group in range(first, last):
        start = group * COLUMNS
        if WHOLE:
            low_RH = tl.load(x_R1 + (start + at_H)[None, :])
            high_RH = tl.load(x_R1 + (start + HALF + at_H)[None, :])
            packed_HO = tl.load(codes_1O + (group * HALF + at_H)[:, None])
        else:
            num_bytes = tl.minimum((num_columns - start + 1) // 2, HALF)  # of the last group, fewer
            second_H = start + num_bytes + at_H
            there_H = at_H < num_bytes
            low_RH = tl.load(x_R1 + (start + at_H)[None, :], mask=there_H[None, :], other=0)
            mask_H = there_H & (second_H < num_columns)
            high_RH = tl.load(x_R1 + second_H[None, :], mask=mask_H[None, :], other=0)
            packed_HO = tl.load(codes_1O + (group * HALF + at_H)[:, None], mask=there_H[:, None], other=0)
        low_HO, high_HO = nibbles(packed_HO, x_R1.dtype.element_ty)
        of_group = dot(high_RH, high_HO, dot(low_RH, low_HO))
        if zeros_O is not None:
            sum_R = tl.sum(low_RH.to(tl.float32), 1) + tl.sum(high_RH.to(tl.float32), 1)
            of_group += sum_R[:, None] * (8.0 - tl.load(zeros_O + group).to(tl.float32))[None, :]
        sums = tl.fma(of_group, tl.broadcast_to(tl.load(scales_O + group).to(tl.float32)[None, :], ROWS, OUTPUTS), sums)
    return sums


@triton.jit
def _finished(sums, row, output, num_rows, num_outputs, scales, row_scales, bias):
    """Sums of codes times the scales of row and output, and the bias."""
    if row_scales is not None:
        sums *= tl.load(row_scales + row, mask=row < num_rows, other=0.0)
    if scales is not None:
        sums *= tl.load(scales + output, mask=output < num_outputs, other=0.0).to(tl.float32)
    if bias is not None:
        sums += tl.load(bias + output, mask=output < num_outputs, other=0.0).to(tl.float32)
    return sums


@triton.jit(do_not_specialize=["num_rows", "num_splits"])
def _combine(
    y, parts, scales, row_scales, bias, num_rows, num_outputs, num_splits, BLOCK: tl.constexpr, EARLY: tl.constexpr
):  # fmt: skip
    """One row of y, some of its outputs: the splits added in order."""
    after_others(EARLY)
    row = tl.program_id(0).to(tl.int64)
    output = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = output < num_outputs
    sums = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in range(num_splits):
        sums += tl.load(parts + (split * num_rows + row) * num_outputs + output, mask=mask, other=0.0)
    sums = _finished(sums, row, output, num_rows, num_outputs, scales, row_scales, bias)
    tl.store(y + row * num_outputs + output, rounded(sums, y.dtype.element_ty), mask=mask)
