"""Which kernels run: chosen once at start-up by device, formats and what the caller asked for, and printed.

Never by the environment. Knows names of formats, no models.
"""

import sys
from collections.abc import Sequence

from farthing import discover
from farthing.errors import UnsupportedError
from farthing.kernels.native.backend import NativeKernels, supports
from farthing.kernels.native.compiler import NoCompilerError, best_level, compiled
from farthing.kernels.native.library import Pool
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels


def select_kernels(
    *,
    device_kind: str,
    batch_invariant: bool,
    weight_formats: Sequence[tuple[str, int]],
    activation_dtype: str,
    kv_dtype: str,
    num_threads: int,
) -> ReferenceKernels:
    """The fastest backend that keeps the promise: `batch_invariant` rows never depend on their batch.

    `weight_formats`: format and columns of each matrix. What a person should know is said on standard error.
    """
    supported = all(supports(name, activation_dtype, columns) for name, columns in weight_formats)
    if device_kind == "cpu" and kv_dtype in (activation_dtype, "int8") and supported:
        level = best_level()
        try:
            return NativeKernels(Pool(compiled(level, _say), num_threads), level)
        except (NoCompilerError, OSError) as error:  # or the file system lets no library be written or loaded
            _say(f"note: slow kernels, for {error}")
    if device_kind == "cuda":
        try:
            triton = discover.load("farthing.kernels.triton", "backend")
            kernels: ReferenceKernels = triton.open_kernels(
                batch_invariant=batch_invariant,
                weight_formats=[name for name, _ in weight_formats],
                activation_dtype=activation_dtype,
                kv_dtype=kv_dtype,
            )
            return kernels
        except (ImportError, ValueError) as error:  # no triton, or none for this card
            _say(f"note: slow kernels, for {error}: attention goes sequence by sequence, and the host waits for it")
        if kv_dtype == "fp8_e4m3":
            raise UnsupportedError("the slow kernels keep no KV cache in fp8", fix="use --kv-format int8")
    return ReferenceKernels() if batch_invariant else VendorKernels()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
