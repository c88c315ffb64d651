"""RMSNorm, SiLU-mul, rotary positions, KV writes and the largest logit in Triton: those of the reference, and a row's
bits are its own.

Shapes: T tokens, K features, H heads, J KV heads, D head_dim, B blocks, S slots of a block, R rows, V vocabulary.
"""

import math

import pytest
import torch
from triton_kernels import Kernels, launcher

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.triton.kv_write import store_kv
from farthing.kernels.triton.paged_kv import PagedKV

REFERENCE = ReferenceKernels()
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
SMALLEST = 2.0**-126


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype and found.shape == expected.shape
    tolerance = TOLERANCE[found.dtype]
    assert torch.allclose(found.float(), expected.float(), rtol=tolerance, atol=tolerance)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 7), (5, 576), (3, 4096), (4, 3, 24)], ids=str)
def test_rms_norm(kernels: Kernels, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x_TK, weight_K = normal(*shape, dtype=dtype), normal(shape[-1], dtype=dtype)
    found = kernels.rms_norm(x_TK, weight_K, 1e-5)
    assert_close(found, REFERENCE.rms_norm(x_TK, weight_K, 1e-5))
    assert torch.equal(kernels.rms_norm(x_TK[-1:], weight_K, 1e-5), found[-1:])


@DTYPES
@pytest.mark.parametrize("shape", [(1, 7), (5, 576), (0, 64)], ids=str)
def test_silu_mul(kernels: Kernels, shape: tuple[int, int], dtype: torch.dtype) -> None:
    gate_TK, up_TK = 10 * normal(*shape, dtype=dtype), normal(shape[1], shape[0], dtype=dtype).T
    found = kernels.silu_mul(gate_TK, up_TK)
    if shape[0]:
        assert_close(found, REFERENCE.silu_mul(gate_TK, up_TK))
    assert found.shape == shape and torch.equal(kernels.silu_mul(gate_TK[-1:], up_TK[-1:]), found[-1:])


@DTYPES
@pytest.mark.parametrize("heads", [(1, 2), (3, 24), (33, 64), (5, 256)], ids=str)
def test_rope_turns_heads_that_lie_in_wider_rows(kernels: Kernels, heads: tuple[int, int], dtype: torch.dtype) -> None:
    num_heads, head_dim = heads
    frequencies = 10_000 ** -(torch.arange(0, head_dim, 2) / head_dim)
    angles = REFERENCE.rotary_angles(torch.tensor([0, 1, 70_000]), frequencies, 1.5)
    x_THD = normal(3, num_heads + 2, head_dim, dtype=dtype)[:, 1:-1]
    assert_close(kernels.rope(x_THD, *angles), REFERENCE.rope(x_THD, *angles))


@DTYPES
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("heads", [(1, 2), (3, 24), (40, 128)], ids=str)
def test_new_rows_are_written_at_their_slots_and_nowhere_else(
    kernels: Kernels, heads: tuple[int, int], fp8: bool, dtype: torch.dtype
) -> None:
    k_TJD, v_TJD = normal(5, *heads, dtype=dtype), 300 * normal(6, *heads, dtype=dtype)[1:]
    slots_T = torch.tensor([11, 3, 4, 0, 7])
    found, expected = (
        [torch.full((4, 3, *heads), math.nan, dtype=torch.float8_e4m3fn if fp8 else dtype) for _ in range(2)]
        for _ in range(2)
    )
    kernels.store_kv(k_TJD, v_TJD, *found, slots_T)
    REFERENCE.store_kv(k_TJD, v_TJD, *expected, slots_T)
    for cache, other in zip(found, expected, strict=True):
        assert torch.equal(cache.float().nan_to_num(1e9), other.float().nan_to_num(1e9))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8], ids=str)
def test_a_row_without_a_slot_is_written_nowhere_not_even_before_the_cache(dtype: torch.dtype, device: str) -> None:
    launch, x_TJD = launcher(device), normal(2, 2, 8).to(device)
    row = 8 + 4 * (dtype == torch.int8)
    around = [torch.ones(3, 4, 4, 2, row, device=device).to(dtype) for _ in range(2)]
    cache = PagedKV.of(around[0][1], around[1][1], 8)
    store_kv(launch, x_TJD, x_TJD, cache, torch.tensor([-1, -1], device=device))
    assert all(bool((one == 1).all()) for one in around)


@DTYPES
def test_rows_of_int8_are_codes_and_the_scale_that_makes_the_largest_magnitude_127(
    kernels: Kernels, dtype: torch.dtype
) -> None:
    """Also of zeros, of values too small for a scale, and of one that is not finite, whose scale is NaN."""
    num_kv_heads, head_dim, block_size = 3, 24, 4
    x_TJD = normal(5, num_kv_heads, head_dim, dtype=dtype)
    x_TJD[1], x_TJD[2, 0, 3], x_TJD[3, 1] = 0, math.inf, SMALLEST
    slots_T = torch.tensor([11, 3, 4, 0, 7])
    k_cache, v_cache = (torch.full((3, block_size, num_kv_heads, head_dim + 4), 77, dtype=torch.int8) for _ in "kv")
    kernels.store_kv(x_TJD, -x_TJD, k_cache, v_cache, slots_T)
    wide_TJD = x_TJD.float()
    scale_TJ = wide_TJD.abs().amax(-1) / 127
    scale_TJ[2, 0] = math.nan
    inverse_TJ1 = torch.where(scale_TJ < SMALLEST, 0, 1 / scale_TJ)[..., None]
    codes_TJD = (wide_TJD * inverse_TJ1).nan_to_num(0).round().to(torch.int8)
    num_codes = block_size * num_kv_heads * head_dim
    for cache, sign in ((k_cache, 1), (v_cache, -1)):
        codes_NJD = cache.flatten(1)[:, :num_codes].reshape(-1, num_kv_heads, head_dim)
        scale_NJ = cache.flatten(1)[:, num_codes:].contiguous().view(torch.float32).reshape(-1, num_kv_heads)
        assert torch.equal(codes_NJD[slots_T], sign * codes_TJD)
        assert torch.equal(scale_NJ[slots_T].nan_to_num(-1), scale_TJ.nan_to_num(-1))
        others = [slot for slot in range(12) if slot not in slots_T.tolist()]
        assert (codes_NJD[others] == 77).all()


@pytest.mark.parametrize("vocab_size", [1, 100, 9000])
def test_the_largest_is_the_first_of_equals_and_nan_is_larger_than_all(kernels: Kernels, vocab_size: int) -> None:
    logits_RV = normal(8, vocab_size).round(decimals=1)
    logits_RV[1], logits_RV[2] = -math.inf, -1e-30
    logits_RV[3, vocab_size // 2] = math.nan
    logits_RV[4, vocab_size // 3 :] = math.nan
    logits_RV[5, vocab_size // 2 :], logits_RV[6] = math.inf, 0.0
    logits_RV[6, : vocab_size // 2] = -0.0
    top_R, token_R = kernels.largest(logits_RV)
    expected_top_R, expected_token_R = REFERENCE.largest(logits_RV)
    assert torch.equal(token_R, expected_token_R)
    assert torch.equal(top_R.nan_to_num(7.5), expected_top_R.nan_to_num(7.5))
