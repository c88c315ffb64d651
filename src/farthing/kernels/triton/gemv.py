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
    launch(
        _one_row_of_groups if halves else _one_row,
        (triton.cdiv(outputs, strip.outputs),),
        y_1N, operand(launch, x_1K), codes, weight.scale_NG, scale_1, bias_N, outputs, columns, codes.shape[1],
        num_warps=strip.num_warps,
        **constants,
    )  # fmt: skip
    return y_1N


@triton.jit
def _one_row(
    y, x, codes, scales, row_scale, bias, num_outputs, num_columns, row_bytes,
    OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    output_O = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    codes_O1 = codes + tl.minimum(output_O, num_outputs - 1).to(tl.int64)[:, None] * row_bytes
    sums_OC = tl.zeros((OUTPUTS, COLUMNS), dtype=tl.float32)
    for start in range(0, num_columns, COLUMNS):
        column_C = start + tl.arange(0, COLUMNS)
        if WHOLE:
            x_C, w_OC = tl.load(x + column_C), tl.load(codes_O1 + column_C[None, :])
        else:
            inside_C = column_C < num_columns
            x_C = tl.load(x + column_C, mask=inside_C, other=0.0)
            w_OC = tl.load(codes_O1 + column_C[None, :], mask=inside_C[None, :], other=0.0)
        sums_OC = tl.fma(_number(w_OC), tl.broadcast_to(_number(x_C)[None, :], OUTPUTS, COLUMNS), sums_OC)
    sums_O = tl.sum(sums_OC, 1)
    mask_O = output_O < num_outputs
    if row_scale is not None:
        sums_O *= tl.load(row_scale)
    if scales is not None:
        sums_O *= tl.load(scales + output_O, mask=mask_O, other=0.0).to(tl.float32)
    _store(y, output_O, sums_O, bias, mask_O)


@triton.jit
def _one_row_of_groups(
    y, x, codes, scales, row_scale, bias, num_outputs, num_columns, row_bytes,
    OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, WHOLE: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """4 bits: scales come to the products of their group."""
    HALF: tl.constexpr = GROUP // 2
    GROUPS: tl.constexpr = COLUMNS // GROUP
    output_O = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    held_O = tl.minimum(output_O, num_outputs - 1).to(tl.int64)
    num_groups = tl.cdiv(num_columns, GROUP)
    at_GH = tl.arange(0, HALF)[None, :]
    sums_OGH = tl.zeros((OUTPUTS, GROUPS, HALF), dtype=tl.float32)
    for first in range(0, num_groups, GROUPS):
        group_G = first + tl.arange(0, GROUPS)
        start_G1 = (group_G * GROUP)[:, None]
        code_OGH = codes + held_O[:, None, None] * row_bytes + ((group_G * HALF)[:, None] + at_GH)[None, :, :]
        scale_OG = scales + held_O[:, None] * num_groups + group_G[None, :]
        if WHOLE:
            low_GH, high_GH = tl.load(x + start_G1 + at_GH), tl.load(x + start_G1 + HALF + at_GH)
            packed_OGH, scale_OG = tl.load(code_OGH), tl.load(scale_OG)
        else:
            bytes_G1 = tl.minimum((num_columns - start_G1 + 1) // 2, HALF)  # below 1 behind the last group
            there_GH = at_GH < bytes_G1
            second_GH = start_G1 + bytes_G1 + at_GH
            low_GH = tl.load(x + start_G1 + at_GH, mask=there_GH, other=0)
            high_GH = tl.load(x + second_GH, mask=there_GH & (second_GH < num_columns), other=0)
            packed_OGH = tl.load(code_OGH, mask=there_GH[None, :, :], other=0)
            scale_OG = tl.load(scale_OG, mask=(group_G < num_groups)[None, :], other=0)
        low_OGH, high_OGH = nibbles(packed_OGH, x.dtype.element_ty)
        low_GH, high_GH = low_GH.to(tl.float32), high_GH.to(tl.float32)
        products = low_OGH.to(tl.float32) * low_GH[None, :, :]
        shape: tl.constexpr = (OUTPUTS, GROUPS, HALF)
        products = tl.fma(high_OGH.to(tl.float32), tl.broadcast_to(high_GH[None, :, :], shape), products)
        sums_OGH = tl.fma(products, tl.broadcast_to(scale_OG.to(tl.float32)[:, :, None], shape), sums_OGH)
    _store(y, output_O, tl.sum(tl.sum(sums_OGH, 2), 1), bias, output_O < num_outputs)


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
