"""Rotary positions, and new keys and values into the paged cache: as they are, as fp8, or as int8 with a scale a row.

Shapes: T tokens, H query heads, J KV heads, D head_dim.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import nearest, rounded
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.triton.order import after_others
from farthing.kernels.triton.paged_kv import PagedKV

_BLOCK = 1024  # values that a program holds


def rope_and_store(
    launch: Launcher,
    q_THD: torch.Tensor,
    k_TJD: torch.Tensor,
    v_TJD: torch.Tensor,
    cos_T1D2: torch.Tensor,
    sin_T1D2: torch.Tensor,
    cache: PagedKV,
    slots_T: torch.Tensor,
) -> torch.Tensor:
    """q with the pairs (i, i + D/2) of each head rotated; k, rotated, and v are written at slot = block * S + offset,
    those of rows without a slot nowhere. Rows may lie apart, their heads side by side."""
    num_tokens, num_heads, head_dim = q_THD.shape
    num_kv_heads = k_TJD.shape[1]
    assert all(x.stride()[1:] == (head_dim, 1) for x in (q_THD, k_TJD, v_TJD)), "heads of a row side by side"
    assert cos_T1D2.is_contiguous() and sin_T1D2.is_contiguous()
    out_THD = torch.empty((num_tokens, num_heads, head_dim), dtype=q_THD.dtype, device=q_THD.device)
    width = triton.next_power_of_2(head_dim // 2)
    heads = max(1, min(triton.next_power_of_2(num_heads), _BLOCK // 2 // width))
    programs = triton.cdiv(num_heads, heads) + 2 * triton.cdiv(num_kv_heads, heads)
    launch(
        rotate_and_write, (num_tokens, programs), out_THD, cache.k_BSJR, cache.v_BSJR, cache.k_scales, cache.v_scales,
        q_THD, k_TJD, v_TJD, cos_T1D2, sin_T1D2, slots_T, cache.block_stride, num_heads, num_kv_heads,
        q_THD.stride(0), k_TJD.stride(0), v_TJD.stride(0),
        HALF=head_dim // 2, BLOCK_SIZE=cache.block_size, HEADS=heads, WIDTH=width,
    )  # fmt: skip
    return out_THD


def examples(launch: Launcher) -> None:
    """q, k and v of one matrix."""
    slots_T = meta(16, dtype=torch.int64)
    angles = meta(16, 1, 64, dtype=torch.float32)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        q_THD, k_TJD, v_TJD = meta(16, 48, 128, dtype=dtype).split((32, 8, 8), 1)
        for kv_dtype in (dtype, torch.int8, *[torch.float8_e4m3fn] * launch.chip.has_fp8):
            row = 132 if kv_dtype == torch.int8 else 128
            cache = PagedKV.of(*(meta(64, 16, 8, row, dtype=kv_dtype) for _ in range(2)), 128)
            rope_and_store(launch, q_THD, k_TJD, v_TJD, angles, angles, cache, slots_T)


@triton.jit
def rotate_and_write(
    out, k_cache, v_cache, k_scales, v_scales, q, k, v, cos, sin, slots, block_stride, num_heads, num_kv_heads,
    q_stride, k_stride, v_stride,
    HALF: tl.constexpr, BLOCK_SIZE: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Some heads of a token: of q, then of k, then of v."""
    after_others(EARLY)
    token, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    of_q, of_k = tl.cdiv(num_heads, HEADS), tl.cdiv(num_kv_heads, HEADS)
    d_D2 = tl.arange(0, WIDTH)
    if part < of_q:
        head_H = part * HEADS + tl.arange(0, HEADS)
        first_HD2, second_HD2 = rotated(q + token * q_stride, head_H, num_heads, cos, sin, token, HALF, WIDTH)
        to_HD2 = out + (token * num_heads + head_H)[:, None] * (2 * HALF) + d_D2[None, :]
        there_HD2 = (head_H < num_heads)[:, None] & (d_D2 < HALF)[None, :]
        tl.store(to_HD2, rounded(first_HD2, out.dtype.element_ty), there_HD2)
        tl.store(to_HD2 + HALF, rounded(second_HD2, out.dtype.element_ty), there_HD2)
    else:
        slot = tl.load(slots + token)
        block, slot_of_block = slot // BLOCK_SIZE, slot % BLOCK_SIZE
        heads = tl.where(slot >= 0, num_kv_heads, 0)  # a row without a slot keeps nothing
        if part < of_q + of_k:
            head_J = (part - of_q) * HEADS + tl.arange(0, HEADS)
            first_JD2, second_JD2 = rotated(k + token * k_stride, head_J, num_kv_heads, cos, sin, token, HALF, WIDTH)
            first_JD2 = rounded(first_JD2, k.dtype.element_ty)
            second_JD2 = rounded(second_JD2, k.dtype.element_ty)
            row_J = slot_of_block * num_kv_heads + head_J
            there_J = head_J < heads
            write(k_cache, k_scales, first_JD2, second_JD2, block, block_stride, row_J, there_J, HALF, WIDTH)
        else:
            head_J = (part - of_q - of_k) * HEADS + tl.arange(0, HEADS)
            first_JD2, second_JD2 = halves(v + token * v_stride, head_J, num_kv_heads, HALF, WIDTH)
            row_J = slot_of_block * num_kv_heads + head_J
            there_J = head_J < heads
            write(v_cache, v_scales, first_JD2, second_JD2, block, block_stride, row_J, there_J, HALF, WIDTH)


@triton.jit
def halves(x, head_H, num_heads, HALF: tl.constexpr, WIDTH: tl.constexpr):
    """Both halves of some heads of a row."""
    d_D2 = tl.arange(0, WIDTH)
    from_HD2 = x + head_H[:, None] * (2 * HALF) + d_D2[None, :]
    there_HD2 = (head_H < num_heads)[:, None] & (d_D2 < HALF)[None, :]
    return tl.load(from_HD2, there_HD2, 0.0), tl.load(from_HD2 + HALF, there_HD2, 0.0)


@triton.jit
def rotated(x, head_H, num_heads, cos, sin, token, HALF: tl.constexpr, WIDTH: tl.constexpr):
    """Both halves of some heads of a row by the token's angles, in fp32."""
    d_D2 = tl.arange(0, WIDTH)
    cos_D2 = tl.load(cos + token * HALF + d_D2, d_D2 < HALF, 0.0)[None, :]
    sin_D2 = tl.load(sin + token * HALF + d_D2, d_D2 < HALF, 0.0)[None, :]
    first_HD2, second_HD2 = halves(x, head_H, num_heads, HALF, WIDTH)
    first_HD2, second_HD2 = first_HD2.to(tl.float32), second_HD2.to(tl.float32)
    return first_HD2 * cos_D2 - second_HD2 * sin_D2, second_HD2 * cos_D2 + first_HD2 * sin_D2


@triton.jit
def write(
    cache, scales, first_JD2, second_JD2, block, block_stride, row_J, there_J, HALF: tl.constexpr, WIDTH: tl.constexpr
):
    """Some heads of one of K and V. int8: kernels/kv_rows.py rounds in the same way, bit for bit."""
    d_D2 = tl.arange(0, WIDTH)
    there_JD2 = there_J[:, None] & (d_D2 < HALF)[None, :]
    to_JD2 = cache + block * block_stride + row_J[:, None] * (2 * HALF) + d_D2[None, :]
    if scales is None:
        if first_JD2.dtype != cache.dtype.element_ty:
            first_JD2 = rounded(first_JD2.to(tl.float32), cache.dtype.element_ty)
            second_JD2 = rounded(second_JD2.to(tl.float32), cache.dtype.element_ty)
        tl.store(to_JD2, first_JD2, there_JD2)
        tl.store(to_JD2 + HALF, second_JD2, there_JD2)
    else:
        first_JD2, second_JD2 = first_JD2.to(tl.float32), second_JD2.to(tl.float32)
        unsound_J = tl.sum(first_JD2 * 0.0 + second_JD2 * 0.0, 1)  # NaN for a row that is not finite
        largest_J = tl.max(tl.maximum(tl.abs(first_JD2), tl.abs(second_JD2)), 1)
        scale_J = tl.div_rn(largest_J, 127.0) + unsound_J
        inverse_J = tl.where(scale_J < 1.1754943508222875e-38, 0.0, tl.div_rn(1.0, scale_J))[:, None]
        tl.store(to_JD2, code(first_JD2 * inverse_J), there_JD2)
        tl.store(to_JD2 + HALF, code(second_JD2 * inverse_J), there_JD2)
        tl.store(scales + block * (block_stride // 4) + row_J, scale_J, there_J)


@triton.jit
def code(x_JD2):
    """The nearest code of int8; of NaN, 0."""
    code_JD2 = nearest(x_JD2)
    code_JD2 = tl.where(code_JD2 == code_JD2, code_JD2, 0.0)
    return tl.minimum(tl.maximum(code_JD2, -127.0), 127.0).to(tl.int8)
