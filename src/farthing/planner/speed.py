"""How long a batch of requests takes on a placement: prefill, time per token, tokens per second, all replicas together.

Steps are priced by planner/timing/forecast.py; here they go through the stages of a pipeline and over the replicas.
Arrivals, queues and finished requests that make room are the simulator's, not this file's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from farthing.errors import UnsupportedError
from farthing.ops.batch import BatchShape
from farthing.planner.engines.engine_profile import EngineProfile, find_engine
from farthing.planner.hardware import Hardware
from farthing.planner.layout import Layout, Placement
from farthing.planner.request import PlanRequest
from farthing.planner.timing.forecast import StepForecast, add_steps, forecast_step
from farthing.planner.timing.links import RankLink, engine_link, stage_link, tensor_link

_MAX_CHUNKS = 64


@dataclass(frozen=True, slots=True)
class Phase:
    """`seconds` of a prefill (all prompts of a batch) or of one decode step; `tokens_per_second` of all replicas.

    `step`: the work that it is made of, of all stages: more than `seconds` where stages overlap.
    """

    seconds: float
    tokens_per_second: float
    step: StepForecast


@dataclass(frozen=True, slots=True)
class Speed:
    """`batch` requests from prompt to end. `output_tokens_per_second` counts the prefill's time too."""

    batch: int
    prefill: Phase
    decode: Phase
    request_seconds: float
    output_tokens_per_second: float


def engine_of_request(request: PlanRequest) -> EngineProfile | None:
    """The profile of the engine that a request names; UsageError for one of which nothing is known."""
    return None if request.engine is None else find_engine(request.engine)


def max_running(placement: Placement, request: PlanRequest) -> int:
    """Requests of the asked lengths that run at a time, dealt evenly: what the KV memory of the smallest replica holds,
    at most `max_num_seqs`, times the replicas."""
    smallest = min(placement.sequences_per_replica(request.prompt_tokens + request.answer_tokens))
    return placement.layout.replicas * min(request.max_num_seqs, smallest)


def speed_of(
    placement: Placement, hardware: Hardware, request: PlanRequest, batch: int, engine: EngineProfile | None = None
) -> Speed:
    """Requests are dealt evenly to the replicas; the slowest replica sets the time.

    In a pipeline, a replica's sequences go round in as many groups as there are stages: a token takes the sum of the
    stages' times for one group, or, where one stage is slower than the others, that stage's time for every group.
    `engine`: what runs it; None is what the request names, else a good engine, and Farthing's own on this machine
    (planner/timing/forecast.py). UnsupportedError for what has no forecast: an unknown rate, or a format that the
    engine here has no kernel for.
    """
    engine = engine or engine_of_request(request)
    weight_format = placement.layout.stages[0].precision.format
    if any(rank.device.widens(weight_format) for rank in placement.ranks):
        raise UnsupportedError(f"Farthing's engine has no kernel for {weight_format.name} here: it widens, slowly")
    per_replica = -(-batch // placement.layout.replicas)
    shapes = list(_prefill_steps(per_replica, request.prompt_tokens, request.max_batch_tokens))
    num_steps = sum(times for _, times in shapes)
    steps = [(_stage_times(placement, hardware, request, shape, num_steps, engine), times) for shape, times in shapes]
    prefill_seconds = _pipeline_seconds(steps)
    num_groups = min(placement.layout.pp, per_replica)
    context = request.prompt_tokens + request.answer_tokens // 2
    group = BatchShape.decode(context, -(-per_replica // num_groups))
    stages = _stage_times(placement, hardware, request, group, num_groups, engine)
    decode = add_steps((stage, 1) for stage in stages)
    decode_seconds = _round_seconds(stages, num_groups)
    total = prefill_seconds + (request.answer_tokens - 1) * decode_seconds  # the prefill yields the first token
    prefill = add_steps((stage, times) for stages, times in steps for stage in stages)
    return Speed(
        batch=batch,
        prefill=Phase(prefill_seconds, batch * request.prompt_tokens / prefill_seconds, prefill),
        decode=Phase(decode_seconds, batch / decode_seconds, decode),
        request_seconds=total,
        output_tokens_per_second=batch * request.answer_tokens / total,
    )


def _pipeline_seconds(steps: Sequence[tuple[Sequence[StepForecast], int]]) -> float:
    """Steps that follow each other through the stages: the slowest stage of each, and the others of the last one."""
    last, _ = steps[-1]
    others = sum(stage.seconds for stage in last) - max(stage.seconds for stage in last)
    return others + sum(times * max(stage.seconds for stage in stages) for stages, times in steps)


def _prefill_steps(batch: int, input_tokens: int, max_batch_tokens: int) -> Iterator[tuple[BatchShape, int]]:
    """The prompts of a batch as steps of at most `max_batch_tokens`, and how often each comes: whole prompts together,
    long ones in chunks."""
    together = min(batch, max(1, max_batch_tokens // input_tokens))
    for count, times in ((together, batch // together), (batch % together, 1)):
        if count:
            for chunk, done, alike in _chunks(input_tokens, max_batch_tokens):
                yield BatchShape.of([(chunk, done)] * count), times * alike


def _chunks(input_tokens: int, max_batch_tokens: int) -> Iterator[tuple[int, int, int]]:
    """(tokens, tokens before them, how many such): a prompt in chunks. Of very many chunks, runs are priced by the one
    in their middle: a chunk's time grows evenly with what is before it."""
    whole, rest = divmod(input_tokens, max_batch_tokens)
    run = -(-whole // _MAX_CHUNKS) or 1
    for first in range(0, whole, run):
        alike = min(run, whole - first)
        yield max_batch_tokens, (first + alike // 2) * max_batch_tokens, alike
    if rest:
        yield rest, whole * max_batch_tokens, 1


def _stage_times(
    placement: Placement,
    hardware: Hardware,
    request: PlanRequest,
    shape: BatchShape,
    num_groups: int,
    engine: EngineProfile | None = None,
) -> list[StepForecast]:
    """One of `num_groups` batches through every stage of the slowest replica; a stage is as slow as its slowest
    device."""
    replicas = [
        [
            _stage_time(placement, hardware, request, shape, replica, stage, engine)
            for stage in range(placement.layout.pp)
        ]
        for replica in distinct_replicas(placement.layout, hardware)
    ]
    return max(replicas, key=lambda stages: _round_seconds(stages, num_groups))


def distinct_replicas(layout: Layout, hardware: Hardware) -> list[int]:
    """One replica of each kind: those on equal devices, equally spread over nodes, take equal times."""
    kinds: dict[object, int] = {}
    for replica in range(layout.replicas):
        first = layout.device_index(replica, 0, 0)
        part = slice(first, first + layout.pp * layout.tp)
        names = tuple(device.name for device in hardware.devices[part])
        nodes = tuple(node - hardware.nodes[first] for node in hardware.nodes[part])
        kinds.setdefault((names, nodes), replica)
    return list(kinds.values())


def _round_seconds(stages: Sequence[StepForecast], num_groups: int) -> float:
    """Until every group has passed all stages once, when they follow each other without a gap."""
    seconds = [stage.seconds for stage in stages]
    return max(sum(seconds), num_groups * max(seconds))


def _stage_time(
    placement: Placement,
    hardware: Hardware,
    request: PlanRequest,
    shape: BatchShape,
    replica: int,
    stage: int,
    engine: EngineProfile | None,
) -> StepForecast:
    layout = placement.layout
    first = layout.device_index(replica, stage, 0)
    devices = {rank.device.name: rank.device for rank in placement.ranks[first : first + layout.tp]}
    links = links_of(layout, hardware, request, replica, stage, engine)
    forecasts = [forecast_step(layout.stages[stage], shape, device, links, engine) for device in devices.values()]
    return max(forecasts, key=lambda forecast: forecast.seconds)


def links_of(
    layout: Layout,
    hardware: Hardware,
    request: PlanRequest,
    replica: int,
    stage: int,
    engine: EngineProfile | None = None,
) -> tuple[RankLink | None, RankLink | None]:
    """Under the collectives of a stage, and under its send to the next stage."""
    engine = engine or engine_of_request(request)
    network = request.network_bytes_per_second()
    first = layout.device_index(replica, stage, 0)
    following = first + layout.tp
    has_next = stage + 1 < layout.pp
    accelerators = [device.accelerator for device in hardware.devices[first : following + has_next]]
    nodes = hardware.nodes[first : following + has_next]
    group = [accelerator for accelerator in accelerators[: layout.tp] if accelerator is not None]
    kinds = {None if one is None else one.id for one in accelerators}  # of the next stage, too
    collective = send = None
    if engine is not None and group and len(set(nodes)) == 1 and len(kinds) == 1:
        if layout.tp > 1:
            collective = engine_link(group[0], layout.tp, engine, request.p2p)
        return collective, engine_link(group[0], 2, engine, request.p2p) if has_next else None
    if layout.tp > 1:
        collective = tensor_link(group, p2p=request.p2p, one_node=len(set(nodes[: layout.tp])) == 1, network=network)
    if has_next and (last := accelerators[-2]) and (next_ := accelerators[-1]):
        num_ranks, one_node = layout.tp * layout.pp, nodes[-2] == nodes[-1]
        send = stage_link(last, next_, num_ranks, p2p=request.p2p, one_node=one_node, network=network)
    return collective, send
