"""What lies between the products: as the reference computes it, rows that stand alone, memory that is written whole."""

import math

import pytest
import torch
from native_kernels import native, pool
from paged_sequences import unwritten_cache

from farthing.kernels.kv_rows import round_rows
from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.native.recorder import Immediate, Work
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import quantize
from farthing.quantization.base import formats

REFERENCE = ReferenceKernels()
WIDTHS = (1, 2, 7, 16, 33, 60, 72, 576)
COUNTS = (1, 3, 17, 150)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within a rounding or two of the dtype, of the largest value."""
    assert found.dtype == expected.dtype and found.shape == expected.shape
    tolerance = 2e-6 if found.dtype == torch.float32 else 1e-2
    atol = tolerance * float(expected.abs().max())
    assert torch.allclose(found.float(), expected.float(), rtol=0, atol=atol)


@DTYPES
def test_rms_norm_is_that_of_the_reference(kernels: NativeKernels, dtype: torch.dtype) -> None:
    for width in WIDTHS:
        for count in COUNTS:
            x_TK, weight_K = normal(count, width, dtype=dtype), normal(width, seed=1, dtype=dtype)
            assert_close(kernels.rms_norm(x_TK, weight_K, 1e-5), REFERENCE.rms_norm(x_TK, weight_K, 1e-5))
            x_THD = normal(count, 3, width, dtype=dtype)  # as QK norm calls it
            assert_close(kernels.rms_norm(x_THD, weight_K, 1e-5), REFERENCE.rms_norm(x_THD, weight_K, 1e-5))
    assert torch.equal(kernels.rms_norm(torch.zeros(2, 40), normal(40), 1e-5), torch.zeros(2, 40))


@pytest.mark.parametrize("head_dim", [2, 10, 24, 64, 128])
def test_rotary_angles_are_those_of_the_reference(kernels: NativeKernels, head_dim: int) -> None:
    frequencies = torch.rand(head_dim // 2, generator=torch.Generator().manual_seed(1))
    for count in COUNTS:
        positions = torch.arange(count) * 877
        expected = REFERENCE.rotary_angles(positions, frequencies, 1.1)
        for found, angles in zip(kernels.rotary_angles(positions, frequencies, 1.1), expected, strict=True):
            assert_close(found, angles)


@DTYPES
@pytest.mark.parametrize("head_dim", [2, 10, 24, 64, 128])
def test_rope_is_that_of_the_reference(kernels: NativeKernels, head_dim: int, dtype: torch.dtype) -> None:
    frequencies = torch.rand(head_dim // 2, generator=torch.Generator().manual_seed(1))
    for count in COUNTS:
        angles = REFERENCE.rotary_angles(torch.arange(count) * 137, frequencies, 1.0)
        for heads in (1, 5):
            x_THD = normal(count, heads, head_dim, dtype=dtype)
            assert_close(kernels.rope(x_THD, *angles), REFERENCE.rope(x_THD, *angles))


@DTYPES
def test_swiglu_is_that_of_the_reference_far_from_zero_as_well(kernels: NativeKernels, dtype: torch.dtype) -> None:
    for width in WIDTHS:
        for count in COUNTS:
            gate_TK, up_TK = normal(count, width, dtype=dtype) * 30, normal(count, width, seed=1, dtype=dtype)
            assert_close(kernels.silu_mul(gate_TK, up_TK), REFERENCE.silu_mul(gate_TK, up_TK))


@DTYPES
def test_swiglu_at_the_ends_of_the_numbers_is_that_of_the_reference(kernels: NativeKernels, dtype: torch.dtype) -> None:
    ends = [-1e30, -104.0, -88.0, -87.0, 0.0, 87.0, 88.0, 104.0, 1e30, math.inf, math.nan]
    gate_TK, up_TK = torch.tensor([ends], dtype=dtype), torch.ones(1, len(ends), dtype=dtype)
    found, expected = kernels.silu_mul(gate_TK, up_TK), REFERENCE.silu_mul(gate_TK, up_TK)
    assert torch.allclose(found.float(), expected.float(), rtol=1e-2, atol=1e-8, equal_nan=True)
    assert not kernels.silu_mul(torch.full((1, 1), -math.inf), torch.ones(1, 1)).isfinite().any()


@DTYPES
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_a_row_is_bit_equal_whatever_else_is_in_the_batch(level: str, num_threads: int, dtype: torch.dtype) -> None:
    """Wide rows are a task each, narrow ones share one."""
    alone, crowded = native(level, 1), native(level, num_threads)
    for width in (10, 62, 2050):
        x_TK, up_TK, weight_K = (
            normal(*shape, seed=width, dtype=dtype) for shape in ((151, width), (151, width), (width,))
        )
        positions, frequencies = torch.arange(151) * 31, normal(width // 2).abs()
        whole = {
            "norm": crowded.rms_norm(x_TK, weight_K, 1e-6),
            "silu": crowded.silu_mul(x_TK, up_TK),
            "rope": crowded.rope(x_TK[:, None], *crowded.rotary_angles(positions, frequencies, 1.2))[:, 0],
        }
        for row in range(0, 151, 7):
            part = slice(row, row + 1)
            angles = alone.rotary_angles(positions[part], frequencies, 1.2)
            assert torch.equal(alone.rms_norm(x_TK[part], weight_K, 1e-6), whole["norm"][part])
            assert torch.equal(alone.silu_mul(x_TK[part], up_TK[part]), whole["silu"][part])
            assert torch.equal(alone.rope(x_TK[part, None], *angles)[:, 0], whole["rope"][part])


@DTYPES
@pytest.mark.parametrize(("block_size", "heads", "head_dim"), [(2, 1, 2), (3, 2, 10), (16, 3, 24), (32, 2, 64)])
def test_keys_and_values_land_in_their_slots_and_nowhere_else(
    kernels: NativeKernels, block_size: int, heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    """A block holds, by KV head, keys as [words][slots] and values as [slots][head_dim]."""
    words, num_blocks = 4 // dtype.itemsize, 5
    shape = (num_blocks, block_size, heads, head_dim)
    k_cache, v_cache = torch.full(shape, math.nan, dtype=dtype), torch.full(shape, math.nan, dtype=dtype)
    slots = torch.tensor([4 * block_size + 1, block_size, 0])
    k_TJD, v_TJD = normal(3, heads, head_dim, dtype=dtype), normal(3, heads, head_dim, seed=1, dtype=dtype)
    kernels.store_kv(k_TJD, v_TJD, k_cache, v_cache, slots)
    k_BJWSw = k_cache.view(num_blocks, heads, head_dim // words, block_size, words)
    v_BJSD = v_cache.view(num_blocks, heads, block_size, head_dim)
    for row, slot in enumerate(slots.tolist()):
        block, offset = divmod(slot, block_size)
        assert torch.equal(k_BJWSw[block, :, :, offset].flatten(1), k_TJD[row])
        assert torch.equal(v_BJSD[block, :, offset], v_TJD[row])
    assert k_cache.isfinite().sum() == v_cache.isfinite().sum() == k_TJD.numel()


@DTYPES
@pytest.mark.parametrize(("block_size", "heads", "head_dim"), [(2, 1, 2), (3, 3, 10), (16, 3, 24), (32, 2, 64)])
def test_rows_of_int8_are_those_of_the_reference_each_with_its_scale_and_nothing_else_is_written(
    kernels: NativeKernels, block_size: int, heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    """A block holds, by KV head, codes of keys as [head_dim][slots] and of values as [slots][head_dim], then scales."""
    num_blocks, num_codes = 5, block_size * heads * head_dim
    k_cache, v_cache = (unwritten_cache((num_blocks, block_size, heads, head_dim), torch.int8) for _ in range(2))
    slots = torch.tensor([4 * block_size + 1, block_size, 0])
    rows = normal(3, heads, head_dim, dtype=dtype), normal(3, heads, head_dim, seed=1, dtype=dtype)
    rows[0][1].zero_()
    kernels.store_kv(*rows, k_cache, v_cache, slots)
    for cache, x_TJD, is_key in ((k_cache, rows[0], True), (v_cache, rows[1], False)):
        codes_TJD, scale_TJ = round_rows(x_TJD)
        block, offset = slots // block_size, slots % block_size
        expected = torch.full((num_blocks, cache[0].numel()), -1, dtype=torch.int8)
        codes_BX, scales_BX = expected[:, :num_codes], expected[:, num_codes:]
        if is_key:
            codes_BX.unflatten(1, (heads, head_dim, block_size))[block, :, :, offset] = codes_TJD
        else:
            codes_BX.unflatten(1, (heads, block_size, head_dim))[block, :, offset] = codes_TJD
        bytes_TJ4 = scale_TJ[..., None].view(torch.int8)
        scales_BX.unflatten(1, (heads, block_size, 4))[block, :, offset] = bytes_TJ4
        assert torch.equal(cache.flatten(1), expected)


@DTYPES
def test_the_operators_of_a_decoder_are_those_of_torch(kernels: NativeKernels, dtype: torch.dtype) -> None:
    for width in WIDTHS:
        a_TK, b_TK = normal(17, width, dtype=dtype), normal(17, width, seed=1, dtype=dtype)
        rows = torch.tensor([16, 0, 3, 3, 1])
        for name, args, options, expected in (
            ("add", (a_TK, b_TK), {}, a_TK + b_TK),
            ("index", (a_TK, [rows]), {}, a_TK[rows]),
            ("_to_copy", (a_TK,), {"dtype": torch.float32, "device": None}, a_TK.float()),
        ):
            found = kernels.operator(name, args, options)
            assert found is not None and torch.equal(found, expected)


def test_an_operator_that_would_compute_something_else_is_not_known(kernels: NativeKernels) -> None:
    a_TK = normal(3, 8)
    for name, args, options in (
        ("tanh", (a_TK,), {}),
        ("add", (a_TK, a_TK), {"alpha": 2}),
        ("add", (a_TK, a_TK[:1]), {}),
        ("add", (a_TK, a_TK.bfloat16()), {}),
        ("add", (a_TK, 1.0), {}),
        ("_to_copy", (a_TK,), {"dtype": torch.bfloat16}),
    ):
        assert kernels.operator(name, args, options) is None


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_rows_of_an_embedding_that_is_packed_as_the_head_too_are_its_rows(kernels: NativeKernels, name: str) -> None:
    for num_rows, width in ((1, 2), (16, 8), (37, 62), (300, 64)):
        weight = quantize(normal(num_rows, width), formats()[name])
        rows = torch.arange(num_rows).flip(0)
        expected = weight.codes[rows]
        packed = kernels.prepare(weight)
        found = kernels.operator("index", (packed.codes, [rows]))
        assert found is not None and torch.equal(found, expected)


@pytest.mark.parametrize(("op", "bytes_a_row"), [("peak_fp32", 64), ("peak_bf16", 64), ("peak_int8", 64)])
def test_a_peak_is_measured_by_every_thread(level: str, op: str, bytes_a_row: int) -> None:
    written = torch.full((2, bytes_a_row // 4), math.nan)
    Immediate(pool(level, 2)).call(Work(op, written, (written,), 1, (100,), ()))
    assert not written.view(torch.int32).eq(torch.tensor(math.nan).view(torch.int32)).any()


def test_reading_reads_every_byte(level: str) -> None:
    data, sums = torch.arange(2 * 256, dtype=torch.int32), torch.empty(2, 16, dtype=torch.int32)
    Immediate(pool(level, 2)).call(Work("read_bytes", sums, (sums, data), 1, (1024,), ()))
    assert torch.equal(sums.sum(1), data.view(2, 256).sum(1))
