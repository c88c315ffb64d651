"""Can these devices train this model? If not: by how much, where the bytes go, how many it takes, what would fit.

The answer as values, as lines for people and as the JSON object `farthing.training/1`. Bytes are those of
models/training.py, the use of the devices is found by training_search.py. Knows no flags and no speed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from farthing.errors import UsageError
from farthing.models.spec import ModelSpec
from farthing.models.training import OPTIMIZERS, TrainingMemory, TrainingSetup, training_memory
from farthing.planner.training_search import Attempt, best_attempt, fewest_devices
from farthing.units import format_count

SCHEMA = "farthing.training/1"
_LORA_RANK = 16
_GIB = 2**30
_PARTS = {
    "weights_bytes": "weights",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activation_bytes": "activations",
    "logits_bytes": "logits",
    "working_bytes": "working",
}
ASSUMPTIONS = (
    "memory only: how long a step takes, and whether the links keep up, is not asked here",
    "16-bit weights, gradients and activations; flash attention; a fused RMSNorm; fp32 logits and their gradient",
    "all parts at once, as with gradient accumulation; at least as many micro-batches as pipeline stages (1F1B)",
    "published runs took 0.8 to 1.6 times such a forecast, the median 1.2 times (benchmarks/training-memory.md)",
)
_HOST_NOTE = "host memory runs out too: a 70B on 8x RTX 4090 took all of 500 GB at 14 GB a card (torchtune issue 1871)"


@dataclass(frozen=True, slots=True)
class Alternative:
    """A cheaper way on the same devices: `attempt` is its smallest; `fewest_devices` where that does not fit."""

    name: str
    attempt: Attempt
    fewest_devices: int | None


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """`attempt`: the best that fits, else the smallest. `states_bytes`: weights, gradients and optimizer states of one
    copy of the model. `fewest_devices` of this kind that hold it; None if it fits, or if no number does."""

    model: str
    hardware: str
    num_parameters: int
    states_bytes: int
    device_bytes: tuple[int, ...]
    reserve_bytes: int
    attempt: Attempt
    fewest_devices: int | None
    alternatives: tuple[Alternative, ...]

    @property
    def fits(self) -> bool:
        return self.attempt.fits


def answer(
    spec: ModelSpec,
    device_bytes: Sequence[int],
    reserve_bytes: int,
    *,
    model: str,
    hardware: str,
    setup: TrainingSetup | None = None,
) -> TrainingAnswer:
    """Whether all of these devices together train the model; of unequal devices the smallest decides.

    Of `setup`, the batch, the optimizer, adapters and offload are taken; how the devices are used is searched.
    """
    if not device_bytes or min(device_bytes) <= reserve_bytes:
        raise UsageError(f"{hardware} has no memory beyond its reserve", fix="name a device with a known memory size")
    wanted = replace(setup or TrainingSetup(), tp=1, pp=1, data_parallel=1, zero_stage=0, recompute="none")
    room, num_devices = min(device_bytes) - reserve_bytes, len(device_bytes)
    whole = training_memory(spec, replace(wanted, offload="none"))
    attempt = best_attempt(spec, wanted, num_devices, room)
    return TrainingAnswer(
        model=model,
        hardware=hardware,
        num_parameters=spec.num_parameters,
        states_bytes=whole.weights_bytes + whole.gradient_bytes + whole.optimizer_bytes,
        device_bytes=tuple(device_bytes),
        reserve_bytes=reserve_bytes,
        attempt=attempt,
        fewest_devices=None if attempt.fits else fewest_devices(spec, wanted, room),
        alternatives=() if attempt.fits else tuple(_alternatives(spec, wanted, num_devices, room)),
    )


def _alternatives(spec: ModelSpec, wanted: TrainingSetup, num_devices: int, room: int) -> Iterator[Alternative]:
    """What people turn to, cheapest change first."""
    full = replace(wanted, lora_rank=None, frozen_format=None, offload="none")
    adapters = replace(full, optimizer="adamw", lora_rank=wanted.lora_rank or _LORA_RANK)
    options = (
        ("AdamW in bf16", replace(full, optimizer="adamw-bf16")),
        ("8-bit AdamW", replace(full, optimizer="adamw-8bit")),
        (f"states in host memory, {wanted.optimizer}", replace(full, offload="all")),
        ("states in host memory, adamw-bf16", replace(full, optimizer="adamw-bf16", offload="all")),
        (f"LoRA of rank {adapters.lora_rank}, 16-bit weights", adapters),
        (f"QLoRA of rank {adapters.lora_rank}, 4-bit weights", replace(adapters, frozen_format="int4")),
    )
    for name, setup in dict(options).items():
        if setup != wanted:
            attempt = best_attempt(spec, setup, num_devices, room)
            yield Alternative(name, attempt, None if attempt.fits else fewest_devices(spec, setup, room))


def to_json_object(answer: TrainingAnswer) -> dict[str, object]:
    """`memory` and `setup` are the best that fits, else the smallest; bytes are those of one device."""
    return {
        "schema": SCHEMA,
        "model": answer.model,
        "hardware": answer.hardware,
        "fits": answer.fits,
        "num_parameters": answer.num_parameters,
        "states_bytes": answer.states_bytes,
        "num_devices": len(answer.device_bytes),
        "device_bytes": list(answer.device_bytes),
        "reserve_bytes": answer.reserve_bytes,
        **_attempt_object(answer.attempt),
        "fewest_devices": answer.fewest_devices,
        "alternatives": [
            {
                "name": alternative.name,
                "fits": alternative.attempt.fits,
                **_attempt_object(alternative.attempt),
                "fewest_devices": alternative.fewest_devices,
            }
            for alternative in answer.alternatives
        ],
        "assumptions": list(ASSUMPTIONS),
    }


def _attempt_object(attempt: Attempt) -> dict[str, object]:
    memory = {**asdict(attempt.memory), "total_bytes": attempt.memory.total_bytes}
    return {
        "tight": attempt.fits and attempt.tight,
        "setup": asdict(attempt.setup),
        "memory": memory,
        "host_bytes": attempt.host_bytes,
    }


def to_lines(answer: TrainingAnswer) -> list[str]:
    """Verdict first, then the arithmetic, then what would do."""
    attempt, devices = answer.attempt, len(answer.device_bytes)
    verdict = "fits" if answer.fits else "does not fit"
    lines = [f"training {answer.model} {verdict} {answer.hardware} ({_method(attempt.setup)})", _states_line(answer)]
    name = "setup" if answer.fits else "smallest"
    lines.append(f"  {name:<9} {_division(attempt.setup)}, {_batch(attempt.setup)}:")
    lines.append(f"            {_parts(attempt.memory)} = {_size(attempt)}")
    if attempt.host_bytes:
        lines.append(f"  host      {_gib(attempt.host_bytes)} of host memory")
    if not answer.fits:
        lines.append(f"  devices   {_count_needed(answer.fewest_devices, devices)}")
        lines += [
            f"  {'instead' if index == 0 else '':<9} {_alternative(alternative, devices)}"
            for index, alternative in enumerate(answer.alternatives)
        ]
        if any(alternative.attempt.host_bytes for alternative in answer.alternatives):
            lines.append(f"  note      {_HOST_NOTE}")
    return lines + [f"  {'assumes' if index == 0 else '':<9} {text}" for index, text in enumerate(ASSUMPTIONS)]


def _states_line(answer: TrainingAnswer) -> str:
    """69 G parameters x 16 B = 1,028 GiB; 8 devices hold 192 GiB: 5.4x too little before the first activation."""
    setup, held = answer.attempt.setup, sum(answer.device_bytes)
    optimizer, count = OPTIMIZERS[setup.optimizer], len(answer.device_bytes)
    holds = f"{count} devices hold" if count > 1 else "the device holds"
    if setup.lora_rank is None:
        text = (
            f"{format_count(answer.num_parameters)} parameters x {optimizer.bytes_per_parameter} B "
            f"({optimizer.weight_bytes} weights + {optimizer.gradient_bytes} gradients + {optimizer.state_bytes} "
            f"optimizer: {optimizer.states})"
        )
    else:
        frozen = setup.frozen_format or "16 bits"
        text = f"{format_count(answer.num_parameters)} frozen parameters in {frozen} and adapters"
    text += f" = {_gib(answer.states_bytes)}; {holds} {_gib(held)}"
    if setup.offload == "none" and answer.states_bytes > held:
        text += f": {answer.states_bytes / held:.1f}x too little before the first activation"
    return f"  states    {text}"


def _method(setup: TrainingSetup) -> str:
    if setup.lora_rank is None:
        return f"full, {setup.optimizer}"
    return f"{'QLoRA' if setup.frozen_format else 'LoRA'} of rank {setup.lora_rank}, {setup.optimizer}"


def _division(setup: TrainingSetup) -> str:
    zero = f", ZeRO {setup.zero_stage}" if setup.data_parallel > 1 else ""
    return f"dp {setup.data_parallel}, pp {setup.pp}, tp {setup.tp}{zero}, recompute {setup.recompute}"


def _batch(setup: TrainingSetup) -> str:
    return f"{setup.micro_batch} x {setup.sequence_tokens:,} tokens"


def _parts(memory: TrainingMemory) -> str:
    sizes = {text: getattr(memory, field) for field, text in _PARTS.items()}
    return " + ".join(f"{text} {_gib(size)}" for text, size in sizes.items() if size)


def _size(attempt: Attempt) -> str:
    """Bytes of the heaviest device against its room."""
    total, room = attempt.memory.total_bytes, attempt.room_bytes
    edge = ", near the edge: may run out" if attempt.fits and attempt.tight else ""
    return f"{_gib(total)} of {_gib(room)} a device{edge}"


def _count_needed(fewest: int | None, count: int) -> str:
    if fewest is None:
        return "no number of them: what a layer at work takes does not divide"
    return f"{fewest:,} of them would hold it, here {'is' if count == 1 else 'are'} {count}"


def _alternative(alternative: Alternative, count: int) -> str:
    attempt = alternative.attempt
    host = f" and {_gib(attempt.host_bytes)} of host memory" if attempt.host_bytes else ""
    verdict = "fits" if attempt.fits else f"does not fit ({_count_needed(alternative.fewest_devices, count)})"
    return f"{alternative.name}: {verdict}, {_size(attempt)}{host}"


def _gib(num_bytes: float) -> str:
    """GiB throughout, so that a sum of terabytes and a device's memory can be compared by eye."""
    value = num_bytes / _GIB
    return f"{value:,.0f} GiB" if value >= 100 else f"{value:.1f} GiB" if value >= 1 else f"{value:.2f} GiB"
