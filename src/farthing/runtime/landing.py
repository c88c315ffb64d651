"""Numbers on their way from a device to Python: copied when they are there, waited for when they are read.

Knows no meaning of them.
"""

import torch


class Landing:
    """`tensors` as they will be when what is queued on the device by now is done. On the CPU they are there."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        if tensors[0].device.type != "cuda":
            self._hosts = [tensor.clone() for tensor in tensors]
            return
        self._hosts = [torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True) for tensor in tensors]
        for host, tensor in zip(self._hosts, tensors, strict=True):
            host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def read(self) -> list[list[float]]:
        """Waits for the device, no longer than for these."""
        if self._event is not None:
            self._event.synchronize()
        return [host.tolist() for host in self._hosts]
