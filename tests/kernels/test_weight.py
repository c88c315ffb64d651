"""Writing and reading a stored weight: every format within half a step of what went in, whatever the sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from farthing.kernels.weight import TORCH_DTYPES, dequantize, quantize, round_activations
from farthing.quantization.base import DTYPE_BYTES, WeightFormat, formats

EVERY_FORMAT = pytest.mark.parametrize("weight_format", formats().values(), ids=lambda found: found.name)
QUANTIZED = [found for found in formats().values() if found.quantized]
EVERY_QUANTIZED = pytest.mark.parametrize("weight_format", QUANTIZED, ids=lambda found: found.name)
INTEGERS = [found for found in QUANTIZED if found.storage != "fp8_e4m3"]
FOUR_BITS = [found for found in QUANTIZED if found.bits == 4]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def largest_error(w_NK: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """What rounding may cost each weight: half the distance of the numbers that the format has around it."""
    if not weight_format.quantized:
        info = torch.finfo(TORCH_DTYPES[weight_format.storage])
        return torch.clamp(w_NK.abs(), min=info.smallest_normal) * info.eps / 2
    scale_NG = quantize(w_NK, weight_format).scale_NG
    assert scale_NG is not None
    group = weight_format.group_size or w_NK.shape[1]
    step_NK = scale_NG.float().abs().repeat_interleave(group, dim=1)[:, : w_NK.shape[1]]
    if weight_format.storage == "fp8_e4m3":  # 3 bits behind the point; below 2^-6, steps of 2^-9
        return torch.maximum(w_NK.abs() / 16, step_NK / 2**10)
    return step_NK * 2 if weight_format.bits == 4 else step_NK / 2  # -8..7 may cut off 9, for the good of the group


@EVERY_FORMAT
@pytest.mark.parametrize("shape", [(4, 256), (3, 1), (5, 129), (1, 127), (7, 300), (2, 128)], ids=str)
def test_a_weight_comes_back_as_near_as_the_format_can(weight_format: WeightFormat, shape: tuple[int, int]) -> None:
    w_NK = normal(*shape) * 10.0 ** torch.arange(-3, shape[0] - 3)[:, None]  # rows of very different magnitude
    found_NK = dequantize(quantize(w_NK, weight_format))
    assert found_NK.shape == shape and found_NK.dtype == torch.float32
    assert ((found_NK - w_NK).abs() <= largest_error(w_NK, weight_format) * 1.0001).all()


@given(st.sampled_from(INTEGERS), st.integers(1, 300), st.integers(1, 5), st.integers(0, 2**32), st.floats(1e-20, 1e20))
def test_no_matrix_of_any_size_and_magnitude_loses_more_than_that(
    weight_format: WeightFormat, inputs: int, outputs: int, seed: int, magnitude: float
) -> None:
    w_NK = normal(outputs, inputs, seed=seed) * magnitude
    error_NK = (dequantize(quantize(w_NK, weight_format)) - w_NK).abs()
    assert (error_NK <= largest_error(w_NK, weight_format) * 1.0001).all()


@given(st.sampled_from(FOUR_BITS), st.integers(1, 300), st.integers(0, 2**32), st.floats(1e-12, 1e12))
def test_four_bits_lose_no_more_than_with_the_largest_magnitude_as_the_largest_code(
    weight_format: WeightFormat, inputs: int, seed: int, magnitude: float
) -> None:
    w_NK = normal(3, inputs, seed=seed) * magnitude
    group = weight_format.group_size or inputs
    padded_NGg = torch.nn.functional.pad(w_NK, (0, -inputs % group)).unflatten(1, (-1, group))
    scale_NG1 = (padded_NGg.abs().amax(-1, keepdim=True) / 7).bfloat16().float()
    plain_NK = ((padded_NGg / scale_NG1.clamp(min=1e-30)).round().clamp(-7, 7) * scale_NG1).flatten(1)[:, :inputs]
    found_NK = dequantize(quantize(w_NK, weight_format))
    assert (found_NK - w_NK).square().sum() <= (plain_NK - w_NK).square().sum() * 1.0001


@pytest.mark.parametrize("weight_format", FOUR_BITS, ids=lambda found: found.name)
def test_four_bits_use_all_sixteen_codes(weight_format: WeightFormat) -> None:
    codes = quantize(normal(16, 1024), weight_format).codes
    assert set((codes & 15).unique().tolist()) == set((codes >> 4).unique().tolist()) == set(range(16))


@EVERY_FORMAT
@pytest.mark.parametrize("shape", [(4, 256), (3, 1), (5, 129), (7, 300)], ids=str)
def test_the_described_bytes_are_those_of_the_tensors(weight_format: WeightFormat, shape: tuple[int, int]) -> None:
    weight = quantize(normal(*shape), weight_format)
    tensors = [tensor for tensor in (weight.codes, weight.scale_NG, weight.zero_NG) if tensor is not None]
    described = weight_format.stored(*shape)
    assert [tuple(tensor.shape) for tensor in tensors] == [tensor.shape for tensor in described]
    assert [tensor.dtype for tensor in tensors] == [TORCH_DTYPES[tensor.dtype] for tensor in described]
    assert [tensor.nbytes for tensor in tensors] == [tensor.num_bytes for tensor in described]
    assert weight_format.nbytes(*shape) == sum(tensor.nbytes for tensor in tensors)


def test_every_dtype_of_the_description_has_its_torch_dtype() -> None:
    assert {name: dtype.itemsize for name, dtype in TORCH_DTYPES.items()} == DTYPE_BYTES


@EVERY_FORMAT
def test_zeros_come_back_as_zeros_beside_rows_that_are_not(weight_format: WeightFormat) -> None:
    w_NK = normal(6, 300)
    w_NK[1], w_NK[4, 128:256] = 0, 0
    found_NK = dequantize(quantize(w_NK, weight_format))
    assert not found_NK[1].any() and not found_NK[4, 128:256].any()
    assert found_NK[0].any() and found_NK.isfinite().all()


@EVERY_QUANTIZED
def test_a_row_is_rounded_by_itself(weight_format: WeightFormat) -> None:
    w_NK = normal(5, 200)
    together = dequantize(quantize(w_NK, weight_format))
    assert torch.equal(dequantize(quantize(w_NK[2:3], weight_format))[0], together[2])


@EVERY_QUANTIZED
def test_weights_that_are_not_finite_show_in_the_scales(weight_format: WeightFormat) -> None:
    for poison in (float("nan"), float("inf"), -float("inf")):
        w_NK = normal(3, 40)
        w_NK[1, 7] = poison
        scale_NG = quantize(w_NK, weight_format).scale_NG
        assert scale_NG is not None
        assert not scale_NG[1].isfinite().all() and scale_NG[[0, 2]].isfinite().all()


def test_four_bits_are_packed_with_the_even_column_in_the_low_half() -> None:
    weight = quantize(torch.tensor([[-7.0, -1.0, 0.0, 3.0, 7.0]]), formats()["w4a16"])
    assert weight.codes.tolist() == [[15 | 9 << 4, 8 | 5 << 4, 1]]  # 7 became -7, under a negative scale
    assert weight.scale_NG is not None and weight.scale_NG.tolist() == [[-1.0]]


def test_zero_points_are_better_where_a_group_leans_to_one_side() -> None:
    w_NK = normal(8, 512) + 2
    errors = [(dequantize(quantize(w_NK, formats()[name])) - w_NK).square().mean() for name in ("w4a16", "w4a16-zp")]
    assert errors[1] < 0.6 * errors[0]
    weight = quantize(torch.tensor([[-3.0, 0.0, 4.5, 12.0]]), formats()["w4a16-zp"])
    assert weight.scale_NG is not None and weight.scale_NG.tolist() == [[1.0]]
    assert weight.zero_NG is not None and weight.zero_NG.tolist() == [[3]]
    assert weight.codes.tolist() == [[0 | 3 << 4, 7 | 15 << 4]]  # 4.5 became 4


def test_each_group_of_columns_has_a_scale_of_its_own() -> None:
    w_NK = torch.full((1, 257), 0.7)
    w_NK[0, 128:256], w_NK[0, 256] = 70.0, -0.07
    weight = quantize(w_NK, formats()["w4a16"])
    assert weight.scale_NG is not None and weight.scale_NG.shape == (1, 3)
    assert torch.allclose(dequantize(weight), w_NK, rtol=1e-2)


@EVERY_FORMAT
def test_activations_of_16_bits_pass_and_those_of_8_are_rounded_row_by_row(weight_format: WeightFormat) -> None:
    x_TK = normal(5, 77) * torch.tensor([1e-6, 1.0, 0.0, 1e4, 300.0])[:, None]
    rounded_TK = round_activations(x_TK, weight_format)
    if weight_format.activation_bits == 16:
        assert rounded_TK is x_TK
        return
    step_T1 = x_TK.abs().amax(-1, keepdim=True) / (448 if weight_format.math == "fp8" else 127)
    half_TK = torch.maximum(x_TK.abs() / 16, step_T1 / 2**10) if weight_format.math == "fp8" else step_T1 / 2
    assert ((rounded_TK - x_TK).abs() <= half_TK * 1.001 + 1e-12).all()
    assert torch.equal(round_activations(x_TK[3:4], weight_format)[0], rounded_TK[3])
