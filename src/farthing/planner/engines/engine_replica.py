"""One copy of a model under an engine: its ranks with what each may take, the room for keys and values, step times.

Equal devices of one node, divided as a row or a plan says. Knows no load.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from farthing.errors import UnsupportedError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.defaults import default
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec
from farthing.planner.engines.engine_profile import EngineProfile
from farthing.planner.timing.device_class import device_class, format_class, link_class
from farthing.planner.timing.efficiency import Efficiency, LinkEfficiency
from farthing.planner.timing.load_steps import StepUse
from farthing.planner.timing.step_work import Speeds, WorkLines, work_seconds

_ALONE = 1e30  # bytes/s of a link that nothing crosses


@dataclass(frozen=True, slots=True)
class Stage:
    """`spec`: one rank's part. `memory_bytes`: of the stage's smallest device."""

    spec: ModelSpec
    work: WorkLines
    speeds: Speeds
    efficiency: Efficiency
    link: LinkEfficiency
    send: LinkEfficiency
    memory_bytes: float | None


@dataclass(frozen=True, slots=True)
class Replica:
    """`kv_tokens`: positions that fit beside the weights, all sequences together; None where the memory is unknown."""

    stages: tuple[Stage, ...]
    engine: EngineProfile
    kv_tokens: int | None

    def stage_seconds(self, use: StepUse) -> list[float]:
        return [
            work_seconds(
                stage.work.at(use),
                stage.speeds,
                stage.efficiency,
                stage.link,
                stage.send,
            )
            for stage in self.stages
        ]

    def seconds(self, uses: Iterable[StepUse]) -> float:
        """Steps one after the other; those that overlap take as long as the slowest stage."""
        total = 0.0
        for use in uses:
            stages = self.stage_seconds(use)
            total += use.times * (max(stages) if use.overlapped else sum(stages))
        return total

    def running(self, tokens_each: float) -> int:
        """Sequences of so many positions that the pool holds, at least one."""
        if self.kv_tokens is None:
            return self.engine.max_num_seqs
        return max(1, int(self.kv_tokens // max(1.0, tokens_each)))


def replica_of(
    spec: ModelSpec, accelerators: Sequence[Accelerator], tp: int, pp: int, engine: EngineProfile
) -> Replica:
    """UnsupportedError for sizes that do not divide, a rate or a bandwidth that nobody knows."""
    ranks = _ranks(spec, tp)
    stages = []
    for index, (part, work) in enumerate(_parts(spec, ranks, pp)):
        devices = accelerators[index * tp : (index + 1) * tp]
        stages.append(_stage(part, work, devices, engine, tp / ranks))
    rooms = [
        engine.memory.kv_tokens(stage.spec, stage.memory_bytes, tp=tp)
        for stage in stages
        if stage.memory_bytes is not None
    ]
    return Replica(tuple(stages), engine, min(rooms) if len(rooms) == len(stages) else None)


@lru_cache(maxsize=64)
def _parts(spec: ModelSpec, tp: int, pp: int) -> tuple[tuple[ModelSpec, WorkLines], ...]:
    """Equal stages are asked once."""
    known: dict[object, WorkLines] = {}
    parts = []
    for part in parallelize(spec, tp, pp):
        ends = part.entry_ops, part.distinct_layers, part.exit_ops
        if ends not in known:
            known[ends] = WorkLines(part)
        parts.append((part, known[ends]))
    return tuple(parts)


def _ranks(spec: ModelSpec, tp: int) -> int:
    """As many ranks as divide the heads: of 12 chips, 8 that are half as fast again."""
    heads = spec.layers[0].attention.num_heads
    return tp if heads % tp == 0 else 2 ** int(math.log2(tp))


def _stage(
    spec: ModelSpec, work: WorkLines, devices: Sequence[Accelerator], engine: EngineProfile, scale: float
) -> Stage:
    """`scale`: devices for each rank. The slowest device sets the pace."""
    plain = spec.precision.activation_dtype
    layer_math = spec.precision.format.math
    slowest = min(devices, key=nominal_bandwidth)
    rates = [nominal_rate(device, layer_math, engine) for device in devices]
    plain_rates = [nominal_rate(device, plain, engine) for device in devices]
    joined = link_class(slowest, len(devices))
    onward = link_class(slowest, 2 if "bridge" in slowest.scale_up.kind else max(2, len(devices)))
    memories = [float(device.memory_bytes) for device in devices if device.memory_bytes is not None]
    return Stage(
        spec=spec,
        work=work,
        speeds=Speeds(
            bandwidth=nominal_bandwidth(slowest) * scale,
            layer_rate=min(rates) * scale,
            plain_rate=min(plain_rates) * scale,
            link=nominal_link(slowest, joined, len(devices)) if len(devices) > 1 else _ALONE,
            stage_link=nominal_link(slowest, onward, 2),
        ),
        efficiency=engine.efficiency(device_class(slowest), format_class(spec.precision.format)),
        link=engine.link(joined),
        send=engine.link(onward),
        memory_bytes=min(memories) * scale if len(memories) == len(devices) else None,
    )


def nominal_bandwidth(accelerator: Accelerator) -> float:
    if accelerator.bandwidth is None:
        raise UnsupportedError(f"the memory bandwidth of {accelerator.id} is not known", fix="name other hardware")
    return accelerator.bandwidth.value


def nominal_rate(accelerator: Accelerator, math_name: str, engine: EngineProfile) -> float:
    """FLOP/s in a math, or in one of the same width that the device has: of 16 bits, bf16 serves for fp16."""
    names = [math_name]
    if math_name in ("fp16", "bf16"):
        names = ["fp16", "bf16"] if math_name == "fp16" else ["bf16", "fp16"]
        if engine.accumulates_in_16:
            names.insert(0, "fp16_acc16")
    for name in names:
        if name in accelerator.flops:
            return accelerator.flops[name].value
    raise UnsupportedError(f"the rate of {accelerator.id} in {math_name} is not known", fix="name other hardware")


def nominal_link(accelerator: Accelerator, kind: str, num_ranks: int) -> float:
    """Nominal bytes/s in one direction. In a mesh, a device reaches as many others as take part by a link each."""
    if kind in ("nvlink", "mesh", "fabric"):
        assert accelerator.scale_up.bytes_per_second is not None
        rate = accelerator.scale_up.bytes_per_second.value
        return rate * (num_ranks - 1) / 7 if kind == "mesh" else rate
    host = accelerator.host.bytes_per_second
    return host.value if host is not None else float(default("pcie_gen4_x16").value)
