"""Triton's kernels: in its interpreter on CPU tensors, or compiled on the GPU where there is one. What torch hands out
unwritten is NaN, integers their largest value."""

import pytest
import torch
from triton_kernels import Kernels, open_kernels

HAS_GPU = torch.cuda.is_available()
DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(HAS_GPU, reason="compiled kernels run on the GPU alone")),
    pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")]),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def kernels(device: str) -> Kernels:
    return open_kernels(device, batch_invariant=False)


@pytest.fixture
def exact(device: str) -> Kernels:
    """Batch-invariant."""
    return open_kernels(device, batch_invariant=True)


@pytest.fixture(autouse=True)
def unwritten_memory_is_poisoned(poisoned_memory: None) -> None:
    """In every test of this folder."""
