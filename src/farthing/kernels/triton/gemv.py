"""y = x W^T + b of one row, without the matrix units: each block reads a few rows of W from end to end.

No shared memory, no splits, nothing to combine: decode of a single sequence is as fast as W can be read.
Shapes: N outputs, K columns; O outputs of a block, C columns at a time, in G groups of H bytes for 4 bits.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.gemm import operand
from farthing.kernels.triton.launch import Launcher
from farthing.kernels.triton.order import after_others
from farthing.kernels.triton.widen import e4m3, nibbles
from farthing.kernels.weight import Weight


@dataclass(frozen=True, slots=True)
class Strip:
    """What a block computes: `outputs`, from `columns` of K at a time."""

    outputs: int
    columns: int
    num_warps: int = 4


def one_row(
    launch: Launcher,
    x_1K: torch.Tensor,
    weight: Weight,
    bias_N: torch.Tensor | None,
    strip: Strip,
    scale_1: torch.Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """As gemm.tiled, of a single row."""
    assert x_1K.shape[0] == 1
    columns, outputs, halves = weight.in_features, weight.codes.shape[0], weight.format.bits == 4
    y_1N = x_1K.new_empty((1, outputs), dtype=dtype or x_1K.dtype)
    codes = operand(launch, weight.codes)
    constants = {"OUTPUTS": strip.outputs, "COLUMNS": strip.columns, "WHOLE": columns % strip.columns == 0}
    if halves:
        assert weight.format.group_size is not None
        constants["GROUP"] = weight.format.group_size
    zeros = (weight.zero_NG,) if halves else ()
    launch(
        _one_row_of_groups if halves else _one_row,
        (triton.cdiv(outputs, strip.outputs),),
        y_1N, operand(launch, x_1K), codes, weight.scale_NG, *zeros, scale_1, bias_N, outputs, columns, codes.shape[1],
        num_warps=strip.num_warps,
        **constants,
    )  # fmt: skip
    return y_1N


@triton.jit
def _one_row(
    y, x, codes, scales, row_scale, bias, num_outputs, num_columns, row_bytes,
    OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    output_O = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    codes_O1 = codes + tl.minimum(output_O, num_outputs - 1).to(tl.int64)[:, None] * row_bytes
    column_C = tl.arange(0, COLUMNS)
    w_OC = _codes(codes_O1, column_C, num_columns, WHOLE)
    after_others(EARLY)  # nobody writes the weights, so the first of them are on their way by now
    sums_OC = tl.zeros((OUTPUTS, COLUMNS), dtype=tl.float32)
    sums_OC = _with_products(sums_OC, w_OC, x, column_C, num_columns, WHOLE)
    for start in range(COLUMNS, num_columns, COLUMNS):
        w_OC = _codes(codes_O1, start + column_C, num_columns, WHOLE)
        sums_OC = _with_products(sums_OC, w_OC, x, start + column_C, num_columns, WHOLE)
    sums_O = tl.sum(sums_OC, 1)
    mask_O = output_O < num_outputs
    if row_scale is not None:
        sums_O *= tl.load(row_scale)
    if scales is not None:
        sums_O *= tl.load(scales + output_O, mask=mask_O, other=0.0).to(tl.float32)
    _store(y, output_O, sums_O, bias, mask_O)


@triton.jit
def _codes(codes_O1, column_C, num_columns, WHOLE: tl.constexpr):
    if WHOLE:
        return tl.load(codes_O1 + column_C[None, :])
    else:
        return tl.load(codes_O1 + column_C[None, :], mask=(column_C < num_columns)[None, :], other=0.0)


@triton.jit
def _with_products(sums_OC, w_OC, x, column_C, num_columns, WHOLE: tl.constexpr):
    if WHOLE:
        x_C = tl.load(x + column_C)
    else:
        x_C = tl.load(x + column_C, mask=column_C < num_columns, other=0.0)
    return tl.fma(_number(w_OC), tl.broadcast_to(_number(x_C)[None, :], sums_OC.shape), sums_OC)


@triton.jit
def _one_row_of_groups(
    y, x, codes, scales, zeros, row_scale, bias, num_outputs, num_columns, row_bytes,
    OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr, GROUP: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """4 bits: scales come to the products of their group."""
    HALF: tl.constexpr = GROUP // 2
    GROUPS: tl.constexpr = COLUMNS // GROUP
    output_O = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    held_O = tl.minimum(output_O, num_outputs - 1).to(tl.int64)
    num_groups = tl.cdiv(num_columns, GROUP)
    codes_O, scales_O, group_G = codes + held_O * row_bytes, scales + held_O * num_groups, tl.arange(0, GROUPS)
    zeros_O = zeros + held_O * num_groups if zeros is not None else None
    packed_OGH, scale_OG = _packed(codes_O, scales_O, group_G, num_columns, num_groups, HALF, WHOLE)
    after_others(EARLY)  # as above
    sums_OGH = tl.zeros((OUTPUTS, GROUPS, HALF), dtype=tl.float32)
    sums_OGH = _with_groups(sums_OGH, packed_OGH, scale_OG, zeros_O, x, group_G, num_columns, num_groups, HALF, WHOLE)
    for first in range(GROUPS, num_groups, GROUPS):
        packed_OGH, scale_OG = _packed(codes_O, scales_O, first + group_G, num_columns, num_groups, HALF, WHOLE)
        sums_OGH = _with_groups(
            sums_OGH, packed_OGH, scale_OG, zeros_O, x, first + group_G, num_columns, num_groups, HALF, WHOLE
        )
    _store(y, output_O, tl.sum(tl.sum(sums_OGH, 2), 1), bias, output_O < num_outputs)


@triton.jit
def _packed(codes_O, scales_O, group_G, num_columns, num_groups, HALF: tl.constexpr, WHOLE: tl.constexpr):
    """Bytes and scales of some groups."""
    at_GH = tl.arange(0, HALF)[None, :]
    code_OGH = codes_O[:, None, None] + ((group_G * HALF)[:, None] + at_GH)[None, :, :]
    scale_OG = scales_O[:, None] + group_G[None, :]
    if WHOLE:
        return tl.load(code_OGH), tl.load(scale_OG)
    else:
        there_GH = at_GH < _bytes_of(group_G, num_columns, HALF)
        there_1G = (group_G < num_groups)[None, :]
        return tl.load(code_OGH, mask=there_GH[None, :, :], other=0), tl.load(scale_OG, mask=there_1G, other=0)


@triton.jit
def _bytes_of(group_G, num_columns, HALF: tl.constexpr):
    """Of each group, [G, 1]; below 1 behind the last."""
    return tl.minimum((num_columns - (group_G * 2 * HALF)[:, None] + 1) // 2, HALF)


@triton.jit
def _with_groups(
    sums_OGH, packed_OGH, scale_OG, zeros_O, x, group_G, num_columns, num_groups,
    HALF: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    at_GH = tl.arange(0, HALF)[None, :]
    start_G1 = (group_G * 2 * HALF)[:, None]
    if WHOLE:
        low_GH, high_GH = tl.load(x + start_G1 + at_GH), tl.load(x + start_G1 + HALF + at_GH)
    else:
        bytes_G1 = _bytes_of(group_G, num_columns, HALF)
        there_GH = at_GH < bytes_G1
        second_GH = start_G1 + bytes_G1 + at_GH
        low_GH = tl.load(x + start_G1 + at_GH, mask=there_GH, other=0)
        high_GH = tl.load(x + second_GH, mask=there_GH & (second_GH < num_columns), other=0)
    low_OGH, high_OGH = nibbles(packed_OGH, x.dtype.element_ty)
    low_OGH, high_OGH = low_OGH.to(tl.float32), high_OGH.to(tl.float32)
    low_GH, high_GH = low_GH.to(tl.float32), high_GH.to(tl.float32)
    if zeros_O is not None:  # codes are counted from 8
        zero_OG = tl.load(zeros_O[:, None] + group_G[None, :], mask=(group_G < num_groups)[None, :], other=8)
        off_OG1 = (8.0 - zero_OG.to(tl.float32))[:, :, None]
        low_OGH, high_OGH = low_OGH + off_OG1, high_OGH + off_OG1
    products = low_OGH * low_GH[None, :, :]
    products = tl.fma(high_OGH, tl.broadcast_to(high_GH[None, :, :], sums_OGH.shape), products)
    return tl.fma(products, tl.broadcast_to(scale_OG.to(tl.float32)[:, :, None], sums_OGH.shape), sums_OGH)


@triton.jit
def _number(codes):
    if codes.dtype == tl.uint8:
        return e4m3(codes)
    return codes.to(tl.float32)


@triton.jit
def _store(y, output_O, sums_O, bias, mask_O):
    if bias is not None:
        sums_O += tl.load(bias + output_O, mask=mask_O, other=0.0).to(tl.float32)
    tl.store(y + output_O, rounded(sums_O, y.dtype.element_ty), mask=mask_O)
