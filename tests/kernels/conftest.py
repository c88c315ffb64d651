"""Tests that ask for `kernels` run on every backend that this processor has."""

from collections.abc import Iterator

import pytest
import torch
from native_kernels import native

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels


@pytest.fixture(params=[ReferenceKernels, VendorKernels, native], ids=["reference", "vendor", "native"])
def kernels(request: pytest.FixtureRequest) -> ReferenceKernels:
    backend: ReferenceKernels = request.param()
    return backend


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """torch fills empty tensors with NaN, integers with their largest value: outputs, and what kernels hand on."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
