"""Numbers of host memory on their way to a device: through two buffers that the device reads by itself.

While it copies from one, the host fills the other: reading a checkpoint and copying it take the longer of both, not
their sum. Knows no names of tensors and no formats.
"""

from typing import Protocol

import torch

_BUFFER_BYTES = 64 * 2**20


class Way(Protocol):
    """How numbers of host memory come to a device."""

    def moved(self, value: torch.Tensor) -> torch.Tensor:
        """`value` on the device."""

    def copy(self, value: torch.Tensor, into: torch.Tensor) -> None:
        """`value` into a whole tensor of the device with its shape and dtype."""


def way_to(device: torch.device) -> Way:
    return Direct() if device.type == "cpu" else Staging(device)


class Direct:
    """To the CPU itself: there they are already."""

    def moved(self, value: torch.Tensor) -> torch.Tensor:
        return value

    def copy(self, value: torch.Tensor, into: torch.Tensor) -> None:
        into.copy_(value)


class Staging:
    """Copies are queued and not waited for: the device computes with them in the order in which it is asked. Any device
    will do, so that what a GPU runs is tested without one."""

    def __init__(self, device: torch.device, buffer_bytes: int = _BUFFER_BYTES) -> None:
        self._device = device
        self._buffers = [_Buffer(device, buffer_bytes) for _ in range(2)]
        self._turn = 0

    def moved(self, value: torch.Tensor) -> torch.Tensor:
        on_device = torch.empty(value.shape, dtype=value.dtype, device=self._device)
        self.copy(value, on_device)
        return on_device

    def copy(self, value: torch.Tensor, into: torch.Tensor) -> None:
        assert value.shape == into.shape and value.dtype == into.dtype and into.is_contiguous()
        source, target = _bytes_of(value.contiguous()), _bytes_of(into)
        size = self._buffers[0].host.numel()
        for start in range(0, source.numel(), size):
            self._turn = 1 - self._turn
            self._buffers[self._turn].send(source[start : start + size], target[start : start + size])


class _Buffer:
    """Pinned memory, where there is a device that can read it, and when it was last read."""

    def __init__(self, device: torch.device, num_bytes: int) -> None:
        is_cuda = device.type == "cuda"
        self.host = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=is_cuda)
        self._read = torch.cuda.Event() if is_cuda else None

    def send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        if self._read is not None:
            self._read.synchronize()  # of the copy two before this one
        staged = self.host[: source.numel()].copy_(source)  # here the file is read
        target.copy_(staged, non_blocking=True)
        if self._read is not None:
            self._read.record()


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(-1).view(torch.uint8)
