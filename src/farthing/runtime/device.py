"""One device: where tensors live, how much memory there is, which formats are fast on it, and a count of what we take.

Knows no model. `Memory` hands out every tensor that lives longer than a step, so that law 3 can compare its count with
the plan.
"""

import math
import re
from collections.abc import Sequence

import torch

from farthing.errors import UsageError
from farthing.hardware.machine import Gpu, freest, gpus, memory_bytes
from farthing.kernels.weight import TORCH_DTYPES
from farthing.runtime.fresh_memory import fresh_zeros, take
from farthing.runtime.process_memory import available_bytes

_FRESH_BYTES = 2**20  # less is written in no time


class Memory:
    """Allocates long-lived tensors on one device and counts them. `bytes_by_use` names what for."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.bytes_by_use: dict[str, int] = {}
        self._fresh: list[torch.Tensor] = []

    def empty(self, use: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        tensor = torch.empty(shape, dtype=TORCH_DTYPES[dtype], device=self.device)
        self._count(use, tensor)
        return tensor

    def zeros(self, use: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """What may be large and is used bit by bit. The memory may not be the process's before `take`."""
        kind = TORCH_DTYPES[dtype]
        num_bytes = math.prod(shape) * kind.itemsize
        fresh = fresh_zeros(num_bytes) if self.device.type == "cpu" and num_bytes >= _FRESH_BYTES else None
        if fresh is None:
            return self.empty(use, shape, dtype).zero_()
        self._fresh.append(fresh)
        self._count(use, fresh)
        return fresh.view(kind).view(shape)

    def take(self) -> None:
        """Touch all `zeros`, beside the first answer, so that memory which is not there fails at start-up and not
        hours later."""
        take(self._fresh)
        self._fresh = []

    def trim(self) -> None:
        """Give back what was taken on the way and is not needed any more."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _count(self, use: str, tensor: torch.Tensor) -> None:
        self.bytes_by_use[use] = self.bytes_by_use.get(use, 0) + tensor.numel() * tensor.element_size()


def open_device(name: str) -> torch.device:
    """'auto' (the GPU with the most free memory where there is one), 'cpu', 'cuda', 'cuda:1'; a GPU becomes the one
    that kernels run on. UsageError if this machine has no such device."""
    if name == "auto":
        name = f"cuda:{_freest_gpu()}" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise UsageError(f"device {name!r} is not known", fix="use cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"there is no device {name!r} here: {torch.cuda.device_count()} CUDA devices", fix="use cpu")
    if device.type == "cuda":
        device = torch.device("cuda", device.index or 0)
        use_device(device)
    return device


def _freest_gpu() -> int:
    """Its number; the first among equals. CUDA, asked for free memory, takes some of each GPU for as long as the
    process lives, so nvidia-smi is asked, whose GPUs may be more and come in another order."""
    numbers = range(torch.cuda.device_count())
    if len(numbers) == 1:
        return 0
    uuids = [str(torch.cuda.get_device_properties(number).uuid) for number in numbers]
    number = freest_of([f"GPU-{uuid.removeprefix('GPU-')}" for uuid in uuids], gpus())
    if number is None:
        number = max(numbers, key=lambda number: torch.cuda.mem_get_info(number)[0])
    return number


def freest_of(uuids: Sequence[str], found: Sequence[Gpu]) -> int | None:
    """Which of the GPUs with these uuids has the most free memory; None if one of them was not found."""
    by_uuid = {gpu.uuid: gpu for gpu in found}
    if not all(uuid in by_uuid for uuid in uuids):
        return None
    return uuids.index(freest([by_uuid[uuid] for uuid in uuids]).uuid)


def use_device(device: torch.device) -> None:
    """Of this thread: kernels run on its current GPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def use_threads(num_threads: int) -> None:
    """CPU threads of torch's operations, for the whole process."""
    torch.set_num_threads(num_threads)


def num_gpus() -> int:
    """CUDA devices that torch reaches."""
    return torch.cuda.device_count()


def total_bytes(device: torch.device) -> int:
    """Memory of the device, or of the machine or container, whoever holds it."""
    return torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else memory_bytes()[0]


def usable_bytes(device: torch.device) -> int:
    """Memory that a model may take on the device now."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return available_bytes()
