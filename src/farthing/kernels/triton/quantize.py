"""Weights rounded on the device while they are loaded: what kernels/weight.quantize gives, to the bit, in the layout
that the kernels read.

4 bits without zero points are tried and packed by a kernel, in one pass over a piece; all else by torch. Knows no
files: runtime/loader.py reads piece by piece and calls `write_rows`.
Shapes: R rows of a piece, K columns; G groups of a block, H columns of half a group.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import nearest, rounded
from farthing.kernels.triton.halves import to_halves
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.weight import CODES_OF_TOP, TORCH_DTYPES, Weight, largest_stored, quantize
from farthing.quantization.base import WeightFormat, formats

_GROUPS_OF_A_BLOCK = 16


def in_halves(weight_format: WeightFormat) -> bool:
    """Whether the format's codes are laid out in halves here."""
    return weight_format.bits == 4 and weight_format.activation_bits == 16


def write_rows(launch: Launcher, weight: Weight, first_row: int, w_RK: torch.Tensor) -> torch.Tensor:
    """Round some rows of W to the format of `weight` and store them there; only this piece goes to the device.
    Returns what kernels.write_rows does."""
    w_RK = w_RK.to(weight.codes.device, non_blocking=True).contiguous()
    to = weight.part(slice(first_row, first_row + w_RK.shape[0]))
    if in_halves(weight.format) and weight.zero_NG is None and w_RK.shape[1] % (weight.format.group_size or 1) == 0:
        round_4_bits(launch, w_RK, to)
    else:
        to.store(quantize(w_RK, weight.format))
        if in_halves(weight.format):
            to_halves(to)
    return largest_stored(to)


def round_4_bits(launch: Launcher, w_RK: torch.Tensor, weight: Weight) -> None:
    """Rows of whole groups, into the codes, in halves, and scales of `weight`."""
    group_size = weight.format.group_size
    assert group_size is not None and w_RK.shape[1] % group_size == 0
    groups = w_RK.numel() // group_size
    launch(
        _round_4_bits,
        (triton.cdiv(groups, _GROUPS_OF_A_BLOCK),),
        weight.codes, weight.scale_NG, w_RK, groups,
        GROUPS=_GROUPS_OF_A_BLOCK,
        HALF=group_size // 2,
        STEPS=(group_size // 2).bit_length() - 1,
        TOPS=CODES_OF_TOP,
        NUM_TOPS=len(CODES_OF_TOP),
    )  # fmt: skip


@triton.jit
def _round_4_bits(
    codes, scales, w, num_groups,
    GROUPS: tl.constexpr, HALF: tl.constexpr, STEPS: tl.constexpr, TOPS: tl.constexpr, NUM_TOPS: tl.constexpr,
):  # fmt: skip
    group_G = tl.program_id(0).to(tl.int64) * GROUPS + tl.arange(0, GROUPS)
    mask_G1 = (group_G < num_groups)[:, None]
    at_H = tl.arange(0, HALF)
    place_GH = group_G[:, None] * (2 * HALF) + at_H[None, :]
    low_GH = tl.load(w + place_GH, mask=mask_G1, other=0.0).to(tl.float32)
    high_GH = tl.load(w + place_GH + HALF, mask=mask_G1, other=0.0).to(tl.float32)
    least_G = tl.min(tl.minimum(low_GH, high_GH), 1)
    most_G = tl.max(tl.maximum(low_GH, high_GH), 1)
    top_G = tl.where(-least_G > most_G, least_G, most_G)
    strange_G = tl.max(((low_GH != low_GH) | (high_GH != high_GH)).to(tl.int32), 1) > 0
    top_G = tl.where(strange_G, float("nan"), top_G)
    scale_G, bytes_GH, error_G = _tried(low_GH, high_GH, top_G, TOPS[0], scales.dtype.element_ty, STEPS)
    for index in tl.static_range(1, NUM_TOPS):
        tried_G, tried_GH, tried_error_G = _tried(low_GH, high_GH, top_G, TOPS[index], scales.dtype.element_ty, STEPS)
        better_G = tried_error_G < error_G
        scale_G = tl.where(better_G, tried_G, scale_G)
        bytes_GH = tl.where(better_G[:, None], tried_GH, bytes_GH)
        error_G = tl.where(better_G, tried_error_G, error_G)
    tl.store(codes + group_G[:, None] * HALF + at_H[None, :], bytes_GH, mask=mask_G1)
    tl.store(scales + group_G, rounded(scale_G, scales.dtype.element_ty), mask=group_G < num_groups)


@triton.jit
def _tried(low_GH, high_GH, top_G, divisor: tl.constexpr, scale_dtype: tl.constexpr, STEPS: tl.constexpr):
    """The scales, as fp32, that make the largest value `divisor`; the bytes, and the sums of squared errors."""
    scale_G = rounded(tl.div_rn(top_G, tl.full(top_G.shape, divisor, tl.float32)), scale_dtype).to(tl.float32)
    small_G = tl.abs(scale_G) < 1.1754943508222875e-38  # 2**-126
    one_G = tl.full(top_G.shape, 1.0, tl.float32)
    inverse_G = tl.where(small_G, 0.0, tl.div_rn(one_G, tl.where(small_G, one_G, scale_G)))
    low_codes_GH = tl.minimum(tl.maximum(nearest(low_GH * inverse_G[:, None]), -8.0), 7.0)
    high_codes_GH = tl.minimum(tl.maximum(nearest(high_GH * inverse_G[:, None]), -8.0), 7.0)
    low_off_GH = low_codes_GH * scale_G[:, None] - low_GH
    high_off_GH = high_codes_GH * scale_G[:, None] - high_GH
    error_G = _sum_by_halves(low_off_GH * low_off_GH + high_off_GH * high_off_GH, STEPS)
    bytes_GH = (low_codes_GH + 8.0).to(tl.uint8) | ((high_codes_GH + 8.0).to(tl.uint8) << 4)
    return scale_G, bytes_GH, error_G


@triton.jit
def _sum_by_halves(x_GH, STEPS: tl.constexpr):
    """The order of kernels/weight.py: the first half on the second, again and again."""
    for _ in tl.static_range(STEPS):
        x_GH = tl.sum(tl.reshape(x_GH, (x_GH.shape[0], 2, x_GH.shape[1] // 2)), 1)
    return tl.sum(x_GH, 1)


def examples(launch: Launcher) -> None:
    """From each dtype that checkpoints have."""
    for weight_format in formats().values():
        if in_halves(weight_format) and not weight_format.zero_points:
            codes, scales = (meta(*t.shape, dtype=TORCH_DTYPES[t.dtype]) for t in weight_format.stored(256, 4096))
            weight = Weight(weight_format, 4096, codes, scales)
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                round_4_bits(launch, meta(256, 4096, dtype=dtype), weight)
