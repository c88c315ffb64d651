"""Can these devices train this model, and why not: the answer as lines for people and as `farthing.training/1`.

planner/training/training_answer.py finds it. Knows no flags and computes nothing new.
"""

from collections.abc import Iterator
from dataclasses import asdict

from farthing.models.training import OPTIMIZERS, TrainingMemory, TrainingSetup
from farthing.planner.training.training_answer import Alternative, TrainingAnswer, answer
from farthing.planner.training.training_search import FRAGMENTATION, Attempt
from farthing.planner.training.training_time import TrainingTime
from farthing.units import format_count, format_seconds

__all__ = ["ASSUMPTIONS", "SCHEMA", "TrainingAnswer", "answer", "to_json_object", "to_lines"]

SCHEMA = "farthing.training/1"
_GIB = 2**30
_YEAR, _DAY = 365 * 86_400, 86_400
_PARTS = {
    "weights_bytes": "weights",
    "gradient_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activation_bytes": "activations",
    "logits_bytes": "logits",
    "working_bytes": "working",
}
MEMORY_ONLY = "memory only: how long a step takes, and whether the links keep up, is not asked here"
ASSUMPTIONS = (
    "16-bit weights, gradients and activations; flash attention; a fused RMSNorm; fp32 logits and their gradient",
    "all parts at once, as with gradient accumulation; at least as many micro-batches as pipeline stages (1F1B)",
    f"{FRAGMENTATION:.0%} more for the allocator's fragments under ZeRO 3, the mean of GMLake (arXiv 2401.08156)",
    "published runs took 0.7 to 1.6 times such a forecast, the median 1.1 times (benchmarks/training-memory.md)",
)
_HOST_NOTE = "host memory runs out too: a 70B on 8x RTX 4090 took all of 500 GB at 14 GB a card (torchtune issue 1871)"


def assumptions_of(made: TrainingAnswer) -> tuple[str, ...]:
    """What the answer rests on."""
    return (*(made.time.notes if made.time else (MEMORY_ONLY,)), *ASSUMPTIONS)


def to_json_object(made: TrainingAnswer) -> dict[str, object]:
    """`memory` and `setup` are the best that fits, else the smallest; bytes are those of one device."""
    return {
        "schema": SCHEMA,
        "model": made.model,
        "hardware": made.hardware,
        "fits": made.fits,
        "num_parameters": made.num_parameters,
        "states_bytes": made.states_bytes,
        "outcome": made.outcome,
        "num_devices": len(made.device_bytes),
        "device_bytes": list(made.device_bytes),
        "reserve_bytes": made.reserve_bytes,
        **_attempt_object(made.attempt),
        "fewest_devices": made.fewest_devices,
        "alternatives": [
            {
                "name": alternative.name,
                "fits": alternative.attempt.fits,
                **_attempt_object(alternative.attempt),
                "fewest_devices": alternative.fewest_devices,
            }
            for alternative in made.alternatives
        ],
        "host_memory_bytes": made.host_bytes,
        "time": None if made.time is None else _time_object(made.time),
        "assumptions": list(assumptions_of(made)),
    }


def _attempt_object(attempt: Attempt) -> dict[str, object]:
    memory = {**asdict(attempt.memory), "total_bytes": attempt.memory.total_bytes}
    return {
        "tight": attempt.fits and attempt.tight,
        "setup": asdict(attempt.setup),
        "memory": memory,
        "fragment_bytes": attempt.fragment_bytes,
        "needed_bytes": attempt.needed_bytes,
        "host_bytes": attempt.host_bytes,
    }


def _time_object(time: TrainingTime) -> dict[str, object]:
    """Seconds of the whole run; `link_seconds` are those that what is said between devices takes, by what it is."""
    return {
        "tokens": time.tokens,
        "flops": time.flops,
        "peak_flops_per_second": time.peak_flops_per_second,
        "mfu": time.mfu,
        "compute_seconds": time.compute_seconds,
        "bubble_ratio": time.bubble,
        "link_seconds": dict(time.link_seconds),
        "link_to_compute_ratio": time.link_to_compute,
        "link_to_compute_ratio_by_way": dict(time.ways),
        "seconds": time.seconds,
        "device_hours": time.device_hours,
        "dollars_per_hour": time.dollars_per_hour,
        "dollars": time.dollars,
    }


def to_lines(made: TrainingAnswer) -> list[str]:
    """Verdict first, then the arithmetic, then what would do."""
    attempt, devices = made.attempt, len(made.device_bytes)
    verdict = "fits" if made.fits else "does not fit"
    lines = [f"training {made.model} {verdict} {made.hardware} ({_method(attempt.setup)})", _states_line(made)]
    name = "setup" if made.fits else "smallest"
    lines.append(f"  {name:<9} {_division(attempt.setup)}, {_batch(attempt.setup)}:")
    fragments = f" + fragments {_gib(attempt.fragment_bytes)}" if attempt.fragment_bytes else ""
    lines.append(f"            {_parts(attempt.memory)}{fragments} = {_size(attempt)}")
    if attempt.host_bytes:
        have = "" if made.host_bytes is None else f" of {_gib(made.host_bytes)}"
        short = ": host memory runs out" if made.outcome == "host OOM" else ""
        lines.append(f"  host      {_gib(attempt.host_bytes)}{have} of host memory{short}")
    if made.time is not None:
        lines += _time_lines(made.time, made.fits)
    if not made.attempt.fits:
        lines.append(f"  devices   {_count_needed(made.fewest_devices, devices)}")
    if not made.fits:
        lines += [
            f"  {'instead' if index == 0 else '':<9} {_alternative(alternative, devices, made.host_bytes)}"
            for index, alternative in enumerate(made.alternatives)
        ]
        if any(alternative.attempt.host_bytes for alternative in made.alternatives):
            lines.append(f"  note      {_HOST_NOTE}")
    return lines + [f"  {'assumes' if index == 0 else '':<9} {text}" for index, text in enumerate(assumptions_of(made))]


def _time_lines(time: TrainingTime, fits: bool) -> Iterator[str]:
    """How long and how dear; of what does not fit, as if it did: that is a reason of its own."""
    fitted = "" if fits else "even if it fitted: "
    tokens = format_count(time.tokens)
    yield (
        f"  time      {fitted}{time.passes} x {format_count(time.num_parameters)} x {tokens} tokens = "
        f"{time.flops:.2g} FLOP, at {time.mfu:.0%} of {format_count(time.peak_flops_per_second, 'FLOP/s')} "
        f"{_long(time.compute_seconds)}"
        + (", with layers computed again" if time.recomputes else "")
        + (f", {time.bubble:.0%} of it waiting for the pipeline" if time.bubble >= 0.005 else "")
    )
    if time.ways:
        told = ", ".join(f"{name} {ratio:.2g}x" for name, ratio in time.ways.items())
        yield f"  links     the computing takes 1, messages take: {told}"
    if time.link_seconds:
        said = ", ".join(f"{name} {_long(seconds)}" for name, seconds in time.link_seconds.items())
        yield f"            as set up: {said}, {time.link_to_compute:.2g}x; together {_long(time.seconds)}"
    price = (
        "price unknown" if time.dollars is None else f"${time.dollars:,.0f} at ${time.dollars_per_hour:,.2f} an hour"
    )
    yield f"  cost      {time.device_hours:,.0f} device hours, {price}"


def _long(seconds: float) -> str:
    """Years, days or less."""
    if seconds >= _YEAR:
        return f"{seconds / _YEAR:,.3g} years"
    if seconds >= 2 * 3600:
        return f"{seconds / _DAY:,.3g} days" if seconds >= 2 * _DAY else f"{seconds / 3600:.3g} hours"
    return format_seconds(seconds)


def _states_line(made: TrainingAnswer) -> str:
    """69 G parameters x 16 B = 1,028 GiB; 8 devices hold 192 GiB: 5.4x too little before the first activation."""
    setup, held = made.attempt.setup, sum(made.device_bytes)
    optimizer, count = OPTIMIZERS[setup.optimizer], len(made.device_bytes)
    holds = f"{count} devices hold" if count > 1 else "the device holds"
    if setup.lora_rank is None:
        text = (
            f"{format_count(made.num_parameters)} parameters x {optimizer.bytes_per_parameter} B "
            f"({optimizer.weight_bytes} weights + {optimizer.gradient_bytes} gradients + {optimizer.state_bytes} "
            f"optimizer: {optimizer.states})"
        )
    else:
        frozen = setup.frozen_format or "16 bits"
        text = f"{format_count(made.num_parameters)} frozen parameters in {frozen} and adapters"
    text += f" = {_gib(made.states_bytes)}; {holds} {_gib(held)}"
    if setup.offload == "none" and made.states_bytes > held:
        text += f": {made.states_bytes / held:.1f}x too little before the first activation"
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
    total, room = attempt.needed_bytes, attempt.room_bytes
    edge = ", near the edge: may run out" if attempt.fits and attempt.tight else ""
    return f"{_gib(total)} of {_gib(room)} a device{edge}"


def _count_needed(fewest: int | None, count: int) -> str:
    if fewest is None:
        return "no number of them: what a layer at work takes does not divide"
    return f"{fewest:,} of them would hold it, here {'is' if count == 1 else 'are'} {count}"


def _alternative(alternative: Alternative, count: int, host_bytes: int | None) -> str:
    attempt = alternative.attempt
    host = f" and {_gib(attempt.host_bytes)} of host memory" if attempt.host_bytes else ""
    match attempt.outcome(host_bytes):
        case "runs":
            verdict = "fits"
        case "host OOM":
            verdict = "host memory runs out"
        case "GPU OOM":
            verdict = f"does not fit ({_count_needed(alternative.fewest_devices, count)})"
    return f"{alternative.name}: {verdict}, {_size(attempt)}{host}"


def _gib(num_bytes: float) -> str:
    """GiB throughout, so that a sum of terabytes and a device's memory can be compared by eye."""
    value = num_bytes / _GIB
    return f"{value:,.0f} GiB" if value >= 100 else f"{value:.1f} GiB" if value >= 1 else f"{value:.2f} GiB"
