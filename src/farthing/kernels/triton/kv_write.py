"""Rotary positions, and new keys and values into the paged cache: as they are, as fp8, or as int8 with a scale a row.

Shapes: T tokens, H heads, J KV heads, D head_dim.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import nearest, rounded
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.paged_kv import PagedKV

_BLOCK = 4096  # values that a program holds


def rope(launch: Launcher, x_THD: torch.Tensor, cos_T1D2: torch.Tensor, sin_T1D2: torch.Tensor) -> torch.Tensor:
    """Rotate the pairs (i, i + D/2) of each head."""
    num_tokens, num_heads, head_dim = x_THD.shape
    assert x_THD.stride()[1:] == (head_dim, 1) and cos_T1D2.is_contiguous() and sin_T1D2.is_contiguous()
    out_THD = torch.empty((num_tokens, num_heads, head_dim), dtype=x_THD.dtype, device=x_THD.device)
    width = triton.next_power_of_2(head_dim // 2)
    heads = min(triton.next_power_of_2(num_heads), max(1, _BLOCK // 2 // width))
    grid = num_tokens, triton.cdiv(num_heads, heads)
    operands = out_THD, x_THD, cos_T1D2, sin_T1D2, num_heads, x_THD.stride(0)
    launch(rotate, grid, *operands, HALF=head_dim // 2, HEADS=heads, WIDTH=width)
    return out_THD


def store_kv(launch: Launcher, k_TJD: torch.Tensor, v_TJD: torch.Tensor, cache: PagedKV, slots_T: torch.Tensor) -> None:
    """Write the new rows at slot = block * S + offset."""
    num_tokens, num_kv_heads, head_dim = k_TJD.shape
    assert all(x.stride()[1:] == (head_dim, 1) for x in (k_TJD, v_TJD)), "heads of a row side by side"
    width = triton.next_power_of_2(head_dim)
    heads = min(triton.next_power_of_2(num_kv_heads), max(1, _BLOCK // width))
    launch(
        write_rows, (num_tokens, triton.cdiv(num_kv_heads, heads)), cache.k_BSJR, cache.v_BSJR, cache.k_scales,
        cache.v_scales, k_TJD, v_TJD, slots_T, cache.block_stride, num_kv_heads, k_TJD.stride(0), v_TJD.stride(0),
        HEAD_DIM=head_dim, BLOCK_SIZE=cache.block_size, HEADS=heads, WIDTH=width,
    )  # fmt: skip


def examples(launch: Launcher) -> None:
    slots_T = meta(16, dtype=torch.int64)
    angles = meta(16, 1, 64, dtype=torch.float32)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        x_TJD = meta(16, 8, 128, dtype=dtype)
        rope(launch, x_TJD, angles, angles)
        for kv_dtype in (dtype, torch.int8, *[torch.float8_e4m3fn] * launch.chip.has_fp8):
            row = 132 if kv_dtype == torch.int8 else 128
            cache = PagedKV.of(*(meta(64, 16, 8, row, dtype=kv_dtype) for _ in range(2)), 128)
            store_kv(launch, x_TJD, x_TJD, cache, slots_T)


@triton.jit
def rotate(out, x, cos, sin, num_heads, row_stride, HALF: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr):
    """Some heads of a token."""
    token = tl.program_id(0).to(tl.int64)
    head_H = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    d_D2 = tl.arange(0, WIDTH)
    there_HD2 = (head_H < num_heads)[:, None] & (d_D2 < HALF)[None, :]
    cos_D2 = tl.load(cos + token * HALF + d_D2, d_D2 < HALF, 0.0)[None, :]
    sin_D2 = tl.load(sin + token * HALF + d_D2, d_D2 < HALF, 0.0)[None, :]
    from_HD2 = x + token * row_stride + head_H[:, None] * (2 * HALF) + d_D2[None, :]
    to_HD2 = out + (token * num_heads + head_H)[:, None] * (2 * HALF) + d_D2[None, :]
    first_HD2 = tl.load(from_HD2, there_HD2, 0.0).to(tl.float32)
    second_HD2 = tl.load(from_HD2 + HALF, there_HD2, 0.0).to(tl.float32)
    tl.store(to_HD2, rounded(first_HD2 * cos_D2 - second_HD2 * sin_D2, out.dtype.element_ty), there_HD2)
    tl.store(to_HD2 + HALF, rounded(second_HD2 * cos_D2 + first_HD2 * sin_D2, out.dtype.element_ty), there_HD2)


@triton.jit
def write_rows(
    k_cache, v_cache, k_scales, v_scales, k, v, slots, block_stride, num_kv_heads, k_stride, v_stride,
    HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Some heads of a token."""
    token = tl.program_id(0).to(tl.int64)
    head_J = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    slot = tl.load(slots + token)
    block, row_J = slot // BLOCK_SIZE, slot % BLOCK_SIZE * num_kv_heads + head_J
    heads = tl.where(slot >= 0, num_kv_heads, 0)  # a row without a slot keeps nothing
    write(k_cache, k_scales, k + token * k_stride, block, block_stride, row_J, head_J, heads, HEAD_DIM, WIDTH)
    write(v_cache, v_scales, v + token * v_stride, block, block_stride, row_J, head_J, heads, HEAD_DIM, WIDTH)


@triton.jit
def write(cache, scales, x, block, block_stride, row_J, head_J, heads, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr):
    """The first `heads` heads of one of K and V. int8: kernels/kv_rows.py rounds in the same way, bit for bit."""
    d_D = tl.arange(0, WIDTH)
    there_J = head_J < heads
    there_JD = there_J[:, None] & (d_D < HEAD_DIM)[None, :]
    x_JD = tl.load(x + head_J[:, None] * HEAD_DIM + d_D[None, :], there_JD, 0.0)
    to_JD = cache + block * block_stride + row_J[:, None] * HEAD_DIM + d_D[None, :]
    if scales is None:
        if x_JD.dtype != cache.dtype.element_ty:
            x_JD = rounded(x_JD.to(tl.float32), cache.dtype.element_ty)
        tl.store(to_JD, x_JD, there_JD)
    else:
        x_JD = x_JD.to(tl.float32)
        unsound_J = tl.sum(x_JD * 0.0, 1)  # NaN for a row that is not finite
        scale_J = tl.div_rn(tl.max(tl.abs(x_JD), 1), 127.0) + unsound_J
        inverse_J = tl.where(scale_J < 1.1754943508222875e-38, 0.0, tl.div_rn(1.0, scale_J))
        code_JD = nearest(x_JD * inverse_J[:, None])
        code_JD = tl.where(code_JD == code_JD, code_JD, 0.0)
        tl.store(to_JD, tl.minimum(tl.maximum(code_JD, -127.0), 127.0).to(tl.int8), there_JD)
        tl.store(scales + block * (block_stride // 4) + row_J, scale_J, there_J)
