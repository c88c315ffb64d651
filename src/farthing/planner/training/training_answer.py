"""Can these devices train this model? If not: by how much, where the bytes go, how many it takes, what would fit.

The answer as values. Bytes are those of models/training.py, the use of the devices is found by training_search.py, time
and money come from training_time.py, and training.py writes it down. Knows no flags.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from farthing.errors import UsageError
from farthing.models.spec import ModelSpec
from farthing.models.training import TrainingSetup, training_memory
from farthing.planner.training.training_search import Attempt, Outcome, best_attempt, fastest_attempt, fewest_devices
from farthing.planner.training.training_time import TrainingTime

_LORA_RANK = 16
Method = Literal["full", "lora", "qlora"]
METHODS: tuple[Method, ...] = ("full", "lora", "qlora")


@dataclass(frozen=True, slots=True)
class Alternative:
    """A cheaper way on the same devices: `attempt` is its smallest; `fewest_devices` where that does not fit."""

    name: str
    attempt: Attempt
    fewest_devices: int | None


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """`attempt`: the best that fits, else the smallest. `states_bytes`: weights, gradients and optimizer states of one
    copy of the model. `fewest_devices` of this kind that hold it; None if it fits, or if no number does.
    `host_bytes`: of all nodes together; None: enough. `time`: None where nobody asked, or a rate is not known."""

    model: str
    hardware: str
    num_parameters: int
    states_bytes: int
    device_bytes: tuple[int, ...]
    reserve_bytes: int
    attempt: Attempt
    fewest_devices: int | None
    alternatives: tuple[Alternative, ...]
    host_bytes: int | None = None
    time: TrainingTime | None = None

    @property
    def outcome(self) -> Outcome:
        """Of the best attempt: runs, GPU OOM or host OOM."""
        return self.attempt.outcome(self.host_bytes)

    @property
    def fits(self) -> bool:
        return self.outcome == "runs"


def answer(
    spec: ModelSpec,
    device_bytes: Sequence[int],
    reserve_bytes: int,
    *,
    model: str,
    hardware: str,
    setup: TrainingSetup | None = None,
    host_bytes: int | None = None,
    seconds_of: Callable[[TrainingSetup], float] | None = None,
) -> TrainingAnswer:
    """Whether all of these devices together train the model; of unequal devices the smallest decides.

    Of `setup`, the batch, the optimizer, adapters and offload are taken; how the devices are used is searched: as
    `seconds_of` is least, or, without it, with the model in as few parts as fit.
    """
    if not device_bytes or min(device_bytes) <= reserve_bytes:
        raise UsageError(f"{hardware} has no memory beyond its reserve", fix="name a device with a known memory size")
    wanted = replace(setup or TrainingSetup(), tp=1, pp=1, data_parallel=1, zero_stage=0, recompute="none")
    room, num_devices = min(device_bytes) - reserve_bytes, len(device_bytes)
    whole = training_memory(spec, replace(wanted, offload="none"))
    fastest = fastest_attempt(spec, wanted, num_devices, room, seconds_of) if seconds_of is not None else None
    attempt = fastest or best_attempt(spec, wanted, num_devices, room)
    return TrainingAnswer(
        model=model,
        hardware=hardware,
        num_parameters=spec.num_parameters,
        states_bytes=whole.weights_bytes + whole.gradient_bytes + whole.optimizer_bytes,
        device_bytes=tuple(device_bytes),
        reserve_bytes=reserve_bytes,
        attempt=attempt,
        fewest_devices=None if attempt.fits else fewest_devices(spec, wanted, room),
        alternatives=()
        if attempt.outcome(host_bytes) == "runs"
        else tuple(_alternatives(spec, wanted, num_devices, room)),
        host_bytes=host_bytes,
    )


def setup_of(method: Method, *, sequence_tokens: int = 4096, micro_batch: int = 1) -> TrainingSetup:
    """Full training in 16 bits with AdamW, adapters beside 16-bit weights, or beside 4-bit weights."""
    setup = TrainingSetup(micro_batch=micro_batch, sequence_tokens=sequence_tokens)
    if method == "full":
        return setup
    return replace(setup, lora_rank=_LORA_RANK, frozen_format="int4" if method == "qlora" else None)


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
