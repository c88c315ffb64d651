"""Triton's linear: every kernel computes the product of the stored weight; by rule, a row's bits are a row's alone."""

from dataclasses import replace

import pytest
import torch
from triton_kernels import launcher

from farthing.kernels.activations import Rounded
from farthing.kernels.triton.gemm import Tile
from farthing.kernels.triton.gemv import Strip
from farthing.kernels.triton.launch import CHIPS, Chip, Launcher, meta
from farthing.kernels.triton.linear import Library, Plan, by_rule, candidates, linear, supports
from farthing.kernels.triton.quantize import in_halves, write_rows
from farthing.kernels.weight import TORCH_DTYPES, Weight, dequantize, quantize, round_activations
from farthing.quantization.base import formats

FORMATS = ["fp32", "bf16", "fp16", "w8a16", "w4a16", "w4a16-zp", "w8a8", "fp8"]
SHAPES = [(1, 256, 40), (3, 300, 33), (17, 129, 50), (70, 260, 20)]  # rows, K, N
TILE = Tile(16, 32, 128, num_stages=2)


def dtype_of(name: str) -> torch.dtype:
    return TORCH_DTYPES.get(name, torch.bfloat16)


def operands(name: str, rows: int, columns: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows * columns + outputs)
    x_TK, w_NK, bias_N = (
        torch.randn(size, generator=generator) for size in ((rows, columns), (outputs, columns), (outputs,))
    )
    return x_TK.to(dtype_of(name)), w_NK, bias_N.to(dtype_of(name))


def stored(launch: Launcher, w_NK: torch.Tensor, name: str, device: str) -> Weight:
    """As the backend stores it while loading."""
    plain = quantize(w_NK, formats()[name])
    codes, scale_NG, zero_NG = (
        None if one is None else torch.empty_like(one, device=device)
        for one in (plain.codes, plain.scale_NG, plain.zero_NG)
    )
    assert codes is not None
    weight = Weight(plain.format, w_NK.shape[1], codes, scale_NG, zero_NG=zero_NG)
    write_rows(launch, weight, 0, w_NK)
    return weight


def compare(name: str, device: str, shape: tuple[int, int, int], kernel: Tile | Strip) -> None:
    launch, (x_TK, w_NK, bias_N) = launcher(device), operands(name, *shape)
    weight, plain = stored(launch, w_NK, name, device), quantize(w_NK, formats()[name])
    exact = round_activations(x_TK, plain.format).double() @ dequantize(plain, torch.float64).T
    ulp = torch.finfo(x_TK.dtype).eps
    tolerance = float(exact.abs().max() + bias_N.abs().max()) * (2 * ulp if ulp > 1e-5 else 1e-5)
    for bias in (None, bias_N):
        there = None if bias is None else bias.to(device)
        y_TN = linear(launch, x_TK.to(device), weight, there, Plan((), kernel)).cpu()
        assert y_TN.dtype == x_TK.dtype
        expected = exact if bias is None else exact + bias.double()
        assert torch.allclose(y_TN.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_a_tile_computes_the_product_of_the_stored_weight(
    name: str, shape: tuple[int, int, int], splits: int, device: str
) -> None:
    compare(name, device, shape, replace(TILE, splits=splits))


@pytest.mark.parametrize("strip", [Strip(4, 512), Strip(2, 1024), Strip(8, 512, num_warps=8)], ids=str)
@pytest.mark.parametrize("shape", [(1, 512, 24), (1, 1160, 13), (1, 333, 7), (1, 77, 1)], ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_one_row_is_multiplied_without_tiles(name: str, shape: tuple[int, int, int], strip: Strip, device: str) -> None:
    compare(name, device, shape, strip)


@pytest.mark.parametrize("name", FORMATS)
def test_by_rule_a_row_has_the_same_bits_alone_and_in_any_batch(name: str, device: str) -> None:
    """More rows than 64 go through other blocks: those take the parts of K one after the other."""
    launch, (x_TK, w_NK, _) = launcher(device), operands(name, 67, 1030, 20)
    weight = stored(launch, w_NK, name, device)
    tile = by_rule(weight, x_TK.dtype, CHIPS[3]).more
    assert isinstance(tile, Tile) and tile.splits > 1
    plan, x_TK = Plan((), tile), x_TK.to(device)
    whole = linear(launch, x_TK, weight, None, plan)
    for first, count in ((0, 1), (66, 1), (3, 18), (1, 65)):
        part = linear(launch, x_TK[first : first + count].contiguous(), weight, None, plan)
        assert torch.equal(part, whole[first : first + count])


@pytest.mark.parametrize("tile_rows", [16, 64])
@pytest.mark.parametrize("name", ["w8a8", "fp8"])
def test_rows_that_were_rounded_before_are_taken_as_they_are(name: str, tile_rows: int, device: str) -> None:
    """Exactly, but that from 64 rows on matrix units keep some 14 bits of a sum of e4m3 products."""
    launch, (x_TK, w_NK, _) = launcher(device), operands(name, 3, 256, 16)
    weight, plan = stored(launch, w_NK, name, device), Plan((), replace(TILE, rows=tile_rows))
    scale_T = torch.full((3,), 0.5, device=device)
    codes_TK = x_TK.clamp(-1, 1).round().to(weight.codes.dtype).to(device)
    found = linear(launch, Rounded(codes_TK, scale_T, torch.float32), weight, None, plan).cpu()
    expected = (x_TK.clamp(-1, 1).round().double() / 2) @ dequantize(quantize(w_NK, weight.format), torch.float64).T
    is_short = name == "fp8" and tile_rows == 64 and device == "cuda"
    atol = 2e-3 * float(expected.abs().max()) if is_short else 1e-5
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=atol)


def test_no_rows_give_no_rows(device: str) -> None:
    launch, (x_TK, w_NK, _) = launcher(device), operands("bf16", 1, 64, 12)
    weight = stored(launch, w_NK, "bf16", device)
    assert linear(launch, x_TK[:0].to(device), weight, None, Plan((), TILE)).shape == (0, 12)


def test_infinities_and_nan_do_not_reach_other_rows(device: str) -> None:
    launch, (x_TK, w_NK, _) = launcher(device), operands("bf16", 6, 200, 20)
    weight, plan = stored(launch, w_NK, "bf16", device), Plan((), TILE)
    clean = linear(launch, x_TK.to(device), weight, None, plan)
    x_TK[2], x_TK[4] = float("nan"), float("inf")
    poisoned = linear(launch, x_TK.to(device), weight, None, plan)
    assert torch.equal(poisoned[[0, 1, 3, 5]], clean[[0, 1, 3, 5]]) and poisoned[2].isnan().all()


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: f"sm_{chip.capability}")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [(128, 128), (1024, 4096), (4096, 14336), (128_256, 8192), (50, 77)], ids=str)
def test_every_number_of_rows_has_kernels_that_fit_the_chip(name: str, shape: tuple[int, int], chip: Chip) -> None:
    sizes = [meta(*each.shape, dtype=TORCH_DTYPES[each.dtype]) for each in formats()[name].stored(*shape)]
    weight = Weight(formats()[name], shape[1], sizes[0], sizes[1] if len(sizes) > 1 else None)
    assert supports(weight.format, dtype_of(name))
    choices = list(candidates(weight, dtype_of(name), chip))
    assert [limit for limit, _, _ in choices] == [1, 16, 64, None]
    kernels = [by_rule(weight, dtype_of(name), chip).more, *(each for _, _, some in choices for each in some)]
    assert all(0 < len(some) <= 6 for _, _, some in choices)
    for tile in (kernel for kernel in kernels if isinstance(kernel, Tile)):
        x_bytes = 1 if weight.format.activation_bits == 8 else dtype_of(name).itemsize
        assert tile.shared_bytes(weight, x_bytes, chip) <= chip.shared_bytes and tile.splits >= 1


def test_a_plan_takes_the_first_kernel_that_is_good_for_so_many_rows() -> None:
    plan = Plan(((1, Strip(4, 512)), (16, TILE)), Library())
    assert [plan.kernel(rows) for rows in (1, 2, 16, 17)] == [Strip(4, 512), TILE, TILE, Library()]


def test_formats_without_kernels_are_told_apart() -> None:
    known = {name for name, weight_format in formats().items() if supports(weight_format, torch.bfloat16)}
    assert known == {"bf16", "w8a16", "w4a16", "w4a16-zp", "w8a8", "fp8"}
    assert {name for name in formats() if in_halves(formats()[name])} == {"w4a16", "w4a16-zp"}
