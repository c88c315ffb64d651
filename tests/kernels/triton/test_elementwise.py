"""RMSNorm, SiLU-mul, rotary positions with KV writes, and the largest logit in Triton: those of the reference, and a
row's bits are its own.

Shapes: T tokens, K features, H heads, J KV heads, D head_dim, B blocks, S slots of a block, R rows, V vocabulary.
"""

import math

import pytest
import torch
from triton_kernels import Kernels, launcher

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.triton.kv_write import rope_and_store
from farthing.kernels.triton.norms import add_norm, rms_norm
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
def test_heads_are_normed_where_they_lie_in_wider_rows(kernels: Kernels, dtype: torch.dtype) -> None:
    x_THD, weight_D = normal(5, 9, 24, dtype=dtype)[:, 2:6], normal(24, dtype=dtype)
    found = kernels.rms_norm(x_THD, weight_D, 1e-5)
    assert torch.equal(found, kernels.rms_norm(x_THD.contiguous(), weight_D, 1e-5))
    assert_close(found, REFERENCE.rms_norm(x_THD, weight_D, 1e-5))


@DTYPES
@pytest.mark.parametrize("shape", [(1, 7), (5, 576), (3, 4096), (0, 64)], ids=str)
def test_a_norm_of_a_sum_is_that_of_the_sum_as_it_is_stored(
    device: str, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    launch, weight_K = launcher(device), normal(shape[1], dtype=dtype).to(device)
    x_TK, added_TK = normal(*shape, dtype=dtype).to(device), normal(shape[1], shape[0], dtype=dtype).T.to(device)
    found_sum_TK, found_TK = add_norm(launch, x_TK, added_TK.contiguous(), weight_K, 1e-5, None)
    assert torch.equal(found_sum_TK, x_TK + added_TK)
    expected_TK = rms_norm(launch, x_TK + added_TK, weight_K, 1e-5)
    assert isinstance(found_TK, torch.Tensor) and torch.equal(found_TK, expected_TK)
    same_TK, alone_TK = add_norm(launch, x_TK, None, weight_K, 1e-5, None)
    assert same_TK is x_TK
    assert isinstance(alone_TK, torch.Tensor) and torch.equal(alone_TK, rms_norm(launch, x_TK, weight_K, 1e-5))


@DTYPES
@pytest.mark.parametrize("shape", [(1, 7), (5, 576), (3, 2100), (0, 64)], ids=str)
def test_silu_mul(kernels: Kernels, shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Of the halves of wider rows, as one product gives them, and of a transposed matrix."""
    gate_TK, _, up_TK = (10 * normal(shape[0], 2 * shape[1] + 3, dtype=dtype)).split((shape[1], 3, shape[1]), 1)
    for up in (up_TK, normal(shape[1], shape[0], dtype=dtype).T):
        found = kernels.silu_mul(gate_TK, up)
        if shape[0]:
            assert_close(found, REFERENCE.silu_mul(gate_TK, up))
        assert found.shape == shape and torch.equal(kernels.silu_mul(gate_TK[-1:], up[-1:]), found[-1:])


def paged(heads: tuple[int, int], dtype: torch.dtype, *, fill: float = math.nan) -> tuple[torch.Tensor, torch.Tensor]:
    """4 blocks of 3 slots."""
    num_heads, head_dim = heads
    row = head_dim + 4 if dtype == torch.int8 else head_dim
    k_cache, v_cache = (torch.full((4, 3, num_heads, row), fill, dtype=dtype) for _ in "kv")
    return k_cache, v_cache


@DTYPES
@pytest.mark.parametrize("fp8", [False, True])
@pytest.mark.parametrize("heads", [(1, 2), (3, 24), (10, 64), (2, 256)], ids=str)
def test_heads_of_one_matrix_are_turned_and_new_rows_written_at_their_slots_and_nowhere_else(
    kernels: Kernels, heads: tuple[int, int], fp8: bool, dtype: torch.dtype
) -> None:
    num_heads, head_dim = heads
    q_THD, k_TJD, v_TJD = normal(5, 6 * num_heads, head_dim, dtype=dtype).split([num_heads * n for n in (4, 1, 1)], 1)
    frequencies = 10_000 ** -(torch.arange(0, head_dim, 2) / head_dim)
    angles = REFERENCE.rotary_angles(torch.tensor([0, 1, 70_000, 3, 9]), frequencies, 1.5)
    slots_T = torch.tensor([11, 3, 4, 0, 7])
    found, expected = (paged(heads, torch.float8_e4m3fn if fp8 else dtype) for _ in range(2))
    found_q = kernels.rope_and_store(q_THD, k_TJD, 300 * v_TJD, angles, found, slots_T)
    expected_q = REFERENCE.rope_and_store(q_THD, k_TJD, 300 * v_TJD, angles, expected, slots_T)
    assert_close(found_q, expected_q)
    for cache, other, tolerance in zip(found, expected, (TOLERANCE[dtype], 0.0), strict=True):  # v is not turned
        difference = (cache.float().nan_to_num(1e9) - other.float().nan_to_num(1e9)).abs()
        step = 0.13 * other.float().abs().nan_to_num(0) if fp8 and tolerance else torch.zeros(())
        assert bool((difference <= tolerance * 4 + step).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8], ids=str)
def test_a_row_without_a_slot_is_written_nowhere_not_even_before_the_cache(dtype: torch.dtype, device: str) -> None:
    launch, x_TJD, angles_T1D2 = launcher(device), normal(2, 2, 8).to(device), torch.ones(2, 1, 4, device=device)
    row = 8 + 4 * (dtype == torch.int8)
    around = [torch.ones(3, 4, 4, 2, row, device=device).to(dtype) for _ in range(2)]
    cache, no_slots_T = PagedKV.of(around[0][1], around[1][1], 8), torch.tensor([-1, -1], device=device)
    rope_and_store(launch, x_TJD, x_TJD, x_TJD, angles_T1D2, angles_T1D2, cache, no_slots_T)
    assert all(bool((one == 1).all()) for one in around)


@DTYPES
def test_rows_of_int8_are_codes_and_the_scale_that_makes_the_largest_magnitude_127(
    kernels: Kernels, dtype: torch.dtype
) -> None:
    """Also of zeros, of values too small for a scale, and of one that is not finite, whose scale is NaN. Turned by
    nothing, k is what it was."""
    num_kv_heads, head_dim, block_size = 3, 24, 3
    x_TJD = normal(5, num_kv_heads, head_dim, dtype=dtype)
    x_TJD[1], x_TJD[3, 1] = 0, SMALLEST
    v_TJD = -x_TJD
    v_TJD[2, 0, 3] = math.inf
    slots_T = torch.tensor([11, 3, 4, 0, 7])
    caches = paged((num_kv_heads, head_dim), torch.int8, fill=77)
    angles = torch.ones(5, 1, head_dim // 2), torch.zeros(5, 1, head_dim // 2)
    kernels.rope_and_store(x_TJD, x_TJD, v_TJD, angles, caches, slots_T)
    num_codes = block_size * num_kv_heads * head_dim
    for cache, rows_TJD in zip(caches, (x_TJD, v_TJD), strict=True):
        wide_TJD = rows_TJD.float()
        scale_TJ = wide_TJD.abs().amax(-1) / 127
        scale_TJ[~scale_TJ.isfinite()] = math.nan
        inverse_TJ1 = torch.where(scale_TJ < SMALLEST, 0, 1 / scale_TJ)[..., None]
        codes_TJD = (wide_TJD * inverse_TJ1).nan_to_num(0).round().to(torch.int8)
        codes_NJD = cache.flatten(1)[:, :num_codes].reshape(-1, num_kv_heads, head_dim)
        scale_NJ = cache.flatten(1)[:, num_codes:].contiguous().view(torch.float32).reshape(-1, num_kv_heads)
        assert torch.equal(codes_NJD[slots_T], codes_TJD)
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
