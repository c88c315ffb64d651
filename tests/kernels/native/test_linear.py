"""Products over packed weights: those of the reference, exact where they are integers, and rows that stand alone."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from native_kernels import levels_here, native, pool, weight_formats

from farthing.kernels.native.backend import NativeKernels, supports
from farthing.kernels.native.recorder import Immediate, Work
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import Weight, quantize, round_activations
from farthing.quantization.base import WeightFormat, formats

REFERENCE = ReferenceKernels()
DTYPES = [torch.float32, torch.bfloat16]
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1.2e-2}  # of the largest value


def named(value: object) -> str:
    """A format with the size of its groups."""
    return f"{value.name}-{value.group_size or 0}" if isinstance(value, WeightFormat) else str(value)


FORMATS = [(dtype, weight_format) for dtype in DTYPES for weight_format in weight_formats(dtype)]
EACH_FORMAT = pytest.mark.parametrize(("dtype", "weight_format"), FORMATS, ids=named)
VALUES = {32: 1, 16: 2, 8: 4, 4: 8}  # by bits, what columns come in multiples of
OUTPUTS = (1, 7, 16, 33, 70, 130, 300)
WORDS = (1, 3, 17, 65, 140)  # columns by VALUES: ragged last groups of 4 bits, and more than one block of a sum
COUNTS = (1, 2, 5, 6, 7, 13, 40, 150)
MAX_ROWS = 150


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def matrix(num_outputs: int, columns: int, weight_format: WeightFormat) -> Weight:
    w_NK = normal(num_outputs, columns, seed=num_outputs * 10_000 + columns) * 0.1
    return quantize(w_NK, weight_format)


def copied(weight: Weight) -> Weight:
    """`prepare` packs in place."""
    return replace(
        weight, codes=weight.codes.clone(), scale_NG=None if weight.scale_NG is None else weight.scale_NG.clone()
    )


def shapes(weight_format: WeightFormat, level: str) -> list[tuple[int, int]]:
    """Outputs and columns; fewer on plain C++, which is slow."""
    every = [(outputs, words * VALUES[weight_format.bits]) for outputs, words in product(OUTPUTS, WORDS)]
    return every[:: 4 if level == "portable" else 1]


@EACH_FORMAT
def test_products_are_those_of_the_reference(
    kernels: NativeKernels, level: str, dtype: torch.dtype, weight_format: WeightFormat
) -> None:
    for num_outputs, columns in shapes(weight_format, level):
        weight, x_TK = matrix(num_outputs, columns, weight_format), normal(MAX_ROWS, columns, seed=1, dtype=dtype)
        bias_N = normal(num_outputs, seed=2, dtype=dtype)
        expected = REFERENCE.linear(x_TK, weight), REFERENCE.linear(x_TK, weight, bias_N)
        atol = TOLERANCES[dtype] * float(expected[1].abs().max())
        packed = kernels.prepare(copied(weight))
        for count in COUNTS:
            for biased, bias in ((0, None), (1, bias_N)):
                found = kernels.linear(x_TK[:count], packed, bias)
                assert found.dtype == dtype and found.shape == (count, num_outputs)
                assert torch.allclose(found.float(), expected[biased][:count].float(), rtol=0, atol=atol)


@EACH_FORMAT
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_a_row_is_bit_equal_whatever_else_is_in_the_batch(
    level: str, num_threads: int, dtype: torch.dtype, weight_format: WeightFormat
) -> None:
    alone, crowded = native(level, 1), native(level, num_threads)
    for num_outputs, words in [(130, 70)] if level == "portable" else [(300, 70), (33, 140), (7, 17)]:
        columns = words * VALUES[weight_format.bits]
        packed = alone.prepare(matrix(num_outputs, columns, weight_format))
        x_TK, bias_N = normal(MAX_ROWS + 1, columns, seed=1, dtype=dtype), normal(num_outputs, seed=2, dtype=dtype)
        rows = torch.cat([alone.linear(x_TK[row : row + 1], packed, bias_N) for row in range(MAX_ROWS + 1)])
        for count in (*range(1, 41), 150):
            for first in (0, 1):  # rows that share a batch stand at another place in it
                found = crowded.linear(x_TK[first : first + count], packed, bias_N)
                assert torch.equal(found, rows[first : first + count])


@pytest.mark.parametrize("weight_format", weight_formats(torch.float32)[1:], ids=named)
def test_integer_products_are_the_same_bits_on_every_level(weight_format: WeightFormat) -> None:
    for num_outputs, words in ((33, 17), (130, 65)):
        weight = matrix(num_outputs, words * VALUES[weight_format.bits], weight_format)
        x_TK = normal(13, weight.in_features, seed=1)
        found = []
        for level in levels_here():
            kernels = native(level)
            found.append(kernels.linear(x_TK, kernels.prepare(copied(weight))))
        assert all(torch.equal(other, found[0]) for other in found)


def test_8_bit_products_are_exact_integers_scaled(kernels: NativeKernels) -> None:
    """Also of the largest codes there are, whose pairs would not fit 16 bits."""
    codes_NK = torch.where(normal(33, 520) > 0, 127, -127).to(torch.int8)
    codes_NK[:, :8] = 127
    weight = Weight(formats()["w8a8"], 520, codes_NK, torch.full((33, 1), 0.5))
    x_TK = torch.where(normal(7, 520, seed=1) > 0, 127.0, -127.0)
    x_TK[:, :8] = 127.0
    expected = x_TK.double() @ codes_NK.double().T * 0.5
    assert torch.equal(kernels.linear(x_TK, kernels.prepare(weight)).double(), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("columns", "group_size"), [(4, 4), (36, 36), (136, 32), (520, 128), (64, 64)])
def test_rows_are_rounded_to_the_codes_of_the_reference(
    level: str, dtype: torch.dtype, columns: int, group_size: int
) -> None:
    x_TK = normal(9, columns, dtype=dtype)
    x_TK[3] = 0.0
    groups = -(-columns // group_size)
    codes_TK, scale_T = torch.empty(9, columns, dtype=torch.int8), torch.empty(9)
    sums_TG = torch.empty(9, groups, dtype=torch.int32)
    suffix = "fp32" if dtype == torch.float32 else "bf16"
    operands = (codes_TK, scale_T, sums_TG, x_TK)
    Immediate(pool(level, 2)).call(Work(f"quantize_rows_{suffix}", x_TK, operands, 3, (columns, group_size), ()))
    assert torch.equal(codes_TK.float() * scale_T[:, None], round_activations(x_TK, formats()["w8a8"]))
    padded_TK = torch.nn.functional.pad(codes_TK.int(), (0, groups * group_size - columns))
    assert torch.equal(sums_TG, padded_TK.unflatten(1, (groups, group_size)).sum(-1, dtype=torch.int32))


@EACH_FORMAT
def test_a_packed_weight_keeps_its_place_and_its_size_and_can_be_read_back(
    level: str, dtype: torch.dtype, weight_format: WeightFormat
) -> None:
    for num_outputs in (1, 16, 39):
        weight = matrix(num_outputs, 17 * VALUES[weight_format.bits], weight_format)
        before = copied(weight)
        packed = native(level).prepare(weight)
        assert packed.codes is weight.codes and packed.scale_NG is weight.scale_NG
        rows_NK = torch.empty_like(packed.codes)
        words, kind = packed.codes.shape[1] * packed.codes.element_size() // 4, {8: 1, 4: 2}.get(weight_format.bits, 0)
        operands, sizes = (rows_NK, packed.codes), (words, num_outputs, kind)
        Immediate(pool(level, 2)).call(Work("unpack", rows_NK, operands, 1, sizes, ()))
        assert torch.equal(rows_NK, before.codes)


def test_a_weight_is_packed_once_however_often_it_is_prepared(kernels: NativeKernels) -> None:
    """A tied head and the embedding are one matrix."""
    weight = matrix(40, 64, formats()["fp32"])
    x_TK, expected = normal(3, 64), REFERENCE.linear(normal(3, 64), copied(weight))
    for prepared in (kernels.prepare(weight), kernels.prepare(weight), kernels.prepare(kernels.prepare(weight))):
        assert torch.allclose(kernels.linear(x_TK, prepared), expected, rtol=0, atol=1e-5)


@EACH_FORMAT
def test_rows_of_infinities_and_nan_do_not_reach_their_neighbours(
    kernels: NativeKernels, dtype: torch.dtype, weight_format: WeightFormat
) -> None:
    packed, x_TK = kernels.prepare(matrix(20, 48, weight_format)), normal(6, 48, dtype=dtype)
    clean = kernels.linear(x_TK.clone(), packed)
    x_TK[2, 5], x_TK[4, 7] = float("nan"), float("inf")
    poisoned = kernels.linear(x_TK, packed)
    assert torch.equal(poisoned[[0, 1, 3, 5]], clean[[0, 1, 3, 5]])
    assert poisoned[2].isnan().all() and not poisoned[4].isfinite().any()


@EACH_FORMAT
def test_no_rows_give_no_rows(kernels: NativeKernels, dtype: torch.dtype, weight_format: WeightFormat) -> None:
    packed = kernels.prepare(matrix(20, 48, weight_format))
    assert kernels.linear(torch.empty(0, 48, dtype=dtype), packed).shape == (0, 20)


def test_a_zero_weight_and_a_zero_row_give_zeros(kernels: NativeKernels) -> None:
    for weight_format in weight_formats(torch.float32):
        packed = kernels.prepare(quantize(torch.zeros(20, 48), weight_format))
        assert torch.equal(kernels.linear(normal(2, 48), packed), torch.zeros(2, 20))
        packed = kernels.prepare(matrix(20, 48, weight_format))
        assert torch.equal(kernels.linear(torch.zeros(2, 48), packed), torch.zeros(2, 20))


@pytest.mark.parametrize(
    ("name", "dtype", "columns", "expected"),
    [
        ("fp32", "fp32", 7, True),
        ("fp32", "bf16", 8, False),
        ("bf16", "bf16", 6, True),
        ("bf16", "bf16", 7, False),
        ("w8a8", "bf16", 12, True),
        ("w8a8", "fp32", 10, False),
        ("w4a8", "fp32", 24, True),
        ("w4a8", "fp32", 20, False),
        ("w8a8", "fp16", 12, False),
        ("w8a16", "bf16", 64, False),
        ("fp16", "fp16", 64, False),
    ],
)
def test_which_matrices_there_are_kernels_for(name: str, dtype: str, columns: int, expected: bool) -> None:
    assert supports(name, dtype, columns) == expected
