"""Every test here runs on each level that the processor has, and what torch hands out unwritten is NaN."""

import pytest
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
def unwritten_memory_is_poisoned(poisoned_memory: None) -> None:
    """In every test of this folder."""
