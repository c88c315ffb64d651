"""RMSNorm, rotary positions, SwiGLU, writing the cache: right values, and rows that do not know each other."""

import math

import pytest
import torch

from farthing.kernels.kv_rows import load_rows, round_rows, store_rows
from farthing.kernels.reference import ReferenceKernels

KERNELS = ReferenceKernels()
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@DTYPES
@pytest.mark.parametrize("width", [1, 7, 60, 64, 100, 576, 2048, 16384])
def test_a_row_of_rms_norm_is_bit_equal_whatever_the_batch(width: int, dtype: torch.dtype) -> None:
    x_TK, weight_K = normal(33, width, dtype=dtype), normal(width, seed=1, dtype=dtype)
    alone = torch.cat([KERNELS.rms_norm(x_TK[row : row + 1], weight_K, 1e-6) for row in range(33)])
    for first, last in ((0, 33), (0, 2), (1, 9), (5, 20), (32, 33)):
        assert torch.equal(KERNELS.rms_norm(x_TK[first:last], weight_K, 1e-6), alone[first:last])
    heads = KERNELS.rms_norm(x_TK.unflatten(0, (11, 3)), weight_K, 1e-6)  # as QK norm calls it
    assert torch.equal(heads.flatten(0, 1), alone)


def test_rms_norm_is_its_formula_and_divides_by_no_zero() -> None:
    x_TK, weight_K = normal(5, 40), normal(40, seed=1)
    wide = x_TK.double()
    expected = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight_K
    assert torch.allclose(KERNELS.rms_norm(x_TK, weight_K, 1e-5).double(), expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(KERNELS.rms_norm(torch.zeros(2, 40), weight_K, 1e-5), torch.zeros(2, 40))


@pytest.mark.parametrize("head_dim", [2, 10, 64, 128])
def test_a_row_of_rope_is_bit_equal_whatever_the_batch(kernels: ReferenceKernels, head_dim: int) -> None:
    x_THD, frequencies = normal(33, 3, head_dim), torch.rand(head_dim // 2, generator=torch.Generator().manual_seed(1))
    positions = torch.arange(33) * 1001
    together = kernels.rope(x_THD, *kernels.rotary_angles(positions, frequencies, 1.2))
    for row in range(33):
        angles = kernels.rotary_angles(positions[row : row + 1], frequencies, 1.2)
        assert torch.equal(kernels.rope(x_THD[row : row + 1], *angles)[0], together[row])


def test_rope_turns_each_pair_by_position_times_frequency() -> None:
    x_THD, frequencies, positions = normal(4, 2, 6), torch.tensor([1.0, 0.3, 0.01]), torch.tensor([0, 1, 7, 500])
    rotated = KERNELS.rope(x_THD, *KERNELS.rotary_angles(positions, frequencies, 1.0))
    assert torch.equal(rotated[0], x_THD[0])  # position 0 turns nothing
    turned = torch.complex(x_THD[..., :3].double(), x_THD[..., 3:].double()) * torch.exp(
        1j * positions.double()[:, None, None] * frequencies.double()
    )
    assert torch.allclose(rotated.double(), torch.cat((turned.real, turned.imag), -1), atol=1e-4)


def test_the_attention_factor_scales_query_and_key() -> None:
    x_THD, frequencies = normal(3, 2, 8), torch.full((4,), 0.1)
    plain, scaled = (
        KERNELS.rope(x_THD, *KERNELS.rotary_angles(torch.arange(3), frequencies, factor)) for factor in (1.0, 1.5)
    )
    assert torch.allclose(scaled, plain * 1.5)


@DTYPES
@pytest.mark.parametrize("width", [1, 7, 60, 96, 100, 5632])
def test_a_row_of_swiglu_is_bit_equal_whatever_the_batch(width: int, dtype: torch.dtype) -> None:
    gate_TK, up_TK = normal(16, width, dtype=dtype), normal(16, width, seed=1, dtype=dtype)
    together = KERNELS.silu_mul(gate_TK, up_TK)
    for row in range(16):
        assert torch.equal(KERNELS.silu_mul(gate_TK[row : row + 1], up_TK[row : row + 1])[0], together[row])


def test_swiglu_is_its_formula(kernels: ReferenceKernels) -> None:
    gate_TK, up_TK = normal(9, 33) * 5, normal(9, 33, seed=1)
    expected = gate_TK.double() / (1 + (-gate_TK.double()).exp()) * up_TK
    assert torch.allclose(kernels.silu_mul(gate_TK, up_TK).double(), expected, rtol=1e-5, atol=1e-6)


def test_keys_and_values_land_in_their_slots_and_nowhere_else() -> None:
    k_cache, v_cache = torch.full((5, 4, 2, 3), math.nan), torch.full((5, 4, 2, 3), math.nan, dtype=torch.bfloat16)
    slots = torch.tensor([17, 4, 0])  # block 4 offset 1, block 1 offset 0, block 0 offset 0
    k_TJD, v_TJD = normal(3, 2, 3), normal(3, 2, 3, seed=1)
    KERNELS.store_kv(k_TJD, v_TJD, k_cache, v_cache, slots)
    assert torch.equal(torch.stack((k_cache[4, 1], k_cache[1, 0], k_cache[0, 0])), k_TJD)
    assert torch.equal(torch.stack((v_cache[4, 1], v_cache[1, 0], v_cache[0, 0])), v_TJD.bfloat16())
    assert k_cache.isfinite().sum() == v_cache.isfinite().sum() == 3 * 2 * 3


@pytest.mark.parametrize(("block_size", "heads", "head_dim"), [(1, 1, 2), (3, 3, 10), (16, 2, 64)])
def test_a_row_of_int8_is_read_as_it_was_rounded_wherever_its_scale_lies(
    block_size: int, heads: int, head_dim: int
) -> None:
    cache_BSJR = torch.full((4, block_size, heads, head_dim + 4), -1, dtype=torch.int8)
    x_TJD, slots = normal(3, heads, head_dim), torch.tensor([3 * block_size, block_size, 0])
    store_rows(x_TJD, cache_BSJR, slots)
    for count in (1, 4):  # of blocks
        found_TJD = load_rows(cache_BSJR[:count], head_dim).flatten(0, 1)
        assert torch.allclose(found_TJD[0], x_TJD[2], rtol=0, atol=0.5 / 127 * float(x_TJD[2].abs().max()) + 1e-6)
        assert found_TJD.isfinite().all(-1).sum() == heads * (1 if count == 1 else 3)


def test_the_largest_magnitude_of_a_row_is_kept_and_what_is_not_finite_makes_its_scale_nan() -> None:
    x_TJD = torch.tensor([[[3.0, -127.0, 0.4]], [[0.0, 0.0, 0.0]], [[1e-45, 0.0, 0.0]], [[1.0, math.inf, 2.0]]])
    codes_TJD, scale_TJ = round_rows(x_TJD)
    assert codes_TJD.flatten(1).tolist()[:3] == [[3, -127, 0], [0, 0, 0], [0, 0, 0]]
    assert scale_TJ[:2].flatten().tolist() == [1.0, 0.0] and scale_TJ[3].isnan().all()
