"""From a plan to what is simulated: its replicas with their KV blocks, scheduling limits and stages that can be priced.

Knows no workload and no scheduler.
"""

from dataclasses import dataclass
from typing import Literal

from farthing.errors import UnsupportedError
from farthing.planner.hardware import Hardware
from farthing.planner.layout import Placement
from farthing.planner.request import PlanRequest
from farthing.planner.simulation.simulated_replica import ReplicaShape
from farthing.planner.speed import links_of
from farthing.planner.timing.batch_pricer import StagePricer

Dealing = Literal["least-loaded", "round-robin"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """Replicas behind one door. `request_seconds`: of the host, from a request's arrival to its place in a queue."""

    replicas: tuple[ReplicaShape, ...]
    dealing: Dealing = "least-loaded"
    request_seconds: float = 0.0


def deployment_of(
    placement: Placement, hardware: Hardware, request: PlanRequest, *, dealing: Dealing = "least-loaded"
) -> Deployment:
    """Of a placement that fits. UnsupportedError for what has no forecast, as the plan's own."""
    assert placement.fits
    weight_format = placement.layout.stages[0].precision.format
    if any(rank.device.widens(weight_format) for rank in placement.ranks):
        raise UnsupportedError(f"Farthing's engine has no kernel for {weight_format.name} here: it widens, slowly")
    known: dict[tuple[object, ...], StagePricer] = {}
    replicas = []
    for replica, kv_tokens in enumerate(placement.kv_tokens_per_replica):
        stages = tuple(
            _stage(placement, hardware, request, replica, stage, known) for stage in range(placement.layout.pp)
        )
        replicas.append(
            ReplicaShape(
                stages=stages,
                num_blocks=kv_tokens // request.block_size,
                block_size=request.block_size,
                max_num_seqs=request.max_num_seqs,
                max_batch_tokens=request.max_batch_tokens,
                context=placement.context,
                overlaps=all(rank.device.overlaps for rank in placement.ranks),
            )
        )
    return Deployment(tuple(replicas), dealing)


def _stage(
    placement: Placement,
    hardware: Hardware,
    request: PlanRequest,
    replica: int,
    stage: int,
    known: dict[tuple[object, ...], StagePricer],
) -> tuple[StagePricer, ...]:
    """A pricer for each different device of a stage; equal ones share it."""
    layout = placement.layout
    first = layout.device_index(replica, stage, 0)
    devices = {rank.device.name: rank.device for rank in placement.ranks[first : first + layout.tp]}
    links = links_of(layout, hardware, request, replica, stage)
    pricers = []
    for name, device in devices.items():
        key = (stage, name, links)
        if key not in known:
            known[key] = StagePricer(layout.stages[stage], device, links)
        pricers.append(known[key])
    return tuple(pricers)
