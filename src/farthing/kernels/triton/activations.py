"""Activations rounded to 8 bits, row by row, for formats that multiply them so: as they are, or behind RMSNorm.

The codes are those of kernels/weight.round_activations, to the bit; those of a norm are of its own rounding of the same
sums. Knows no weights.
Shapes: T rows, K columns.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import nearest, rounded
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.widen import e4m3_byte
from farthing.quantization.base import WeightFormat

_COLUMNS_OF_A_WARP = 1024


@dataclass(frozen=True, slots=True)
class Rounded:
    """`codes_TK`, int8 or e4m3, times `scale_T` (fp32) are the activations."""

    codes_TK: torch.Tensor
    scale_T: torch.Tensor


def round_rows(launch: Launcher, x_TK: torch.Tensor, weight_format: WeightFormat) -> Rounded:
    """x in the 8 bits of the format's math."""
    return _round(launch, x_TK, None, None, None, 0.0, weight_format)


def normed_and_rounded(
    launch: Launcher,
    x_TK: torch.Tensor,
    weight_K: torch.Tensor,
    eps: float,
    weight_format: WeightFormat,
    added_TK: torch.Tensor | None = None,
) -> tuple[Rounded, torch.Tensor]:
    """RMSNorm of x, or of x + added, in 8 bits; and that sum."""
    sum_TK = x_TK if added_TK is None else torch.empty_like(x_TK)
    return _round(launch, x_TK, added_TK, sum_TK, weight_K, eps, weight_format), sum_TK


def _round(
    launch: Launcher,
    x_TK: torch.Tensor,
    added_TK: torch.Tensor | None,
    sum_TK: torch.Tensor | None,
    weight_K: torch.Tensor | None,
    eps: float,
    weight_format: WeightFormat,
) -> Rounded:
    rows, columns = x_TK.shape
    fp8 = weight_format.math == "fp8"
    codes_TK = x_TK.new_empty((rows, columns), dtype=torch.float8_e4m3fn if fp8 else torch.int8)
    scale_T = x_TK.new_empty((rows,), dtype=torch.float32)
    block = triton.next_power_of_2(columns)
    bytes_TK = codes_TK.view(torch.uint8) if fp8 else codes_TK
    launch(
        _round_row,
        (rows,),
        bytes_TK, scale_T, x_TK, added_TK, None if added_TK is None else sum_TK, weight_K, columns, eps,
        BLOCK=block,
        num_warps=min(max(block // _COLUMNS_OF_A_WARP, 1), 16),
    )  # fmt: skip
    return Rounded(codes_TK, scale_T)


@triton.jit
def _round_row(codes, scales, x, added, sums, weight, num_columns, eps, BLOCK: tl.constexpr):
    dtype: tl.constexpr = x.dtype.element_ty
    column_K = tl.arange(0, BLOCK)
    mask_K = column_K < num_columns
    place_K = tl.program_id(0).to(tl.int64) * num_columns + column_K
    x_K = tl.load(x + place_K, mask=mask_K, other=0.0).to(tl.float32)
    if added is not None:
        sum_K = rounded(x_K + tl.load(added + place_K, mask=mask_K, other=0.0).to(tl.float32), dtype)
        tl.store(sums + place_K, sum_K, mask=mask_K)
        x_K = sum_K.to(tl.float32)
    if weight is not None:
        mean = tl.div_rn(tl.sum(x_K * x_K, 0), num_columns.to(tl.float32))
        normed_K = rounded(x_K * tl.div_rn(1.0, tl.sqrt_rn(mean + eps)), dtype).to(tl.float32)
        weight_K = tl.load(weight + column_K, mask=mask_K, other=0.0).to(tl.float32)
        x_K = rounded(normed_K * weight_K, dtype).to(tl.float32)
    limit: tl.constexpr = 127.0 if codes.dtype.element_ty == tl.int8 else 448.0
    scale = tl.div_rn(tl.maximum(tl.max(tl.abs(x_K), 0), 1e-12), limit)
    scaled_K = tl.div_rn(x_K, scale)
    if codes.dtype.element_ty == tl.int8:
        code_K = nearest(scaled_K).to(tl.int8)
    else:
        code_K = e4m3_byte(scaled_K)
    tl.store(codes + place_K, code_K, mask=mask_K)
    tl.store(scales + tl.program_id(0), scale)


def examples(launch: Launcher) -> None:
    """Both roundings, by themselves and behind a norm that adds."""
    for math, columns in (("int8", 4096), ("fp8", 4096), ("fp8", 14336)):
        weight_format = WeightFormat("x", math=math, bits=8, storage="int8", activation_bits=8)
        x_TK, weight_K = meta(4, columns, dtype=torch.bfloat16), meta(columns, dtype=torch.bfloat16)
        round_rows(launch, x_TK, weight_format)
        normed_and_rounded(launch, x_TK, weight_K, 1e-5, weight_format, x_TK)
