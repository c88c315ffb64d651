"""Activations rounded to 8 bits, row by row, for formats that multiply them so: as they are, or by the kernel that
computes them, as it stores them.

The codes are those of kernels/weight.round_activations, to the bit. Knows no weights.
Shapes: T rows, K columns.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.activations import Activations, Rounded
from farthing.kernels.triton.arithmetic import nearest, rounded
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.order import after_others
from farthing.kernels.triton.widen import e4m3_byte
from farthing.quantization.base import WeightFormat

_COLUMNS_OF_A_WARP = 1024
EIGHT_BITS = tuple(WeightFormat(math, math=math, bits=8, storage="int8", activation_bits=8) for math in ("int8", "fp8"))
"""Formats for examples."""


def round_rows(launch: Launcher, x_TK: torch.Tensor, weight_format: WeightFormat) -> Rounded:
    """x in the 8 bits of the format's math."""
    rows, columns = x_TK.shape
    codes_TK, scale_T, found = outputs(x_TK, weight_format)
    assert isinstance(found, Rounded)
    block = triton.next_power_of_2(columns)
    launch(_round_row, (rows,), codes_TK, scale_T, x_TK, columns, BLOCK=block, num_warps=warps(block))
    return found


def outputs(
    x_TK: torch.Tensor, weight_format: WeightFormat | None
) -> tuple[torch.Tensor, torch.Tensor | None, Activations]:
    """What a kernel stores rows such as x in, for matrices of this format: numbers or codes, their scales, and both as
    who reads them takes them."""
    if weight_format is None or weight_format.activation_bits != 8:
        plain_TK = x_TK.new_empty(x_TK.shape)
        return plain_TK, None, plain_TK
    fp8 = weight_format.math == "fp8"
    codes_TK = x_TK.new_empty(x_TK.shape, dtype=torch.float8_e4m3fn if fp8 else torch.int8)
    scale_T = x_TK.new_empty(x_TK.shape[:1], dtype=torch.float32)
    return codes_TK.view(torch.uint8) if fp8 else codes_TK, scale_T, Rounded(codes_TK, scale_T, x_TK.dtype)


def warps(block: int) -> int:
    """Of a kernel that holds a row."""
    return min(max(block // _COLUMNS_OF_A_WARP, 1), 16)


@triton.jit
def store_row(out, scales, row, place_K, x_K, mask_K):
    """fp32 values of a row in the dtype of `out`; with `scales`, as codes. Then `mask_K` has the whole row."""
    if scales is None:
        tl.store(out + place_K, rounded(x_K, out.dtype.element_ty), mask=mask_K)
    else:
        limit: tl.constexpr = 127.0 if out.dtype.element_ty == tl.int8 else 448.0
        unsound = tl.sum(x_K * 0.0, 0)  # NaN for a row that is not finite, which a largest of a GPU passes over
        scale = tl.div_rn(tl.maximum(tl.max(tl.abs(x_K), 0), 1e-12), limit) + unsound
        scaled_K = tl.div_rn(x_K, scale)
        if out.dtype.element_ty == tl.int8:
            code_K = nearest(scaled_K).to(tl.int8)
        else:
            code_K = e4m3_byte(scaled_K)
        tl.store(out + place_K, code_K, mask=mask_K)
        tl.store(scales + row, scale)


@triton.jit
def _round_row(codes, scales, x, num_columns, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    after_others(EARLY)
    row, column_K = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    mask_K = column_K < num_columns
    place_K = row * num_columns + column_K
    store_row(codes, scales, row, place_K, tl.load(x + place_K, mask=mask_K, other=0.0).to(tl.float32), mask_K)


def examples(launch: Launcher) -> None:
    for weight_format in EIGHT_BITS:
        for columns in (4096, 14336):
            round_rows(launch, meta(4, columns, dtype=torch.bfloat16), weight_format)
