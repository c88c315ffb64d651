"""What a step of a model so small that there is no work takes: a call of torch, and the Python around all calls.

An addition into a given tensor takes a fifth of such a call: a decoder's calls make views and results, and Python
stands between them. Knows no other figure; runtime/probe.py asks for these.
"""

import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from farthing.kernels.select import select_kernels
from farthing.kernels.vendor import VendorKernels
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.memory import plan_memory
from farthing.models.spec import Precision
from farthing.quantization.base import resolve
from farthing.runtime.decoder import Decoder
from farthing.runtime.device import Memory
from farthing.runtime.graph import Steps
from farthing.runtime.inputs import InputBuffers, Limits, StepInputs
from farthing.runtime.kv_cache import KVCache
from farthing.runtime.loader import random_weights
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.sampler import RequestState
from farthing.sampling_params import SamplingParams
from farthing.scheduler.batch import Batch, BatchItem
from farthing.scheduler.loop import RealClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence

Found = TypeVar("Found")
_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
_VOCABULARY = 32_000  # of a model whose sampler is timed
_BLOCK_SIZE, _NUM_BLOCKS = 16, 8
_CONTEXT = 60
_MIN_STEPS = 5
_SEQUENCES = 8
_ANSWER = 2000
_PUSHING_BYTES = 64 * 2**20


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


def host_seconds(num_threads: int, seconds: float) -> tuple[float, float, float]:
    """Of a decode step: what passes outside of the recorded calls - scheduler, inputs, sampler -, more of it for each
    sequence, and for each logit of one."""
    one = _seconds_around(1, _VOCABULARY, num_threads, seconds)
    more = _seconds_around(_SEQUENCES, _VOCABULARY, num_threads, seconds)
    few_logits = _seconds_around(_SEQUENCES, _CONFIG["vocab_size"], num_threads, seconds)
    per_logit = max(0.0, (more - few_logits) / (_SEQUENCES * (_VOCABULARY - _CONFIG["vocab_size"])))
    per_sequence = max(0.0, (more - one) / (_SEQUENCES - 1) - per_logit * _VOCABULARY)
    return max(0.0, one - per_sequence - per_logit * _VOCABULARY), per_sequence, per_logit


def _seconds_around(num_sequences: int, vocab_size: int, num_threads: int, seconds: float) -> float:
    memory = Memory(torch.device("cpu"))
    spec = describe(
        ConfigReader({**_CONFIG, "vocab_size": vocab_size}, "the probe's model"), Precision.of(resolve("bf16", "cpu"))
    )
    limits = Limits(num_sequences * _BLOCK_SIZE, num_sequences, _ANSWER + _BLOCK_SIZE)
    plan = plan_memory(
        spec,
        budget_bytes=2**30,
        reserve_bytes=0,
        block_size=_BLOCK_SIZE,
        max_num_seqs=num_sequences,
        max_batch_tokens=limits.max_tokens,
        max_model_len=limits.max_positions,
    )
    kernels = select_kernels(
        device_kind="cpu",
        batch_invariant=False,
        weight_formats=[("bf16", spec.hidden_size)],
        activation_dtype="bf16",
        kv_dtype="bf16",
        num_threads=num_threads,
    )
    tensors, frequencies = random_weights(spec, 0, memory)
    runner = ModelRunner(spec, plan, tensors, frequencies, kernels, memory, limits)
    watched = runner.steps = _Watched(runner.steps)
    scheduler = Scheduler(
        num_blocks=plan.num_blocks,
        block_size=plan.block_size,
        max_num_seqs=num_sequences,
        max_batch_tokens=limits.max_tokens,
        max_model_len=limits.max_positions,
        enable_prefix_caching=False,
    )
    params = SamplingParams(temperature=0.0, max_tokens=_ANSWER, ignore_eos=True)
    for seq_id in range(num_sequences):
        prompt = (seq_id + 1, 2, 3)
        scheduler.add(
            Sequence(
                seq_id,
                prompt,
                max_output_tokens=_ANSWER,
                eos_token_ids=frozenset(),
                stop_token_ids=frozenset(),
                min_output_tokens=0,
                ignore_eos=True,
                priority=0,
                salt="",
                arrival_time=0.0,
                use_prefix_cache=False,
            )
        )
        runner.add(
            seq_id, RequestState(params, seed=0, sample_index=0, prompt_ids=prompt, stop_ids=frozenset()), prompt
        )
    clock, around = RealClock(), []
    end = time.perf_counter() + seconds
    while scheduler.has_unfinished and (len(around) < _MIN_STEPS or time.perf_counter() < end):
        watched.seconds = 0.0
        started = time.perf_counter()
        step(scheduler, runner, clock)
        around.append(time.perf_counter() - started - watched.seconds)
    return quantiles(around, n=10)[0]  # what others take of the cores comes on top


class _Watched:
    """Steps, and the seconds that passed in them. As much is read in each as pushes everything else out of a core's
    caches, as the weights of a model do: Python takes twice as long then."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._weights = torch.ones(_PUSHING_BYTES // 4)
        self.seconds = 0.0
        self.prepare = steps.prepare

    def hidden(self, inputs: StepInputs) -> torch.Tensor:
        self._timed(self._weights.sum)
        return self._timed(lambda: self._steps.hidden(inputs))

    def logits(self, x_RH: torch.Tensor) -> torch.Tensor:
        return self._timed(lambda: self._steps.logits(x_RH))

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._timed(lambda: self._steps.largest(logits_RV))

    def _timed(self, compute: Callable[[], Found]) -> Found:
        started = time.perf_counter()
        found = compute()
        self.seconds += time.perf_counter() - started
        return found
