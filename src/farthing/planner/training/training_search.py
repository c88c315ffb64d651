"""How to use a number of devices for training: tensor, pipeline and data parallel ranks, ZeRO stage, recomputation.

Finds the best setup that fits, and how many devices one takes. Compares bytes; how long a setup takes is told to it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from farthing.errors import UnsupportedError
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec
from farthing.models.training import RECOMPUTE, TrainingMemory, TrainingSetup, heaviest_rank

_MAX_TP = 8  # beyond a node, tensor parallelism talks over the network
_MAX_DEVICES = 4096
_TIGHT = 0.9  # the median published run took 1.1 times the forecast: benchmarks/training-memory.md
# Weights that are gathered and freed layer by layer break up the allocator's memory: GMLake (Guo et al. 2024, arXiv
# 2401.08156) finds 15 % of fragments on average, up to 33 %, in fine-tuning with ZeRO, recomputation and LoRA.
FRAGMENTATION = 0.15

Outcome = Literal["runs", "GPU OOM", "host OOM"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to train, the bytes of its heaviest rank, and the `room_bytes` of a device (memory minus reserve)."""

    setup: TrainingSetup
    memory: TrainingMemory
    room_bytes: int

    @property
    def fragment_bytes(self) -> int:
        """What the allocator can't use between gathered weights (ZeRO 3)."""
        gathers = self.setup.zero_stage == 3 and self.setup.data_parallel > 1
        return int(FRAGMENTATION * self.memory.total_bytes) if gathers else 0

    @property
    def needed_bytes(self) -> int:
        """Of the heaviest device, fragments included."""
        return self.memory.total_bytes + self.fragment_bytes

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.room_bytes

    @property
    def tight(self) -> bool:
        """Nearer to the edge than such a forecast is exact."""
        return self.needed_bytes > _TIGHT * self.room_bytes

    def outcome(self, host_bytes: int | None) -> Outcome:
        """How it ends, with so many bytes of host memory of all nodes together; None: enough."""
        if not self.fits:
            return "GPU OOM"
        return "host OOM" if host_bytes is not None and self.host_bytes > host_bytes else "runs"

    @property
    def host_bytes(self) -> int:
        """Host memory of all ranks."""
        return self.memory.host_bytes * self.setup.num_devices


def best_attempt(spec: ModelSpec, wanted: TrainingSetup, num_devices: int, room_bytes: int) -> Attempt:
    """The first that fits: the model in as few parts as possible (pipeline before tensor parallel), then as little
    recomputation, then as low a ZeRO stage. If none fits, the smallest. What is offloaded is always divided."""
    smallest: list[Attempt] = []
    for num_parts in (parts for parts in range(1, num_devices + 1) if num_devices % parts == 0):
        for tp, stages in _splits(spec, num_parts):
            split = replace(wanted, tp=tp, pp=len(stages), data_parallel=num_devices // num_parts)
            least = _attempt(stages, replace(split, zero_stage=3, recompute="full"), room_bytes)
            smallest.append(least)
            if least.memory.total_bytes <= room_bytes:
                zero_stages = range(4) if wanted.offload == "none" else (3,)
                setups = (replace(split, recompute=r, zero_stage=z) for r in RECOMPUTE for z in zero_stages)
                attempts = (_attempt(stages, setup, room_bytes) for setup in setups)
                if (found := next((attempt for attempt in attempts if attempt.fits), None)) is not None:
                    return found
    return min(smallest, key=lambda attempt: attempt.needed_bytes)


def fastest_attempt(
    spec: ModelSpec,
    wanted: TrainingSetup,
    num_devices: int,
    room_bytes: int,
    seconds_of: Callable[[TrainingSetup], float],
) -> Attempt | None:
    """Of every division, recomputation and ZeRO stage that fits, the one that takes least time; None if none does."""
    fitting: list[tuple[float, int, Attempt]] = []
    zero_stages = range(4) if wanted.offload == "none" else (3,)
    for num_parts in (parts for parts in range(1, num_devices + 1) if num_devices % parts == 0):
        for tp, stages in _splits(spec, num_parts):
            split = replace(wanted, tp=tp, pp=len(stages), data_parallel=num_devices // num_parts)
            for recompute in RECOMPUTE:
                for zero_stage in zero_stages if split.data_parallel > 1 else (0,):
                    attempt = _attempt(stages, replace(split, recompute=recompute, zero_stage=zero_stage), room_bytes)
                    if attempt.fits:
                        fitting.append((seconds_of(attempt.setup), len(fitting), attempt))
                        break  # a higher stage saves memory, not time
    return min(fitting)[-1] if fitting else None


def _attempt(stages: Sequence[ModelSpec], setup: TrainingSetup, room_bytes: int) -> Attempt:
    return Attempt(setup, heaviest_rank(stages, setup), room_bytes)


def _splits(spec: ModelSpec, num_parts: int) -> Iterator[tuple[int, tuple[ModelSpec, ...]]]:
    """Every (tp, stages) that divides the model into so many parts."""
    for tp in range(1, min(num_parts, _MAX_TP) + 1):
        if num_parts % tp == 0:
            try:
                yield tp, parallelize(spec, tp, num_parts // tp)
            except UnsupportedError:
                continue


def fewest_devices(spec: ModelSpec, wanted: TrainingSetup, room_bytes: int) -> int | None:
    """By bisection over the data parallel ranks: with ZeRO 3, more of them never need more memory each."""
    found: list[int] = []
    for num_parts in (1, 2, 4, 8, 16, 32, 64):
        for tp, stages in _splits(spec, num_parts):
            least = replace(wanted, tp=tp, pp=len(stages), zero_stage=3, recompute="full")
            low, high = 0, _MAX_DEVICES // num_parts
            if not _attempt(stages, replace(least, data_parallel=high), room_bytes).fits:
                continue
            while high - low > 1:
                middle = (low + high) // 2
                fits = _attempt(stages, replace(least, data_parallel=middle), room_bytes).fits
                low, high = (low, middle) if fits else (middle, high)
            found.append(high * num_parts)
    return min(found, default=None)
