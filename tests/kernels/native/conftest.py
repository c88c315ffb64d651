"""Every test here runs on each level that the processor has, and what torch hands out unwritten is NaN."""

from collections.abc import Iterator

import pytest
import torch
from native_kernels import levels_here, native

from farthing.kernels.native.backend import NativeKernels


@pytest.fixture(params=levels_here())
def level(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def kernels(level: str) -> NativeKernels:
    return native(level)


@pytest.fixture(autouse=True)
def unwritten_memory_is_poisoned() -> Iterator[None]:
    """torch fills empty tensors with NaN, integers with their largest value: outputs, and what kernels hand on."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)
