"""Linear: a row's sum is a function of that row alone, bit by bit; the vendor's product agrees to tolerance."""

from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
from native_kernels import native

from farthing.kernels.native.backend import supports
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels
from farthing.kernels.weight import TORCH_DTYPES, dequantize, quantize, round_activations
from farthing.quantization.base import formats

REFERENCE, VENDOR = ReferenceKernels(), VendorKernels()
SHAPES = [(2048, 2048), (64, 96), (60, 100), (33, 7), (1, 5), (100, 1), (2049, 63), (64, 4000)]  # K, N
COUNTS = (2, 7, 8, 9, 16, 24, 40)
MAX_ROWS = 41


@pytest.fixture(autouse=True)
def number_of_threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def operands(name: str, inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and a matrix; the rows in the activation dtype of the format."""
    generator = torch.Generator().manual_seed(inputs * 10_000 + outputs)
    x_TK = torch.randn(MAX_ROWS, inputs, generator=generator)
    return x_TK.to(TORCH_DTYPES.get(name, torch.bfloat16)), torch.randn(outputs, inputs, generator=generator)


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize(("inputs", "outputs"), SHAPES)
def test_a_row_is_bit_equal_whatever_the_batch(name: str, inputs: int, outputs: int) -> None:
    x_TK, w_NK = operands(name, inputs, outputs)
    weight = quantize(w_NK, formats()[name])
    alone = torch.cat([REFERENCE.linear(x_TK[row : row + 1], weight) for row in range(MAX_ROWS)])
    for count in COUNTS:
        for first in (0, 1):  # rows that share a batch stand at another place in it
            assert torch.equal(REFERENCE.linear(x_TK[first : first + count], weight), alone[first : first + count])


@pytest.mark.parametrize("name", ["fp32", "bf16"])
@pytest.mark.parametrize(("inputs", "outputs"), [(2048, 2048), (60, 100)])
def test_a_row_is_bit_equal_with_two_threads_as_well(name: str, inputs: int, outputs: int) -> None:
    torch.set_num_threads(2)
    x_TK, w_NK = operands(name, inputs, outputs)
    weight = quantize(w_NK, formats()[name])
    alone = torch.cat([REFERENCE.linear(x_TK[row : row + 1], weight) for row in range(9)])
    for count in (2, 7, 8, 9):
        assert torch.equal(REFERENCE.linear(x_TK[:count], weight), alone[:count])


@pytest.mark.parametrize("count", range(1, 41))
def test_every_number_of_rows_gives_the_row_that_one_gives(count: int) -> None:
    x_TK, w_NK = operands("fp32", 100, 37)
    weight = quantize(w_NK, formats()["fp32"])
    last_alone = REFERENCE.linear(x_TK[count - 1 : count], weight)[0]
    assert torch.equal(REFERENCE.linear(x_TK[:count], weight)[-1], last_alone)


@pytest.mark.parametrize("name", sorted(formats()))
@pytest.mark.parametrize(("inputs", "outputs"), [(96, 64), (200, 33), (1, 3), (129, 5)])
def test_quantized_rows_are_bit_equal_whatever_the_batch(name: str, inputs: int, outputs: int) -> None:
    x_TK, w_NK = operands(name, inputs, outputs)
    weight = quantize(w_NK, formats()[name])
    alone = torch.cat([REFERENCE.linear(x_TK[row : row + 1], weight) for row in range(MAX_ROWS)])
    for count in COUNTS:
        assert torch.equal(REFERENCE.linear(x_TK[1 : 1 + count], weight), alone[1 : 1 + count])


PRODUCTS = list(product(sorted(formats()), [(1, 96, 64), (7, 60, 100), (9, 129, 33), (33, 1, 3)]))


@pytest.mark.parametrize(
    ("backend", "name", "shape"),
    [(backend, *row) for backend in (ReferenceKernels, VendorKernels) for row in PRODUCTS]
    + [(native, *row) for row in PRODUCTS if supports(row[0], "fp32" if row[0] == "fp32" else "bf16", row[1][1])],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_product_is_that_of_the_stored_weight_in_float64(
    backend: Callable[[], ReferenceKernels], name: str, shape: tuple[int, int, int]
) -> None:
    kernels, (count, inputs, outputs) = backend(), shape
    x_TK, w_NK = operands(name, inputs, outputs)
    x_TK = x_TK[:count]
    weight, bias_N = quantize(w_NK, formats()[name]), w_NK[:, 0].to(x_TK.dtype).contiguous()
    exact = round_activations(x_TK, weight.format).double() @ dequantize(weight, torch.float64).T
    largest, ulp = exact.abs().max() + bias_N.abs().max(), torch.finfo(x_TK.dtype).eps
    tolerance = float(largest) * (4 * ulp if ulp > 1e-5 else 1e-5)
    weight = kernels.prepare(weight)
    plain, biased = kernels.linear(x_TK, weight), kernels.linear(x_TK, weight, bias_N)
    assert plain.dtype == x_TK.dtype and plain.shape == (count, outputs)
    assert torch.allclose(plain.double(), exact, rtol=0, atol=tolerance)
    assert torch.allclose(biased.double(), exact + bias_N.double(), rtol=0, atol=tolerance)


def test_no_rows_give_no_rows() -> None:
    x_TK, w_NK = operands("fp32", 16, 12)
    for kernels in (REFERENCE, VENDOR):
        assert kernels.linear(x_TK[:0], quantize(w_NK, formats()["fp32"])).shape == (0, 12)


def test_rows_of_infinities_and_nan_do_not_reach_their_neighbours() -> None:
    x_TK, w_NK = operands("fp32", 48, 20)
    weight = quantize(w_NK, formats()["fp32"])
    clean = REFERENCE.linear(x_TK[:6], weight)
    x_TK[2], x_TK[4] = float("nan"), float("inf")
    poisoned = REFERENCE.linear(x_TK[:6], weight)
    assert torch.equal(poisoned[[0, 1, 3, 5]], clean[[0, 1, 3, 5]]) and poisoned[2].isnan().all()


def test_the_backends_say_whether_they_keep_the_promise() -> None:
    assert REFERENCE.batch_invariant and not VENDOR.batch_invariant
