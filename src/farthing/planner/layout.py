"""How devices are dealt to a model: replicas of pipeline stages of tensor-parallel ranks, and what each rank holds.

A rank's memory is the same plan that the engine allocates from (models/memory). Knows no seconds and no prices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farthing.errors import DoesNotFitError, UnsupportedError
from farthing.hardware.defaults import default
from farthing.models.graph_memory import kernel_memory
from farthing.models.memory import MemoryPlan, activation_peak_bytes, plan_memory
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import Device


@dataclass(frozen=True, slots=True)
class Layout:
    """`replicas` copies, each of `pp` stages of `tp` ranks. `stages`: the description of one rank of each stage."""

    tp: int
    pp: int
    replicas: int
    stages: tuple[ModelSpec, ...]

    @property
    def num_devices(self) -> int:
        return self.tp * self.pp * self.replicas

    def device_index(self, replica: int, stage: int, rank: int) -> int:
        """Ranks of a stage are neighbours, stages follow each other, replicas come last."""
        return (replica * self.pp + stage) * self.tp + rank


@dataclass(frozen=True, slots=True)
class RankMemory:
    """One device's part. `memory.num_blocks` is 0 where not even one sequence of the context fits, which takes
    `sequence_bytes` of KV."""

    device: Device
    stage: int
    num_layers: int
    memory: MemoryPlan
    sequence_bytes: int

    @property
    def shortfall_bytes(self) -> int:
        """What is missing for one sequence; negative is what is left beside it."""
        memory = self.memory
        fixed = memory.weights_bytes + memory.activation_bytes + memory.graph_bytes + memory.reserve_bytes
        return fixed + self.sequence_bytes - memory.budget_bytes


@dataclass(frozen=True, slots=True)
class Placement:
    """A layout on its devices, with the memory of every rank in order of devices."""

    layout: Layout
    ranks: tuple[RankMemory, ...]
    context: int

    @property
    def fits(self) -> bool:
        return all(rank.memory.num_blocks for rank in self.ranks)

    @property
    def kv_tokens_per_replica(self) -> tuple[int, ...]:
        """A sequence has its KV on every rank of its replica, so the rank with the least room decides."""
        size = self.layout.tp * self.layout.pp
        starts = range(0, len(self.ranks), size)
        return tuple(min(rank.memory.kv_tokens for rank in self.ranks[start : start + size]) for start in starts)

    @property
    def kv_tokens(self) -> int:
        return sum(self.kv_tokens_per_replica)

    def sequences_per_replica(self, length: int) -> tuple[int, ...]:
        """Sequences of so many tokens that each replica holds, in whole blocks."""
        block_size = self.ranks[0].memory.block_size
        needed = -(-length // block_size) * block_size
        return tuple(tokens // needed for tokens in self.kv_tokens_per_replica)

    @property
    def num_sequences(self) -> int:
        """Sequences of the full context that all replicas hold together."""
        return sum(self.sequences_per_replica(self.context))

    @property
    def shortfall_bytes(self) -> int:
        return max(rank.shortfall_bytes for rank in self.ranks)


def layouts(spec: ModelSpec, num_devices: int, request: PlanRequest) -> Iterator[Layout]:
    """Every division of the devices that the request allows and the model's sizes permit, few ranks first.

    UnsupportedError, naming the size that does not divide, if the request leaves exactly one and it is impossible.
    """
    reason: UnsupportedError | None = None
    found = False
    for tp in _candidates(request.tp, num_devices):
        for pp in _candidates(request.pp, num_devices // tp):
            replicas = request.replicas or num_devices // (tp * pp)
            used = tp * pp * replicas
            if used > num_devices or (used != num_devices and request.replicas is None):
                continue
            try:
                yield Layout(tp, pp, replicas, parallelize(spec, tp, pp))
                found = True
            except UnsupportedError as error:
                reason = error
    if not found:
        raise reason or UnsupportedError(
            f"{num_devices} device{'s' * (num_devices > 1)} can't be divided into {_asked(request)}",
            fix=f"choose --tp, --pp and --replicas whose product is {num_devices}; with --replicas, it may be less",
        )


def _asked(request: PlanRequest) -> str:
    """'2 replicas of tp 4 x pp auto'."""
    replicas = "replicas" if request.replicas is None else f"{request.replicas} replica{'s' * (request.replicas > 1)}"
    return f"{replicas} of tp {request.tp or 'auto'} x pp {request.pp or 'auto'}"


def _candidates(asked: int | None, limit: int) -> Sequence[int]:
    if asked is not None:
        return (asked,) if asked <= limit else ()
    return [n for n in range(1, limit + 1) if limit % n == 0]


def place(layout: Layout, devices: Sequence[Device], request: PlanRequest, context: int) -> Placement:
    """What every device would hold. Nothing is refused here: what does not fit has no KV blocks."""
    known: dict[tuple[int, str], RankMemory] = {}  # equal devices hold equal parts
    ranks = []
    for replica in range(layout.replicas):
        for stage, spec in enumerate(layout.stages):
            for rank in range(layout.tp):
                device = devices[layout.device_index(replica, stage, rank)]
                if (stage, device.name) not in known:
                    memory = _rank_memory(spec, device, request, context, tp=layout.tp)
                    blocks = -(-context // request.block_size)
                    sequence_bytes = blocks * request.block_size * spec.kv_bytes_per_token
                    known[stage, device.name] = RankMemory(device, stage, len(spec.layers), memory, sequence_bytes)
                ranks.append(known[stage, device.name])
    return Placement(layout, tuple(ranks), context)


def collective_bytes(tp: int) -> int:
    """Buffers of the collectives, as NVIDIA's planner reserves them; point-to-point sends take next to nothing."""
    return int(default("aic_nccl_bytes").value["tp2" if tp == 2 else "tp4" if tp <= 4 else "tp8"])


def _rank_memory(spec: ModelSpec, device: Device, request: PlanRequest, context: int, *, tp: int) -> MemoryPlan:
    reserve = device.reserve_bytes + (collective_bytes(tp) if tp > 1 and device.kind == "cuda" else 0)
    widens = device.widens(spec.precision.format)
    graphs = 0
    partials: int | None = None
    if device.captures:
        graphs, partials = kernel_memory(
            spec,
            max_num_seqs=request.max_num_seqs,
            max_batch_tokens=request.max_batch_tokens,
            max_model_len=context,
            budget_bytes=device.memory_bytes,
            widens=widens,
        )
    try:
        return plan_memory(
            spec,
            budget_bytes=device.memory_bytes,
            reserve_bytes=reserve,
            block_size=request.block_size,
            max_num_seqs=request.max_num_seqs,
            max_batch_tokens=request.max_batch_tokens,
            max_model_len=context,
            widens=widens,
            graph_bytes=graphs,
            partial_bytes=partials,
        )
    except DoesNotFitError:
        activations = activation_peak_bytes(
            spec, request.max_batch_tokens, request.max_num_seqs, context, widens=widens, partial_bytes=partials
        )
        return MemoryPlan(
            device.memory_bytes,
            spec.weight_bytes,
            spec.kv_bytes_per_token,
            request.block_size,
            0,
            activations,
            reserve,
            graphs,
        )
