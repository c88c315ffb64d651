"""Rounded on the device: weights and activations get the codes and scales that kernels/weight.py gives, to the bit."""

import pytest
import torch
from triton_kernels import launcher

from farthing.kernels.activations import Activations, Rounded
from farthing.kernels.triton.activations import round_rows
from farthing.kernels.triton.halves import to_halves, to_pairs
from farthing.kernels.triton.norms import add_norm
from farthing.kernels.triton.quantize import in_halves, write_rows
from farthing.kernels.triton.swiglu import silu_mul
from farthing.kernels.weight import Weight, quantize, round_activations
from farthing.quantization.base import WeightFormat, formats

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def spread(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows of very different size, some of them zeros."""
    x = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))
    x *= 10 ** torch.linspace(-4, 2, rows)[:, None]
    x[0], x[-1, : columns // 2] = 0, 0
    return x.to(dtype)


def written(w_NK: torch.Tensor, weight_format: WeightFormat, device: str, pieces: int = 1) -> Weight:
    plain = quantize(w_NK, weight_format)
    scale_NG = None if plain.scale_NG is None else torch.full_like(plain.scale_NG, 3, device=device)
    zero_NG = None if plain.zero_NG is None else torch.full_like(plain.zero_NG, 3, device=device)
    codes = torch.ones_like(plain.codes, device=device)
    weight = Weight(weight_format, w_NK.shape[1], codes, scale_NG, zero_NG=zero_NG)
    rows = -(-w_NK.shape[0] // pieces)
    for first in range(0, w_NK.shape[0], rows):
        write_rows(launcher(device), weight, first, w_NK[first : first + rows])
    if in_halves(weight_format):
        to_pairs(weight)
    return weight


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(33, 256), (5, 300), (3, 77), (1, 1)], ids=str)
@pytest.mark.parametrize("name", ["bf16", "w8a16", "w4a16", "w4a16-zp", "fp8"])
def test_written_rows_are_the_quantized_matrix(
    name: str, shape: tuple[int, int], dtype: torch.dtype, device: str
) -> None:
    w_NK = spread(*shape, dtype)
    expected = quantize(w_NK, formats()[name])
    for pieces in (1, 2):
        found = written(w_NK, formats()[name], device, pieces)
        assert torch.equal(found.codes.cpu().view(torch.uint8), expected.codes.view(torch.uint8))
        if expected.scale_NG is not None and found.scale_NG is not None:
            assert torch.equal(found.scale_NG.cpu(), expected.scale_NG)
        if expected.zero_NG is not None:
            assert found.zero_NG is not None and torch.equal(found.zero_NG.cpu(), expected.zero_NG)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_show_in_the_scales(poison: float, device: str) -> None:
    w_NK = torch.ones(20, 256)
    w_NK[17, 140] = poison
    scale_NG = written(w_NK, formats()["w4a16"], device).scale_NG
    assert scale_NG is not None and (~scale_NG.isfinite()).nonzero().tolist() == [[17, 1]]


@pytest.mark.parametrize("columns", [1, 2, 3, 127, 128, 129, 255, 256, 300])
def test_halves_hold_the_columns_of_a_group_and_can_be_undone(columns: int) -> None:
    weight = quantize(spread(4, columns, torch.float32), formats()["w4a16"])
    before = weight.codes.clone()
    to_halves(weight)
    nibbles = torch.stack((before & 15, before >> 4), -1).flatten(1)
    for group in range(0, columns, 128):
        stored = weight.codes[:, group // 2 : group // 2 + 64]
        assert torch.equal(torch.cat((stored & 15, stored >> 4), 1), nibbles[:, group : group + 128])
    to_pairs(weight)
    assert torch.equal(weight.codes, before)


def back(rounded: Activations) -> torch.Tensor:
    assert isinstance(rounded, Rounded)
    return rounded.codes_TK.float() * rounded.scale_T[:, None]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [1, 77, 256, 1000])
@pytest.mark.parametrize("name", ["w8a8", "fp8"])
def test_rounded_activations_are_those_of_the_format(name: str, columns: int, dtype: torch.dtype, device: str) -> None:
    x_TK = spread(9, columns, dtype)
    found = back(round_rows(launcher(device), x_TK.to(device), formats()[name])).cpu()
    assert torch.equal(found, round_activations(x_TK, formats()[name]))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["w8a8", "fp8"])
def test_a_row_that_is_not_finite_is_none_in_8_bits_either(name: str, poison: float, device: str) -> None:
    x_TK = torch.ones(3, 200)
    x_TK[1, 7] = poison
    rounded = round_rows(launcher(device), x_TK.to(device), formats()[name])
    assert rounded.scale_T.isfinite().tolist() == [True, False, True]


def test_every_fp8_number_and_the_middle_between_two_is_rounded_as_torch_does(device: str) -> None:
    numbers = torch.arange(0, 127, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    middles = (numbers[1:] + numbers[:-1]) / 2
    x_K = torch.cat((numbers, middles, middles.nextafter(numbers[1:]), middles.nextafter(numbers[:-1])))
    x_TK = torch.stack((x_K, -x_K))
    found = round_rows(launcher(device), x_TK.to(device), formats()["fp8"])
    assert found.scale_T.tolist() == [1.0, 1.0]  # the largest is 448
    assert torch.equal(found.codes_TK.cpu().float(), x_TK.to(torch.float8_e4m3fn).float())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["w8a8", "fp8"])
def test_norms_and_swiglu_are_rounded_as_they_leave(name: str, dtype: torch.dtype, device: str) -> None:
    """To the codes of what leaves them without rounding."""
    weight_format, x_TK, added_TK = formats()[name], spread(6, 200, dtype), spread(6, 200, dtype).flip(0)
    launch, x_TK, added_TK, weight_K = launcher(device), *(x.to(device) for x in (x_TK, added_TK, torch.rand(200)))
    weight_K = weight_K.to(dtype)
    for added in (None, added_TK):
        sum_TK, found = add_norm(launch, x_TK, added, weight_K, 1e-5, weight_format)
        plain_sum_TK, plain_TK = add_norm(launch, x_TK, added, weight_K, 1e-5, None)
        assert isinstance(plain_TK, torch.Tensor) and torch.equal(sum_TK, plain_sum_TK)
        assert torch.equal(back(found).cpu(), round_activations(plain_TK.cpu(), weight_format))
    plain_TK = silu_mul(launch, x_TK, added_TK, None)
    assert isinstance(plain_TK, torch.Tensor)
    rounded = silu_mul(launch, x_TK, added_TK, weight_format)
    assert torch.equal(back(rounded).cpu(), round_activations(plain_TK.cpu(), weight_format))
