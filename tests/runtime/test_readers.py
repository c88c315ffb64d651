"""Matrices that read the same rows are one product where a backend wants that, and the model computes the same."""

from pathlib import Path

import pytest
import torch
from tiny_models import CASES, Loaded, load, make_reference, save_reference

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import dequantize, joined, quantize, together
from farthing.quantization.base import formats
from farthing.runtime.graph import EagerDecoder
from farthing.sampling_params import SamplingParams

PROMPTS = {0: [1, 5, 9], 1: [1, *range(30, 50)]}
GREEDY = SamplingParams(temperature=0.0, max_tokens=4)


class Joining(ReferenceKernels):
    """Counts its products."""

    joins = True

    def __init__(self) -> None:
        self.num_products = 0

    def linear(self, *operands: object, **options: object) -> torch.Tensor:
        self.num_products += 1
        return super().linear(*operands, **options)  # type: ignore[arg-type]


def products_of_a_step(loaded: Loaded, kernels: Joining) -> int:
    before = kernels.num_products
    assert isinstance(loaded.runner.steps, EagerDecoder)
    loaded.all_logits([1])
    return kernels.num_products - before


@pytest.mark.parametrize("dtype", ["fp32", "w8a8", "w4a16-zp"])
@pytest.mark.parametrize("name", ["llama-2-gqa", "llama-both-biases-tied", "qwen2", "qwen3-bias", "llama-odd-sizes"])
def test_a_layer_has_four_products_and_the_tokens_that_it_has_with_seven(name: str, dtype: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    folder, kernels = save_reference(make_reference(case), tmp_path), Joining()
    loaded, apart = load(folder, kernels=kernels, dtype=dtype), load(folder, kernels=ReferenceKernels(), dtype=dtype)
    assert products_of_a_step(loaded, kernels) == 4 * len(loaded.spec.layers) + 1
    assert loaded.memory.bytes_by_use == apart.memory.bytes_by_use
    assert loaded.run(PROMPTS, GREEDY) == apart.run(PROMPTS, GREEDY)


@pytest.mark.parametrize("weight_format", formats().values(), ids=lambda found: found.name)
def test_rows_that_lie_one_after_the_other_are_one_matrix_in_the_same_memory(weight_format: object) -> None:
    weight = quantize(torch.randn(12, 256, generator=torch.Generator().manual_seed(0)), weight_format)  # type: ignore[arg-type]
    parts = [weight.part(slice(*rows)) for rows in ((0, 5), (5, 6), (6, 12))]
    found = joined(parts)
    assert found is not None and found.codes.data_ptr() == weight.codes.data_ptr()
    assert torch.equal(dequantize(found), dequantize(weight))
    assert joined([parts[0], parts[2]]) is None and joined(parts[::-1]) is None


def test_tensors_apart_are_not_taken_together() -> None:
    whole = torch.arange(12.0).reshape(6, 2)
    assert together([whole[:3], whole[:3].clone()]) is None
    assert together([whole[:, :1], whole[:, 1:]]) is None
    found = together([whole[:2], whole[2:3], whole[3:]])
    assert found is not None and torch.equal(found, whole)
