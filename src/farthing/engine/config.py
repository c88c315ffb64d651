"""What a user may choose about the engine, and what it comes to on a machine: EngineConfig and its resolved form.

`resolve` is pure: the machine and the model are handed in, and nothing "auto" is left in what comes out. The objects
stop at the composition root (engine.py), which hands plain arguments down.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from farthing.engine.step_sizes import CPU_SEQUENCES, StepSizes
from farthing.errors import UnsupportedError, UsageError
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.timing.device import SHARE_HERE
from farthing.quantization.base import resolve as resolve_format
from farthing.units import parse_bytes

DEFAULT_CONTEXT = 4096
SMALL_MODEL_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Each field is a flag of `run`.

    Parameters
    ----------
    format
        Weight format: auto, fp32, bf16, fp16, int8, int4, w8a8, w8a16, w4a8 (groups of 32), w4a8-g64,
        w4a8-g128, w4a16, w4a16-zp (zero points), fp8.
    kv_format
        Format of the KV cache: auto (as the activations), fp32, bf16, fp16, int8, and on GPUs from sm_89 on fp8.
    context
        Longest sequence in tokens; by default min(4096, the model's).
    memory
        Memory the process may take, of the GPU where it runs on one: 20GiB, 85%, auto.
    device
        auto (the freest GPU where there is one), cpu, cuda, cuda:N.
    threads
        CPU threads of the whole process; by default all cores, or one for a model so small that they would only wait.
    weights
        auto: from the model's files; random: the name of a published model or a folder that holds only config.json
        will do, and nothing is downloaded.
    max_num_seqs
        Sequences that run at a time; by default 16 on a CPU, on a GPU 256, or 64 of less than 40 GB.
    max_batch_tokens
        Tokens of one step, the chunks of long prompts; by default 512 on a CPU, on a GPU 512 to 8192, by its speed.
    block_size
        Tokens of one KV block.
    speculation
        Guess the next tokens of texts that repeat themselves, and compute several in one step; answers stay the same.
        auto: where the forecast says that it pays; off; or the most tokens to guess.
    prefix_caching
        Share the KV blocks of equal prefixes.
    batch_invariant
        A row's result never depends on its batch; slower.
    weights_seed
        Seed of random weights.
    cache
        Keep weights that were rounded to int8 or int4 on disk, and read them from there at the next start.
    measure
        Time and price every step: the ledger, the bill and why it is slow.
    """

    format: str = "auto"
    kv_format: str = "auto"
    context: int | None = None
    memory: str = "auto"
    device: str = "auto"
    threads: int | None = None
    weights: str = "auto"
    max_num_seqs: int | None = None
    max_batch_tokens: int | None = None
    block_size: int = 16
    speculation: str = "auto"
    prefix_caching: Annotated[bool, Parameter(negative="--no-prefix-caching")] = True
    batch_invariant: bool = False
    weights_seed: int = 0
    cache: Annotated[bool, Parameter(negative="--no-cache")] = True
    measure: Annotated[bool, Parameter(negative="--no-measure")] = True

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_batch_tokens", "block_size", "context", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}", fix="it must be at least 1")
        if self.weights not in ("auto", "random"):
            raise UsageError(f"--weights is {self.weights!r}", fix="use auto or random")
        if self.speculation not in ("auto", "off") and not re.fullmatch("[1-9][0-9]*", self.speculation):
            raise UsageError(f"--speculation is {self.speculation!r}", fix="use auto, off or the most tokens to guess")
        least_sequences = self.max_num_seqs or CPU_SEQUENCES  # by themselves no device has fewer
        if self.max_batch_tokens is not None and self.max_batch_tokens < least_sequences:
            raise UsageError(
                f"--max-batch-tokens {self.max_batch_tokens} is below --max-num-seqs {least_sequences}",
                fix="a step must hold one token of every running sequence",
            )

    @property
    def sizes(self) -> StepSizes:
        """Of a configuration whose sizes are resolved (engine/fit.py)."""
        assert self.max_num_seqs is not None and self.max_batch_tokens is not None, "sizes are not resolved"
        return StepSizes(self.max_num_seqs, self.max_batch_tokens)


def resolve_precision(config: EngineConfig, *, device_kind: str, fast_dtype: str) -> Precision:
    """`fast_dtype`: what the device multiplies natively for this checkpoint's dtype (fp32, bf16 or fp16)."""
    weight_format = resolve_format(fast_dtype if config.format == "auto" else config.format, device_kind)
    plain = resolve_format(fast_dtype, device_kind)
    activations = plain.name if weight_format.quantized else weight_format.name
    precision = Precision.of(weight_format, activations).with_kv_format(config.kv_format)
    if precision.kv_dtype == "fp8_e4m3" and device_kind != "cuda":
        what = f"--kv-format {config.kv_format!r} has no kernels for a {device_kind}"
        raise UnsupportedError(what, fix="use int8, which takes 8 bits a value, too")
    return precision.on_device(device_kind)


def resolve_context(config: EngineConfig, spec: ModelSpec) -> int:
    """The longest sequence; UsageError if more is asked for than the model computes rightly."""
    if config.context is None:
        return min(DEFAULT_CONTEXT, spec.max_positions)
    if config.context > spec.max_positions:
        raise UsageError(
            f"--context {config.context} is above {spec.max_positions} ({spec.max_positions_reason})",
            fix=f"use at most {spec.max_positions}",
        )
    return config.context


def resolve_threads(config: EngineConfig, weights_bytes: int, num_cores: int) -> int:
    """Below SMALL_MODEL_BYTES what threads tell each other costs more than the second one computes."""
    return config.threads or (1 if weights_bytes < SMALL_MODEL_BYTES else num_cores)


def resolve_budget(memory: str, *, available_bytes: int, device_kind: str) -> int:
    """Bytes that the model may take: a size, a share of what is available, or a default share."""
    text = f"{SHARE_HERE[device_kind]:.0%}" if memory == "auto" else memory.strip()
    try:
        if not text.endswith("%"):
            return parse_bytes(text)
        share = float(text[:-1]) / 100
    except ValueError:
        raise UsageError(f"--memory is {memory!r}", fix="write a size such as 20GiB or a share such as 85%") from None
    if not 0 < share <= 1:
        raise UsageError(f"--memory is {memory!r}", fix="a share lies above 0% and at most at 100%")
    return int(available_bytes * share)
