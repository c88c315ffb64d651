"""Weights written by the native kernels, of every level, are bit for bit those that are rounded by torch and packed."""

import math

import pytest
import torch

from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.native.compiler import LEVELS, best_level, compiled
from farthing.kernels.native.library import Pool
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import Weight, quantize
from farthing.quantization.base import formats

NATIVE = ["fp32", "bf16", "w8a8", "w4a8", "w4a8-g64", "w4a8-g128"]
SHAPES = [(16, 32), (5, 8), (33, 200), (100, 1048)]  # N, K: last panels and groups that are not whole
HERE = list(LEVELS)[list(LEVELS).index(best_level()) :]


@pytest.fixture(scope="module", params=HERE)
def pool(request: pytest.FixtureRequest) -> Pool:
    return Pool(compiled(request.param), 2)


def written(pool: Pool, w_NK: torch.Tensor, name: str, *, pieces: bool) -> Weight:
    kernels, plain = NativeKernels(pool, "x"), quantize(w_NK, formats()[name])
    scale_NG = None if plain.scale_NG is None else torch.full_like(plain.scale_NG, 3)
    weight = Weight(plain.format, w_NK.shape[1], torch.full_like(plain.codes, 1), scale_NG)
    middle = 16 if pieces and w_NK.shape[0] > 16 else 0
    if middle:
        kernels.write_rows(weight, 0, w_NK[:middle])
    kernels.write_rows(weight, middle, w_NK[middle:])
    return kernels.prepare(weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NATIVE)
def test_written_rows_are_the_quantized_matrix_packed(
    name: str, shape: tuple[int, int], dtype: torch.dtype, pool: Pool
) -> None:
    w_NK = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    w_NK = (w_NK * 10 ** torch.linspace(-3, 2, shape[0])[:, None]).to(dtype)
    w_NK[0, :8], w_NK[-1] = 0, 0
    rounded = quantize(w_NK, formats()[name])
    packed = NativeKernels(pool, "x").prepare(Weight(rounded.format, shape[1], rounded.codes.clone(), rounded.scale_NG))
    for pieces in (False, True):
        found = written(pool, w_NK, name, pieces=pieces)
        assert found.packed and torch.equal(found.codes.view(torch.uint8), packed.codes.view(torch.uint8))
        assert found.scale_NG is None or torch.equal(found.scale_NG, packed.scale_NG)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["w8a8", "w4a8"])
def test_weights_that_are_not_finite_show_in_the_scales(name: str, poison: float, pool: Pool) -> None:
    w_NK = torch.ones(20, 64)
    w_NK[17, 40] = poison
    scale_NG = written(pool, w_NK, name, pieces=False).scale_NG
    assert scale_NG is not None and int((~scale_NG.isfinite()).sum()) == 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_writing_plain_rows_tells_their_largest_magnitude(name: str, shape: tuple[int, int], pool: Pool) -> None:
    w_NK = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    plain = quantize(w_NK, formats()[name])
    largest = float(plain.codes.abs().max())
    for kernels in (NativeKernels(pool, "x"), ReferenceKernels()):
        weight = Weight(plain.format, shape[1], torch.full_like(plain.codes, 1))
        assert kernels.write_rows(weight, 0, w_NK) == largest


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["fp32", "bf16", "w8a8", "w4a8"])
def test_writing_rows_that_are_not_finite_tells_so_wherever_they_are(name: str, poison: float, pool: Pool) -> None:
    for row, column in ((0, 0), (16, 7), (19, 63)):
        w_NK = torch.ones(20, 64)
        w_NK[row, column] = poison
        for kernels in (NativeKernels(pool, "x"), ReferenceKernels()):
            rounded = quantize(w_NK, formats()[name])
            weight = Weight(rounded.format, 64, rounded.codes, rounded.scale_NG)
            assert not math.isfinite(kernels.write_rows(weight, 0, w_NK))
