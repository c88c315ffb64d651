"""One configuration, answered: where a model's bytes go on a piece of hardware, how fast it is and what it costs.

Puts together the description, the layout, the forecast and the price. Knows no flags and no terminal: planner/report.py
turns a Plan into JSON and text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.errors import UnsupportedError
from farthing.hardware.accelerator import Accelerator
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import ModelSpec
from farthing.planner.alternatives import what_would_fit
from farthing.planner.engines.engine_profile import GENERIC
from farthing.planner.formats import candidate_formats, keeps_kv_in_fp8, precision_of
from farthing.planner.hardware import Hardware
from farthing.planner.layout import Layout, Placement, collective_bytes, layouts, place
from farthing.planner.money.price import HourlyPrice, hourly_price
from farthing.planner.request import PlanRequest
from farthing.planner.speed import Speed, distinct_replicas, engine_of_request, links_of, max_running, speed_of
from farthing.units import format_bytes

_SALES = {
    "not-sold": "can be neither bought nor rented",
    "rented": "can be rented, not bought",
    "modified": "rebuilt by others, without the maker's warranty",
}
_UNSURE = {"third": "a third party's figure, the maker's page was not seen", "inferred": "inferred, not published"}


@dataclass(frozen=True, slots=True)
class Choice:
    """A layout that fits. `speed` at the batch that was asked for (as much of it as runs at a time), `full` at the
    batch that memory holds."""

    placement: Placement
    speed: Speed
    full: Speed


@dataclass(frozen=True, slots=True)
class Plan:
    """`choices`: the layouts that fit and whose time is known, the fastest answer first.

    `placement`: of the first choice; without one, of the layout that fits with most room or lacks least. `untimed`: why
    no time is known, though it fits. `tried`: the formats that `auto` found too large. `would_fit`: what to change.
    """

    model: str
    hardware: str
    request: PlanRequest
    spec: ModelSpec
    placement: Placement
    choices: tuple[Choice, ...]
    untimed: str | None
    tried: tuple[str, ...]
    price: HourlyPrice
    assumptions: tuple[str, ...]
    would_fit: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return self.placement.fits

    @property
    def best(self) -> Choice:
        """The fastest answer. Only of a plan that has choices."""
        return self.choices[0]

    @property
    def most_tokens(self) -> Choice:
        """The layout that gives most tokens per second, and so per dollar, when full. Only of a plan with choices."""
        return max(self.choices, key=lambda choice: choice.full.output_tokens_per_second)

    @property
    def accelerators(self) -> tuple[Accelerator, ...]:
        """Each kind once."""
        kinds = {rank.device.name: rank.device.accelerator for rank in self.placement.ranks}
        return tuple(kind for kind in kinds.values() if kind is not None)

    @property
    def plan_only(self) -> tuple[str, ...]:
        """Why Farthing's own engine can't run this; empty if it can."""
        reasons = [f"{self.model}: the engine does not run this family yet"] if self.spec.plan_only else []
        devices = [rank.device for rank in self.placement.ranks]
        if self.spec.precision.kv_dtype == "fp8_e4m3" and not all(map(keeps_kv_in_fp8, devices)):
            reasons.append(f"--kv-format {self.request.kv_format}: the engine keeps KV in int8 there, not in fp8")
        reasons += [f"{one.id}: the engine does not run on it" for one in self.accelerators if one.plan_only]
        if len(self.placement.ranks) > 1:
            reasons.append("more than one device: the engine does not run tensor or pipeline parallelism yet")
        return tuple(reasons)

    @property
    def cautions(self) -> tuple[str, ...]:
        """What to know before money is spent: what can't be bought, and figures that no maker's document holds."""
        notes = [f"{one.id}: {_SALES[one.sale]}" for one in self.accelerators if one.sale in _SALES]
        notes += [
            f"{one.id}: programs see {one.dies} devices of a {one.dies}th of it each; the plan takes them as one"
            for one in self.accelerators
            if one.dies > 1
        ]
        engine = engine_of_request(self.request)
        if engine is not None and engine.name != GENERIC:
            notes += [
                f"{one.id}: no {engine.name} is known to run on it, only {', '.join(one.engines) or 'none'}"
                for one in self.accelerators
                if not set(engine.names) & set(one.engines)
            ]
        for one in self.accelerators:
            math = self.spec.precision.format.math
            figures = {"memory bandwidth": one.bandwidth, f"{math} rate": one.flops.get(math)}
            for name, figure in figures.items():
                if figure is not None and figure.known in _UNSURE:
                    notes.append(f"{one.id}: its {name} is {_UNSURE[figure.known]}; check it before you decide")
        return tuple(notes)


def make_plan(
    model: str, config: ConfigReader, hardware: Hardware, request: PlanRequest, *, price: HourlyPrice | None = None
) -> Plan:
    """Answers also when nothing fits. `price` of the hardware; by default what it rents for.

    FarthingError for a request that makes no sense for this model or hardware.
    """
    tried: list[str] = []
    for weight_format in candidate_formats(request, config, hardware.devices):
        spec = describe(config, precision_of(request, weight_format, config, hardware.devices))
        request = request.with_lengths(spec)
        context = request.resolve_context(spec)
        placements = [
            place(layout, hardware.devices, request, context)
            for layout in layouts(spec, len(hardware.devices), request)
        ]
        fitting = [placement for placement in placements if placement.fits]
        if fitting:
            break
        tried.append(weight_format.name)
    placement, untimed = min(placements, key=lambda one: one.shortfall_bytes), None
    choices: list[Choice] = []
    try:
        choices = [choice_of(one, hardware, request) for one in fitting]
    except UnsupportedError as error:  # a bandwidth or rate that nobody knows
        untimed = error.what
    choices.sort(key=lambda choice: choice.speed.request_seconds)
    if choices:
        placement = choices[0].placement
    price = price or hourly_price(hardware.devices, request.price_per_hour)
    return Plan(
        model=model,
        hardware=hardware.name,
        request=request,
        spec=spec,
        placement=placement,
        choices=tuple(choices),
        untimed=untimed,
        tried=tuple(tried if fitting else tried[:-1]),
        price=price,
        assumptions=_assumptions(hardware, placement.layout, request, price, choices),
        would_fit=() if fitting else what_would_fit(config, hardware.devices, request, context),
    )


def choice_of(placement: Placement, hardware: Hardware, request: PlanRequest) -> Choice:
    """A layout that fits, with its speed as asked and when memory is full."""
    running = max_running(placement, request)
    speed = speed_of(placement, hardware, request, min(request.batch, running))
    return Choice(placement, speed, speed_of(placement, hardware, request, running))


def _is_capped(placement: Placement, request: PlanRequest) -> bool:
    """Whether the number of sequences, and not memory, ends the KV pool."""
    return min(placement.kv_tokens_per_replica) >= request.max_num_seqs * placement.context


def _assumptions(
    hardware: Hardware, layout: Layout, request: PlanRequest, price: HourlyPrice, choices: Sequence[Choice]
) -> tuple[str, ...]:
    """Everything that the answer rests on and nobody said, each once."""
    notes = [note for device in hardware.devices for note in device.assumptions]
    precision = layout.stages[0].precision
    for math in (precision.format.math, precision.activation_dtype):
        notes += [device.rate_notes[math] for device in hardware.devices if math in device.rate_notes]
    used_layouts = [choice.placement.layout for choice in choices] or [layout]
    for used in used_layouts:
        for replica in distinct_replicas(used, hardware):
            for stage in range(used.pp):
                notes += [link.note for link in links_of(used, hardware, request, replica, stage) if link is not None]
    for tp in sorted({used.tp for used in used_layouts if used.tp > 1}):
        buffers = format_bytes(collective_bytes(tp))
        notes.append(f"tp {tp}: {buffers} a rank for the buffers of collectives (NVIDIA's planner)")
    if choices and choices[0].speed.batch < request.batch:
        notes.append(f"of a batch of {request.batch}, {choices[0].speed.batch} run at a time; the others wait")
    idle = len(hardware.devices) - layout.num_devices
    if idle:
        notes.append(f"{idle} of {len(hardware.devices)} devices stay idle, and are paid")
    if choices and _is_capped(choices[0].placement, request):
        notes.append(f"KV room is what --max-num-seqs {request.max_num_seqs} sequences of the context can use, not all")
    if request.engine is not None or any(device.kind == "cuda" and not device.is_here for device in hardware.devices):
        notes.append(_engine_note(request))
    notes.append("requests start together; no speculation, no cached prefix")
    notes.append(price.note)
    return tuple(dict.fromkeys(notes))


def _engine_note(request: PlanRequest) -> str:
    """Whose speed it is, and how sure."""
    engine = engine_of_request(request)
    if engine is None:
        return "an engine with kernels for every product and format: --engine vllm says what a real one reaches"
    one = engine.interval("decode")
    return (
        f"{engine.name}: of ten published measurements eight lie between {one.low:.2f} and {one.high:.2f} times such a "
        "forecast of one stream (benchmarks/forecasts.md); KV room and limits are not that engine's, and so what it "
        f"gives when full: farthing simulate --engine {engine.name} has them"
    )
