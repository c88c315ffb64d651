"""Numbers that Python writes and kernels read: an int64 tensor that stays where it is.

On the CPU both see the same memory, so a write costs well below a microsecond; elsewhere it is copied over, from memory
of its own for each of the steps that may be on their way at a time, so that nothing waits for a copy.
"""

import ctypes
import math
from array import array
from collections.abc import Sequence

import torch


class IntBuffer:
    """`tensor` [shape] on `device`, of zeros at first. `turns`: steps that may be on their way."""

    def __init__(self, *shape: int, device: torch.device, turns: int = 1) -> None:
        self._is_host = device.type == "cpu"
        pinned = device.type == "cuda"
        self._hosts = [torch.zeros(shape, dtype=torch.int64, pin_memory=pinned) for _ in range(turns)]
        self._written = [_memory(host) for host in self._hosts]
        self.tensor = self._hosts[0] if self._is_host else torch.zeros(shape, dtype=torch.int64, device=device)

    def put(self, values: Sequence[int], row: int = 0, turn: int = 0) -> None:
        """Write from the beginning of a row on. `turn`: a number that steps on their way do not share."""
        turn = 0 if self._is_host else turn
        start = row * self.tensor.stride(0)
        end = start + len(values)
        self._written[turn][start:end] = array("q", values)
        if not self._is_host:
            host = self._hosts[turn].view(-1)[start:end]
            self.tensor.view(-1)[start:end].copy_(host, non_blocking=True)


def _memory(tensor: torch.Tensor) -> memoryview:
    """Of an int64 tensor on the CPU, as Python's integers. Good for as long as the tensor is."""
    numbers = (ctypes.c_int64 * math.prod(tensor.shape)).from_address(tensor.data_ptr())
    return memoryview(numbers).cast("B").cast("q")
