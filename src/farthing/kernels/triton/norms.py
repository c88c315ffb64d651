"""Elementwise kernels and reductions of a row: RMSNorm, SiLU-mul, the largest logit.

Additions of the residual stream and the gather of embeddings stay torch's. Shapes: T tokens, K features, R rows of
logits, V vocabulary.
"""

import torch
import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import rounded
from farthing.kernels.triton.launch import Launcher, meta

_BLOCK = 1024  # values that a program of silu_mul holds
_PART = 4096  # logits that one looks through


def rms_norm(launch: Launcher, x_TK: torch.Tensor, weight_K: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * w over the last dimension, in fp32, rounded before the weight is applied."""
    x_TK = x_TK.contiguous()
    out_TK = torch.empty_like(x_TK)
    num_columns = x_TK.shape[-1]
    width = triton.next_power_of_2(num_columns)
    grid = (x_TK.numel() // num_columns,)
    num_warps = min(16, max(1, width // 512))
    launch(normalize, grid, out_TK, x_TK, weight_K, eps, num_warps=num_warps, COLUMNS=num_columns, WIDTH=width)
    return out_TK


def silu_mul(launch: Launcher, gate_TK: torch.Tensor, up_TK: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, the first factor rounded."""
    gate_TK, up_TK = gate_TK.contiguous(), up_TK.contiguous()
    out_TK = torch.empty_like(gate_TK)
    num_values = gate_TK.numel()
    launch(activate, (triton.cdiv(num_values, _BLOCK),), out_TK, gate_TK, up_TK, num_values, BLOCK=_BLOCK)
    return out_TK


def largest(launch: Launcher, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest value of each row and the lowest id that has it; NaN is larger than all."""
    logits_RV = logits_RV.float().contiguous()
    num_rows, vocab_size = logits_RV.shape
    num_parts = triton.cdiv(vocab_size, _PART)
    found_RP = torch.empty((num_rows, num_parts), dtype=torch.int64, device=logits_RV.device)
    top_R = torch.empty(num_rows, dtype=torch.float32, device=logits_RV.device)
    token_R = torch.empty(num_rows, dtype=torch.int64, device=logits_RV.device)
    launch(largest_of_part, (num_rows, num_parts), found_RP, logits_RV, vocab_size, num_parts, PART=_PART)
    operands = top_R, token_R, found_RP, logits_RV, vocab_size, num_parts
    launch(largest_of_row, (num_rows,), *operands, num_warps=1, PARTS=triton.next_power_of_2(num_parts))
    return top_R, token_R


def examples(launch: Launcher) -> None:
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for num_columns in (4096, 128, 16384):
            rms_norm(launch, meta(16, num_columns, dtype=dtype), meta(num_columns, dtype=dtype), 1e-5)
        silu_mul(launch, *(meta(16, 14336, dtype=dtype) for _ in range(2)))
    largest(launch, meta(16, 128256, dtype=torch.float32))


@triton.jit
def normalize(out, x, weight, eps, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """A row."""
    k_K = tl.arange(0, WIDTH)
    row = tl.program_id(0).to(tl.int64) * COLUMNS
    x_K = tl.load(x + row + k_K, k_K < COLUMNS, 0.0).to(tl.float32)
    scale = 1 / tl.sqrt_rn(tl.div_rn(tl.sum(x_K * x_K, 0), 1.0 * COLUMNS) + eps)
    normed_K = rounded(x_K * scale, x.dtype.element_ty).to(tl.float32)
    weight_K = tl.load(weight + k_K, k_K < COLUMNS, 0.0)
    tl.store(out + row + k_K, rounded(normed_K * weight_K.to(tl.float32), out.dtype.element_ty), k_K < COLUMNS)


@triton.jit
def activate(out, gate, up, num_values, BLOCK: tl.constexpr):
    """Some values."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < num_values
    x = tl.load(gate + at, there, 0.0).to(tl.float32)
    factor = rounded(x / (1 + tl.exp(-x)), out.dtype.element_ty).to(tl.float32)
    tl.store(out + at, rounded(factor * tl.load(up + at, there, 0.0).to(tl.float32), out.dtype.element_ty), there)


@triton.jit
def largest_of_part(found, logits, vocab_size, num_parts, PART: tl.constexpr):
    """A part of a row. Values become integers of the same order, and of equal values the lowest id is the largest
    number: value and id in one."""
    row, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    id_P = part * PART + tl.arange(0, PART)
    value_P = tl.load(logits + row * vocab_size + id_P, id_P < vocab_size, float("-inf"))
    bits_P = tl.where(value_P == 0, 0.0, value_P).to(tl.int32, bitcast=True)  # zeros of either sign are equal
    order_P = tl.where(bits_P < 0, bits_P ^ 0x7FFFFFFF, bits_P)
    order_P = tl.where(value_P == value_P, order_P, 0x7FFFFFFF)
    found_P = order_P.to(tl.int64) * 4294967296 + (0x7FFFFFFF - id_P)
    tl.store(found + row * num_parts + part, tl.max(tl.where(id_P < vocab_size, found_P, -9223372036854775808), 0))


@triton.jit
def largest_of_row(top, token, found, logits, vocab_size, num_parts, PARTS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part_P = tl.arange(0, PARTS)
    best = tl.max(tl.load(found + row * num_parts + part_P, part_P < num_parts, -9223372036854775808), 0)
    id = 0x7FFFFFFF - (best & 0x7FFFFFFF)
    tl.store(token + row, id)
    tl.store(top + row, tl.load(logits + row * vocab_size + id))
