"""Tests that ask for `kernels` run on every backend that this processor has."""

import pytest
from native_kernels import native

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels


@pytest.fixture(params=[ReferenceKernels, VendorKernels, native], ids=["reference", "vendor", "native"])
def kernels(request: pytest.FixtureRequest) -> ReferenceKernels:
    backend: ReferenceKernels = request.param()
    return backend
