"""What a call of torch takes in a decode step beside its work: a step of a model so small that there is no work.

An addition into a given tensor takes a fifth of it: a decoder's calls make views and results, and Python stands between
them. Knows no other figure; runtime/probe.py asks for it.
"""

import time
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from farthing.kernels.vendor import VendorKernels
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.quantization.base import resolve
from farthing.runtime.decoder import Decoder
from farthing.runtime.device import Memory
from farthing.runtime.inputs import InputBuffers, Limits, StepInputs
from farthing.runtime.kv_cache import KVCache
from farthing.runtime.loader import random_weights
from farthing.scheduler.batch import Batch, BatchItem

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
_BLOCK_SIZE, _NUM_BLOCKS = 16, 8
_CONTEXT = 60
_MIN_STEPS = 5


def seconds_per_call(device: torch.device, seconds: float) -> float:
    """Median over steps of about so many seconds: time of a step by the calls that it makes."""
    memory = Memory(device)
    precision = Precision.of(resolve("fp32", device.type))
    spec = describe(ConfigReader(_CONFIG, "the probe's model"), precision)
    tensors, frequencies = random_weights(spec, 0, memory)
    cache = KVCache(spec, num_blocks=_NUM_BLOCKS, block_size=_BLOCK_SIZE, memory=memory)
    decoder = Decoder(spec, tensors, VendorKernels(), cache, frequencies)
    item = BatchItem(0, _CONTEXT, (5,), tuple(range(_CONTEXT // _BLOCK_SIZE + 1)), True, 0)
    limits = Limits(max_tokens=1, max_sequences=1, max_positions=_NUM_BLOCKS * _BLOCK_SIZE)
    inputs = InputBuffers(limits, block_size=_BLOCK_SIZE, device=device).fill(Batch(0, (item,)))
    num_calls = _count(decoder, inputs)
    steps: list[float] = []
    end = time.perf_counter() + seconds
    while len(steps) < _MIN_STEPS or time.perf_counter() < end:
        started = time.perf_counter()
        decoder(inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        steps.append(time.perf_counter() - started)
    return median(steps) / num_calls


def _count(decoder: Decoder, inputs: StepInputs) -> int:
    with _Counting() as counting:
        decoder(inputs)
    return counting.num_calls


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_calls += 1
        return function(*args, **(kwargs or {}))
