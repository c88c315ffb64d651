"""The compiled kernels as Python sees them: a list of calls, and the threads that run it.

`Call` mirrors src/call.h, OPS the table of src/abi.cpp. Knows no tensors; backend.py makes the calls.
"""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_OPS = (
    ("gather", False),
    ("gather_packed", False),
    ("add_rows", True),
    ("rms_norm", True),
    ("rotary_angles", False),
    ("rope", True),
    ("silu_mul", True),
    ("widen", True),
    ("store_kv", True),
    ("store_kv_int8", True),
    ("attention", True),
    ("attention_int8", True),
    ("combine_attention", True),
    ("quantize_rows", True),
    ("linear_fp32", False),
    ("linear_bf16", False),
    ("linear_widened", False),
    ("linear_w8a8", True),
    ("linear_w4a8", True),
    ("pack", False),
    ("unpack", False),
    ("pack_scales", False),
    ("peak_fp32", False),
    ("peak_bf16", False),
    ("peak_int8", False),
    ("read_bytes", False),
    ("largest", False),
    ("quantize_w8", True),
    ("quantize_w4", True),
    ("pack_rows", True),
)
"""Kernels in the order of their numbers, and whether there is one for each activation dtype: fp32, then bf16."""

_NUMBERS = {
    name: number
    for number, name in enumerate(
        name + suffix for name, typed in _OPS for suffix in (("_fp32", "_bf16") if typed else ("",))
    )
}
NUM_POINTERS, NUM_SIZES, NUM_SCALARS = 10, 8, 2


class _Call(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_int32),
        ("waits", ctypes.c_int32),
        ("rows", ctypes.c_void_p),
        ("p", ctypes.c_void_p * NUM_POINTERS),
        ("n", ctypes.c_int64 * NUM_SIZES),
        ("f", ctypes.c_double * NUM_SCALARS),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel with addresses for everything. `rows`: address of the int64 that says how many rows there are.
    `waits`: what was called before is finished first."""

    op: str
    rows: int
    pointers: Sequence[int | None]
    sizes: Sequence[int]
    scalars: Sequence[float]
    waits: bool = True


class Calls:
    """Calls as the library reads them. Whoever makes them keeps the memory that they point to."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self.array = (_Call * len(calls))()
        for raw, call in zip(self.array, calls, strict=True):
            raw.op, raw.waits, raw.rows = _NUMBERS[call.op], call.waits, call.rows
            raw.p[: len(call.pointers)] = call.pointers
            raw.n[: len(call.sizes)] = call.sizes
            raw.f[: len(call.scalars)] = call.scalars

    def each(self) -> "list[Calls]":
        """Each of them alone."""
        alone = []
        for raw in self.array:
            one = Calls(())
            one.array = (_Call * 1)(raw)
            alone.append(one)
        return alone


class Pool:
    """Threads of a compiled library: the caller's and `num_threads` - 1 more, which start with the first call."""

    def __init__(self, library: Path, num_threads: int) -> None:
        self.num_threads = num_threads
        self._library = ctypes.CDLL(str(library))
        self._library.farthing_open.restype = ctypes.c_void_p
        self._library.farthing_open.argtypes = (ctypes.c_int,)
        self._library.farthing_close.argtypes = (ctypes.c_void_p,)
        self._library.farthing_run.argtypes = (ctypes.c_void_p, ctypes.POINTER(_Call), ctypes.c_int)
        self._library.farthing_wake.argtypes = (ctypes.c_void_p,)
        self._handle: int | None = None

    def wake(self) -> None:
        """Sleeping threads get ready: they need some 50 us."""
        if self._handle is not None and self.num_threads > 1:
            self._library.farthing_wake(self._handle)

    def run(self, calls: Calls) -> None:
        """In order, all threads together; not for two callers at a time."""
        if self._handle is None:
            self._handle = self._library.farthing_open(self.num_threads)
            weakref.finalize(self, self._library.farthing_close, self._handle)
        self._library.farthing_run(self._handle, calls.array, len(calls.array))
