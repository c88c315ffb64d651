"""RMSNorm, behind the addition of the residual stream and in the 8 bits of the matrices that read it, where wanted.

Shapes: T tokens, K features.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.activations import Activations
from farthing.kernels.triton.activations import EIGHT_BITS, outputs, store_row
from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.order import after_others
from farthing.quantization.base import WeightFormat


def rms_norm(launch: Launcher, x_TK: torch.Tensor, weight_K: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * w over the last dimension, in fp32, rounded before the weight is applied. Of three
    dimensions, the last two lie side by side; rows may be further apart."""
    if not x_TK[0:1].is_contiguous():
        x_TK = x_TK.contiguous()
    out_TK = torch.empty(x_TK.shape, dtype=x_TK.dtype, device=x_TK.device)
    _launch(launch, out_TK, None, None, x_TK, None, weight_K, eps)
    return out_TK


def add_norm(
    launch: Launcher,
    x_TK: torch.Tensor,
    added_TK: torch.Tensor | None,
    weight_K: torch.Tensor,
    eps: float,
    weight_format: WeightFormat | None,
) -> tuple[torch.Tensor, Activations]:
    """x + added, or x, and RMSNorm of it as matrices of this format read it."""
    assert x_TK.is_contiguous() and (added_TK is None or added_TK.is_contiguous())
    out_TK, scale_T, found = outputs(x_TK, weight_format)
    sum_TK = None if added_TK is None else torch.empty_like(x_TK)
    _launch(launch, out_TK, scale_T, sum_TK, x_TK, added_TK, weight_K, eps)
    return x_TK if sum_TK is None else sum_TK, found


def _launch(
    launch: Launcher,
    out_TK: torch.Tensor,
    scale_T: torch.Tensor | None,
    sum_TK: torch.Tensor | None,
    x_TK: torch.Tensor,
    added_TK: torch.Tensor | None,
    weight_K: torch.Tensor,
    eps: float,
) -> None:
    columns, width = x_TK.shape[-1], triton.next_power_of_2(x_TK.shape[-1])
    grid = (x_TK.shape[0], x_TK[0:1].numel() // columns) if x_TK.shape[0] else (0,)
    operands = out_TK, scale_T, sum_TK, x_TK, added_TK, weight_K, eps, x_TK.stride(0)
    num_warps = min(16, max(1, width // 512))
    launch(normalize, grid, *operands, num_warps=num_warps, COLUMNS=columns, WIDTH=width)


def examples(launch: Launcher) -> None:
    """Every dtype and some widths; of one of them, every rounding."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for num_columns in (4096, 128, 16384):
            x_TK, weight_K = meta(16, num_columns, dtype=dtype), meta(num_columns, dtype=dtype)
            add_norm(launch, x_TK, x_TK, weight_K, 1e-5, None)
            rms_norm(launch, x_TK, weight_K, 1e-5)
    x_TK, weight_K = meta(16, 4096, dtype=torch.bfloat16), meta(4096, dtype=torch.bfloat16)
    for weight_format in EIGHT_BITS:
        for added_TK in (None, x_TK):
            add_norm(launch, x_TK, added_TK, weight_K, 1e-5, weight_format)


@triton.jit
def normalize(
    out, scales, sums, x, added, weight, eps, row_stride,
    COLUMNS: tl.constexpr, WIDTH: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A row, or a head of it."""
    after_others(EARLY)
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    k_K = tl.arange(0, WIDTH)
    there_K = k_K < COLUMNS
    from_K = row * row_stride + head * COLUMNS + k_K
    place_K = (row * tl.num_programs(1) + head) * COLUMNS + k_K
    x_K = tl.load(x + from_K, there_K, 0.0).to(tl.float32)
    if added is not None:
        sum_K = rounded(x_K + tl.load(added + place_K, there_K, 0.0).to(tl.float32), x.dtype.element_ty)
        tl.store(sums + place_K, sum_K, there_K)
        x_K = sum_K.to(tl.float32)
    scale = tl.div_rn(1.0, tl.sqrt_rn(tl.div_rn(tl.sum(x_K * x_K, 0), 1.0 * COLUMNS) + eps))
    normed_K = rounded(x_K * scale, x.dtype.element_ty).to(tl.float32)
    weight_K = tl.load(weight + k_K, there_K, 0.0).to(tl.float32)
    x_K = normed_K * weight_K
    if scales is not None:
        x_K = rounded(x_K, x.dtype.element_ty).to(tl.float32)
    store_row(out, scales, row, place_K, x_K, there_K)
