"""Which GPU `auto` is: that with the most free memory, told by nvidia-smi, in CUDA's own order."""

import torch

from farthing.hardware.machine import Gpu
from farthing.runtime.device import freest_of, open_device


def gpu(uuid: str, free_bytes: int) -> Gpu:
    return Gpu("GPU", 100, free_bytes, "580", uuid)


def test_the_freest_is_found_whatever_the_order_and_the_others_of_the_machine() -> None:
    found = [gpu("GPU-a", 10), gpu("GPU-b", 90), gpu("GPU-c", 50), gpu("GPU-d", 20)]
    assert freest_of(["GPU-d", "GPU-c", "GPU-a"], found) == 1
    assert freest_of(["GPU-b", "GPU-c"], found) == 0


def test_the_first_of_equals_is_taken() -> None:
    found = [gpu("GPU-a", 50), gpu("GPU-b", 50)]
    assert freest_of(["GPU-b", "GPU-a"], found) == 0


def test_nothing_is_said_where_one_is_not_told_of() -> None:
    assert freest_of(["GPU-a", "GPU-b"], [gpu("GPU-a", 50)]) is None
    assert freest_of(["GPU-a"], []) is None


def test_without_a_gpu_auto_is_the_processor() -> None:
    assert (open_device("auto").type == "cuda") == torch.cuda.is_available()
