"""Which kernels run: chosen once at start-up by what the caller asked for, and printed; never by the environment."""

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels


def select_kernels(*, batch_invariant: bool) -> ReferenceKernels:
    """The fastest backend that keeps the promise: `batch_invariant` rows never depend on their batch."""
    return ReferenceKernels() if batch_invariant else VendorKernels()
