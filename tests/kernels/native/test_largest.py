"""The largest logit of each row: of equals the first, and a row that is not sound is told by it."""

import math

import pytest
import torch

from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.reference import ReferenceKernels

REFERENCE = ReferenceKernels()


@pytest.mark.parametrize("vocab_size", [1, 5, 16, 17, 64, 1031])
def test_the_largest_and_its_first_place_are_those_of_the_reference(kernels: NativeKernels, vocab_size: int) -> None:
    generator = torch.Generator().manual_seed(vocab_size)
    logits_RV = torch.randint(-9, 9, (12, vocab_size), generator=generator).float()  # many equals
    top_R, token_R = kernels.largest(logits_RV)
    expected_R, _ = REFERENCE.largest(logits_RV)
    assert torch.equal(top_R, expected_R)
    assert torch.equal(token_R, (logits_RV == expected_R[:, None]).int().argmax(-1))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 3, 16, 40])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(
    kernels: NativeKernels, value: float, place: int
) -> None:
    logits_RV = torch.arange(2 * 41, dtype=torch.float32).view(2, 41)
    logits_RV[0, place] = value
    found, expected = kernels.largest(logits_RV), REFERENCE.largest(logits_RV)
    assert torch.equal(found[1], expected[1])
    assert torch.allclose(found[0], expected[0], equal_nan=True)


def test_a_row_of_minus_infinity_has_it_as_its_largest(kernels: NativeKernels) -> None:
    top_R, token_R = kernels.largest(torch.full((1, 33), -math.inf))
    assert (top_R.tolist(), token_R.tolist()) == ([-math.inf], [0])
