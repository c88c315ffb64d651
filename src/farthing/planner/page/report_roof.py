"""The roofline of a plan: the roof of its device in its math, and where its steps lie under it.

Knows no words and no drawing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from farthing.ops.batch import BatchShape
from farthing.planner.hardware import Hardware
from farthing.planner.page import report_sources as ask
from farthing.planner.plan import Plan


@dataclass(frozen=True, slots=True)
class RoofPoint:
    """A step: FLOPs per byte moved, and the FLOP/s it comes to with everything that takes time. `phase`: prefill or
    decode. `batches`: of how many requests at a time (those that come to the same step together)."""

    phase: str
    batches: tuple[int, ...]
    intensity: float
    flops_per_second: float
    bound: str


@dataclass(frozen=True, slots=True)
class Roof:
    ceiling: ask.Ceiling
    points: tuple[RoofPoint, ...]

    @property
    def ridge(self) -> float:
        """FLOPs per byte where the bandwidth stops being what limits."""
        return self.ceiling.rate / self.ceiling.bandwidth


def roof_of(plan: Plan, hardware: Hardware) -> Roof | None:
    """Of the fastest answer's first device; None where its roof is not known."""
    ceiling = ask.ceiling(plan.best.placement)
    if ceiling is None:
        return None
    return Roof(ceiling, tuple(_points(plan, hardware)))


def _points(plan: Plan, hardware: Hardware) -> Iterator[RoofPoint]:
    placement, request = plan.best.placement, plan.request
    layout = placement.layout
    batches = sorted({1, plan.best.speed.batch, plan.best.full.batch})
    for phase in ("prefill", "decode"):
        shapes: dict[BatchShape, list[int]] = {}
        for batch in batches:
            per_replica = -(-batch // layout.replicas)
            if phase == "prefill":
                prompt = min(request.prompt_tokens, request.max_batch_tokens)
                shape = BatchShape.prefill(prompt, min(per_replica, max(1, request.max_batch_tokens // prompt)))
            else:
                context = request.prompt_tokens + request.answer_tokens // 2
                shape = BatchShape.decode(context, -(-per_replica // min(layout.pp, per_replica)))
            shapes.setdefault(shape, []).append(batch)
        for shape, alike in shapes.items():
            step = ask.rank_step(placement, hardware, request, shape)
            if step.moved_bytes and step.flops:
                rate = step.flops / step.seconds
                yield RoofPoint(phase, tuple(alike), step.flops / step.moved_bytes, rate, step.bound)
