"""Why a plan is as fast as it is, and what would make it faster: the bound, where a step's time goes, and remedies.

Each remedy is the plan forecast again with one thing changed: nothing is a rule of thumb but the power cap, whose
source stands with it. KV starvation is named where it binds: the pool, and not --max-num-seqs, ends the number of
sequences that run, and more of them would give more tokens. Pure functions. Knows no terminal;
planner/explain_report.py writes it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from farthing.errors import FarthingError, UnsupportedError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.ops.attention import Attention
from farthing.ops.linear import Embedding, Linear
from farthing.ops.moe import Experts
from farthing.planner.formats import candidate_formats, narrow_kv_format, precision_of
from farthing.planner.hardware import Hardware
from farthing.planner.layout import Layout, Placement, layouts, place
from farthing.planner.plan import Choice, Plan, choice_of
from farthing.planner.request import PlanRequest
from farthing.planner.speed import links_of, speed_of
from farthing.planner.timing.forecast import StepForecast
from farthing.planner.timing.roofline import Bound
from farthing.units import format_count

Part = Literal["weights", "kv_cache", "activations", "compute", "link", "latency"]
Kind = Literal["format", "kv-format", "split", "p2p", "replicas", "batch", "seats", "kv-room", "power"]

MIN_GAIN = 1.03
_NARROWER = ("fp8", "int8", "int4")
# Decode of one stream on a 3090: 35.4 tok/s at 350 W and at 250 W, 33.9 at 220 W (noonghunna/club-3090 issue 104).
POWER_CAP = 0.71
_ENERGY_GAIN_OF_CAP = 1.4
_MOSTLY_BANDWIDTH = 0.6


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change. `flag` makes it, where a flag can. `answer_gain`: how many times sooner a request is answered at the
    plan's batch; `throughput_gain`: how many times the tokens a second when full. `cost_factor`: of the hourly price;
    None is unknown. `energy_gain`: tokens a joule. `note`: what it takes or costs otherwise."""

    kind: Kind
    what: str
    flag: str
    answer_gain: float
    throughput_gain: float
    cost_factor: float | None = 1.0
    energy_gain: float = 1.0
    note: str = ""

    @property
    def gain(self) -> float:
        """The larger of both."""
        return max(self.answer_gain, self.throughput_gain)

    @property
    def gain_per_dollar(self) -> float:
        """Of an unknown price: as if it were the same money, and behind the others."""
        return self.gain / (self.cost_factor or 1.0)


@dataclass(frozen=True, slots=True)
class Starvation:
    """`running` sequences at a time in a replica where `seats` are allowed; with twice the KV room `gain` times the
    tokens a second."""

    running: int
    seats: int
    gain: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of the plan's layout. `prefill` and `decode`: seconds of the work by part, of all stages; they add up."""

    bound: Bound
    prefill: Mapping[Part, float]
    decode: Mapping[Part, float]
    starvation: Starvation | None
    remedies: tuple[Remedy, ...]


def explain(plan: Plan, config: ConfigReader, hardware: Hardware) -> Explanation:
    """Of a plan with choices. Remedies by gain per dollar, the largest first; those under 3 % are left out."""
    case = _Case(plan, plan.best, config, hardware)
    found = [remedy for remedy in case.remedies() if remedy.gain >= MIN_GAIN or remedy.energy_gain >= MIN_GAIN]
    found.sort(key=lambda one: (one.cost_factor is None, -one.gain_per_dollar, -one.gain))
    layout, speed = plan.best.placement.layout, plan.best.speed
    return Explanation(
        bound=speed.decode.step.bound,
        prefill=ledger(speed.prefill.step, layout),
        decode=ledger(speed.decode.step, layout),
        starvation=starvation(plan.best, hardware, plan.request),
        remedies=tuple(found),
    )


def ledger(step: StepForecast, layout: Layout) -> dict[Part, float]:
    """The step's seconds by part. Time at the memory's limit is divided by the kind of op that it is spent in."""
    kinds = {op.name: op for stage in layout.stages for _, op in stage.named_ops()}
    read: dict[Part, float] = {"weights": 0.0, "kv_cache": 0.0, "activations": 0.0}
    for op in step.ops:
        if op.bound != "bandwidth":
            continue
        kind = kinds.get(op.name)
        is_weights = isinstance(kind, Linear | Embedding | Experts)
        read["kv_cache" if isinstance(kind, Attention) else "weights" if is_weights else "activations"] += op.seconds
    whole, bandwidth = sum(read.values()), step.by_bound["bandwidth"]
    parts: dict[Part, float] = {name: bandwidth * seconds / whole if whole else 0.0 for name, seconds in read.items()}
    if not whole:
        parts["activations"] = bandwidth
    return {**parts, "compute": step.by_bound["compute"], "link": step.by_bound["link"],
            "latency": step.by_bound["latency"]}  # fmt: skip


def starvation(choice: Choice, hardware: Hardware, request: PlanRequest) -> Starvation | None:
    """None where --max-num-seqs ends the number of sequences, or where more of them would give nothing."""
    placement = choice.placement
    length = request.prompt_tokens + request.answer_tokens
    running = min(placement.sequences_per_replica(length))
    if running >= request.max_num_seqs:
        return None
    twice = min(2 * running, request.max_num_seqs) * placement.layout.replicas
    more = speed_of(placement, hardware, request, twice)
    gain = more.output_tokens_per_second / choice.full.output_tokens_per_second
    return Starvation(running, request.max_num_seqs, gain) if gain >= MIN_GAIN else None


class _Case:
    """One plan and the ways to change it."""

    def __init__(self, plan: Plan, choice: Choice, config: ConfigReader, hardware: Hardware) -> None:
        self.plan, self.choice, self.config, self.hardware = plan, choice, config, hardware
        layout = choice.placement.layout
        fixed = replace(plan.request, tp=layout.tp, pp=layout.pp, replicas=layout.replicas)
        precision = plan.spec.precision
        self.request = replace(fixed, context=choice.placement.context, format=precision.format.name)

    def remedies(self) -> Iterator[Remedy]:
        ways: tuple[Callable[[], Iterator[Remedy]], ...] = (
            self._formats, self._kv_formats, self._splits, self._p2p, self._replicas, self._batch, self._seats,
            self._kv_room, self._power,
        )  # fmt: skip
        for way in ways:
            yield from way()

    def _changed(self, kind: Kind, what: str, flag: str, request: PlanRequest, note: str = "") -> Iterator[Remedy]:
        """The same layout under another request, if that is possible and fits."""
        try:
            other = _forecast(self.config, self.hardware, request)
        except FarthingError:
            return
        if other is not None:
            yield self._remedy(kind, what, flag, other, note)

    def _remedy(self, kind: Kind, what: str, flag: str, other: Choice, note: str = "") -> Remedy:
        before = self.choice
        return Remedy(
            kind,
            what,
            flag,
            before.speed.request_seconds / other.speed.request_seconds,
            other.full.output_tokens_per_second / before.full.output_tokens_per_second,
            note=note,
        )

    def _formats(self) -> Iterator[Remedy]:
        bits = self.plan.spec.precision.format.bits
        seen = {self.plan.spec.precision.format.name}
        for name in _NARROWER:
            try:
                (narrow,) = candidate_formats(replace(self.request, format=name), self.config, self.hardware.devices)
            except UnsupportedError:
                continue
            if narrow.name in seen or narrow.bits >= bits:
                continue
            seen.add(narrow.name)
            yield from self._changed(
                "format",
                f"weights in {narrow.bits} bits ({narrow.name})",
                f"--format {name}",
                replace(self.request, format=name),
                note="check the answers: narrower weights cost quality",
            )

    def _kv_formats(self) -> Iterator[Remedy]:
        if self.plan.spec.precision.kv_dtype in ("fp32", "bf16", "fp16"):
            name = narrow_kv_format([rank.device for rank in self.plan.placement.ranks])
            request, note = replace(self.request, kv_format=name), "check the answers"
            yield from self._changed("kv-format", "KV cache in 8 bits", f"--kv-format {name}", request, note=note)

    def _splits(self) -> Iterator[Remedy]:
        """Of the other layouts those that answer soonest and that give most."""
        others = [one for one in self._all_splits() if one.placement.layout != self.choice.placement.layout]
        best = {
            id(choice): choice
            for choice in (
                min(others, key=lambda one: one.speed.request_seconds, default=None),
                max(others, key=lambda one: one.full.output_tokens_per_second, default=None),
            )
            if choice is not None
        }
        for choice in best.values():
            layout, own = choice.placement.layout, self.choice.placement.layout
            split = f"tp {layout.tp}, pp {layout.pp}, replicas {layout.replicas}"
            instead = f"tp {own.tp}, pp {own.pp}, replicas {own.replicas}"
            name = "a deeper pipeline" if layout.pp > own.pp else "another split"
            flag = f"--tp {layout.tp} --pp {layout.pp} --replicas {layout.replicas}"
            yield self._remedy("split", f"{name}: {split} instead of {instead}", flag, choice)

    def _all_splits(self) -> Iterator[Choice]:
        """Those of the plan; those that its request has left out, too."""
        request, spec = self.plan.request, self.plan.spec
        if (request.tp, request.pp, request.replicas) == (None, None, None):
            yield from self.plan.choices
            return
        free = replace(self.request, tp=None, pp=None, replicas=None)
        for layout in layouts(spec, len(self.hardware.devices), free):
            choice = _choice(
                place(layout, self.hardware.devices, free, free.resolve_context(spec)), self.hardware, free
            )
            if choice is not None:
                yield choice

    def _p2p(self) -> Iterator[Remedy]:
        layout = self.choice.placement.layout
        links = [
            link
            for stage in range(layout.pp)
            for link in links_of(layout, self.hardware, self.request, 0, stage)
            if link is not None
        ]
        if not links:
            return
        if self.plan.request.p2p is None:
            request = replace(self.request, p2p=True)
            yield from self._changed(
                "p2p", "cards that talk to each other directly", "--p2p", request,
                note="GeForce cards need a patched driver; verify what arrives",
            )  # fmt: skip
        elif not self.plan.request.p2p:
            request = replace(self.request, p2p=True)
            yield from self._changed("p2p", "cards that talk to each other directly", "--p2p", request)

    def _replicas(self) -> Iterator[Remedy]:
        batch, layout = self.choice.speed.batch, self.choice.placement.layout
        halved = speed_of(self.choice.placement, self.hardware, self.request, -(-batch // 2))
        answer = self.choice.speed.request_seconds / halved.request_seconds if batch > layout.replicas else 1.0
        yield Remedy(
            "replicas",
            f"twice the hardware (--on with twice the count): {2 * layout.replicas} replicas",
            "",
            answer,
            2.0,
            cost_factor=2.0,
        )

    def _batch(self) -> Iterator[Remedy]:
        speed, full = self.choice.speed, self.choice.full
        if full.batch > speed.batch:
            slower = full.decode.seconds / speed.decode.seconds
            yield Remedy(
                "batch",
                f"more requests at a time: {full.batch:,} instead of {speed.batch:,}",
                f"--batch {full.batch}",
                speed.request_seconds / full.request_seconds,
                full.output_tokens_per_second / speed.output_tokens_per_second,
                note=f"each token takes {slower:.1f} times as long",
            )
        if speed.batch > 1:
            fewer = speed_of(self.choice.placement, self.hardware, self.request, speed.batch // 2)
            share = fewer.output_tokens_per_second / speed.output_tokens_per_second
            yield Remedy(
                "batch",
                f"fewer requests at a time: {fewer.batch:,} instead of {speed.batch:,}",
                f"--batch {fewer.batch}",
                speed.request_seconds / fewer.request_seconds,
                share,
                note=f"{format_count(fewer.output_tokens_per_second)} tok/s in all",
            )

    def _seats(self) -> Iterator[Remedy]:
        """More places where there is KV room for more than run."""
        request, placement = self.request, self.choice.placement
        length = request.prompt_tokens + request.answer_tokens
        if min(placement.sequences_per_replica(length)) < request.max_num_seqs:
            return
        seats = 2 * request.max_num_seqs
        wider = replace(request, max_num_seqs=seats, max_batch_tokens=max(seats, request.max_batch_tokens))
        yield from self._changed("seats", f"{seats:,} places in a replica", f"--max-num-seqs {seats}", wider)

    def _kv_room(self) -> Iterator[Remedy]:
        found = starvation(self.choice, self.hardware, self.request)
        if found is not None:
            yield Remedy(
                "kv-room",
                f"twice the KV room: {found.running:,} sequences run at a time in a replica that has {found.seats:,} "
                "places",
                "",
                1.0,
                found.gain,
                cost_factor=None,
                note="cards with more memory, or what else above leaves more of it",
            )

    def _power(self) -> Iterator[Remedy]:
        step = self.choice.speed.decode.step
        gpus = [one for one in self.plan.accelerators if one.kind == "gpu"]
        if not gpus or step.by_bound["bandwidth"] < _MOSTLY_BANDWIDTH * step.seconds:
            return
        known = [one for one in gpus if one.tdp_watts is not None]
        watts = f" ({POWER_CAP * known[0].tdp_watts.value:.0f} W)" if known and known[0].tdp_watts else ""
        yield Remedy(
            "power",
            f"a power cap at {POWER_CAP:.0%}{watts}: decode waits for memory, not for arithmetic",
            "",
            1.0,
            1.0,
            energy_gain=_ENERGY_GAIN_OF_CAP,
            note="measured on a 3090 at decode: the same speed for 29 % less power; prompts are computed more slowly",
        )


def _forecast(config: ConfigReader, hardware: Hardware, request: PlanRequest) -> Choice | None:
    """The one layout that the request names; None if it does not fit."""
    (weight_format,) = candidate_formats(request, config, hardware.devices)
    spec = describe(config, precision_of(request, weight_format, config, hardware.devices))
    (layout,) = layouts(spec, len(hardware.devices), request)
    return _choice(place(layout, hardware.devices, request, request.resolve_context(spec)), hardware, request)


def _choice(placement: Placement, hardware: Hardware, request: PlanRequest) -> Choice | None:
    return choice_of(placement, hardware, request) if placement.fits else None
