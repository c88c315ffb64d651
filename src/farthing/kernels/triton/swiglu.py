"""SiLU-mul, in the 8 bits of the matrix that reads it, where wanted. Shapes: T tokens, K features."""

import torch
import triton
import triton.language as tl

from farthing.kernels.activations import Activations
from farthing.kernels.triton.activations import EIGHT_BITS, outputs, store_row, warps
from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.order import after_others
from farthing.quantization.base import WeightFormat

_BLOCK = 1024  # values that a program holds, where it needs no whole row


def silu_mul(
    launch: Launcher, gate_TK: torch.Tensor, up_TK: torch.Tensor, weight_format: WeightFormat | None
) -> Activations:
    """silu(gate) * up, the first factor rounded, as matrices of this format read it. Rows of both may lie apart."""
    gate_TK, up_TK = (x if x.stride(1) == 1 else x.contiguous() for x in (gate_TK, up_TK))
    rows, columns = gate_TK.shape
    out_TK, scale_T, found = outputs(gate_TK, weight_format)
    block = _BLOCK if scale_T is None else triton.next_power_of_2(columns)
    launch(
        activate, (rows, triton.cdiv(columns, block)), out_TK, scale_T, gate_TK, up_TK, columns, gate_TK.stride(0),
        up_TK.stride(0), BLOCK=block, num_warps=4 if scale_T is None else warps(block),
    )  # fmt: skip
    return found


def examples(launch: Launcher) -> None:
    """From one matrix of both."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        gate_TK, up_TK = meta(16, 2 * 14336, dtype=dtype).split(14336, 1)
        for weight_format in (None, *EIGHT_BITS):
            silu_mul(launch, gate_TK, up_TK, weight_format)


@triton.jit
def activate(out, scales, gate, up, num_columns, gate_stride, up_stride, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    """Some values of a row."""
    after_others(EARLY)
    row, column_K = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    there_K = column_K < num_columns
    x_K = tl.load(gate + row * gate_stride + column_K, there_K, 0.0).to(tl.float32)
    factor_K = rounded(x_K / (1 + tl.exp(-x_K)), gate.dtype.element_ty).to(tl.float32)
    x_K = factor_K * tl.load(up + row * up_stride + column_K, there_K, 0.0).to(tl.float32)
    if scales is not None:
        x_K = rounded(x_K, gate.dtype.element_ty).to(tl.float32)
    store_row(out, scales, row, row * num_columns + column_K, x_K, there_K)
