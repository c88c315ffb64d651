"""Memory fresh from the system: zeros that cost nothing until they are touched, and a thread that touches them.

Linux hands a page out when it is first touched, and a pool of gigabytes takes it a second or more. Knows no models and
counts nothing: runtime/device.py does.
"""

import ctypes
import mmap
import sys
import threading
from collections.abc import Sequence

import torch

_POPULATE_WRITE = 23  # MADV_POPULATE_WRITE of Linux 5.14: pages as if they were written to, with what they hold
_PIECE_BYTES = 2**20  # at a time, so that other threads that map memory hardly wait


def fresh_zeros(num_bytes: int) -> torch.Tensor | None:
    """`num_bytes` > 0 zeros as uint8 for `take`; None where the system has no such memory."""
    if sys.platform != "linux":
        return None
    pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    zeros = torch.frombuffer(pages, dtype=torch.uint8)
    return zeros if _touch(zeros[:1]) else None


def take(fresh: Sequence[torch.Tensor]) -> None:
    """All pages of `fresh_zeros`, on a thread beside whoever uses them already. An interpreter that ends waits for it,
    which takes a piece: a thread inside torch must not outlive it."""

    def touch_all() -> None:
        for zeros in fresh:
            for piece in zeros.split(_PIECE_BYTES):
                if not threading.main_thread().is_alive():
                    return
                _touch(piece)

    threading.Thread(target=touch_all, name="farthing-memory").start()


def _touch(piece: torch.Tensor) -> bool:
    """Whether the system gave the pages. ctypes lets other threads of Python run meanwhile."""
    address, num_bytes = ctypes.c_void_p(piece.data_ptr()), ctypes.c_size_t(piece.numel())
    return ctypes.CDLL(None).madvise(address, num_bytes, _POPULATE_WRITE) == 0
