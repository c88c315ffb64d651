"""What a report asks of its neighbours in the planner, each in one place: hardware, speed, ceilings, money.

When a neighbour changes its shape, this file changes and the report does not. Knows no page and no words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from farthing.errors import FarthingError
from farthing.ops.batch import BatchShape
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.layout import Placement, place
from farthing.planner.money.api_price import ApiPrice
from farthing.planner.money.characters import vocabulary_of
from farthing.planner.money.cost import Cost, Load, costs_of
from farthing.planner.money.market import rentals
from farthing.planner.money.offers import WAYS
from farthing.planner.money.price import BoxPrice
from farthing.planner.money.price_book import PriceBook
from farthing.planner.plan import Plan
from farthing.planner.plan_cost import price_of_plan
from farthing.planner.request import PlanRequest
from farthing.planner.search.loads import Demand
from farthing.planner.search.search import Option as SearchOption
from farthing.planner.search.search import Search
from farthing.planner.speed import Speed, engine_of_request, links_of, max_running, speed_of
from farthing.planner.timing.device import Device
from farthing.planner.timing.forecast import forecast_step

_MANY_ROWS = 4096  # of a matrix product that is as fast as they get


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The roof over one device in one math: what is reached of it, and what the data sheet says (None: unknown here).

    Bytes/s and FLOP/s.
    """

    device: str
    math: str
    bandwidth: float
    rate: float
    peak_bandwidth: float | None
    peak_rate: float | None


@dataclass(frozen=True, slots=True)
class RankStep:
    """One step on one device: its work and its time, all of it."""

    flops: float
    moved_bytes: float
    seconds: float
    bound: str


@dataclass(frozen=True, slots=True)
class Option:
    """A configuration that a search found. `on_front`: none is both cheaper and faster."""

    name: str
    format: str
    split: str
    engine: str
    dollars_per_month: float
    tpot_seconds: float
    ttft_seconds: float
    on_front: bool
    is_chosen: bool


def hardware_of(plan: Plan) -> Hardware:
    """The devices that the plan was made for, found again by their name."""
    return find_hardware(plan.request)


def speed_at(placement: Placement, hardware: Hardware, request: PlanRequest, batch: int) -> Speed:
    """So many requests at a time."""
    return speed_of(placement, hardware, request, batch)


def full_speed(placement: Placement, hardware: Hardware, request: PlanRequest) -> Speed | None:
    """At the batch that memory holds; None where no request of these lengths fits."""
    running = max_running(placement, request)
    return speed_of(placement, hardware, request, running) if running else None


def with_lengths(
    placement: Placement, hardware: Hardware, request: PlanRequest, prompt: int, answer: int
) -> tuple[Placement, PlanRequest]:
    """The same layout for other lengths; room is planned for them where they are above the context."""
    context = max(placement.context, prompt + answer)
    asked = replace(request, input_tokens=prompt, output_tokens=answer, context=context)
    return place(placement.layout, hardware.devices, asked, context), asked


def rank_step(placement: Placement, hardware: Hardware, request: PlanRequest, shape: BatchShape) -> RankStep:
    """On the first device: it has the first stage."""
    spec, device = placement.layout.stages[0], placement.ranks[0].device
    cost = spec.cost(shape)
    links = links_of(placement.layout, hardware, request, 0, 0)
    forecast = forecast_step(spec, shape, device, links, engine_of_request(request))
    return RankStep(cost.total_flops, cost.moved_bytes, forecast.seconds, forecast.bound)


def ceiling(placement: Placement) -> Ceiling | None:
    """Of the first device; None where its bandwidth or rate is not known."""
    device, spec = placement.ranks[0].device, placement.layout.stages[0]
    math = spec.precision.format.math
    try:
        bandwidth = device.machine.read_bandwidth(spec.weight_bytes)
        rate = device.machine.flops_per_second(math, _MANY_ROWS)
    except FarthingError:
        return None
    one = None if device.is_here else device.accelerator
    peak_bandwidth = one.bandwidth.value if one and one.bandwidth else None
    peak_rate = one.flops[math].value if one and math in one.flops else None
    return Ceiling(device.name, math, bandwidth, rate, peak_bandwidth, peak_rate)


def box_of(plan: Plan, hardware: Hardware, book: PriceBook) -> BoxPrice | None:
    """What the devices cost, bought and rented; None of devices that no catalogue has."""
    return price_of_plan(hardware, book, plan.request.price_per_hour)


def costs_when_full(plan: Plan, box: BoxPrice, full: Speed, api: ApiPrice | None = None) -> tuple[Cost, ...]:
    """Of every way that has a price, always busy; the chosen way first."""
    answers = full.output_tokens_per_second
    prompts = answers * plan.request.prompt_tokens / plan.request.answer_tokens
    return costs_of(box, Load(prompts, answers, answers), vocabulary=vocabulary_of(plan.spec), api=api)


def rent_range(devices: Sequence[Device], market: str) -> tuple[float, float] | None:
    """Dollars per hour of all of them, by the lowest and the highest offers; None without a range."""
    low = high = 0.0
    for device in devices:
        offers = rentals(device.accelerator, market).offers if device.accelerator else ()
        if not offers:
            return None
        low, high = low + min(offers)[0], high + max(offers)[0]
    return (low, high) if low < high else None


def intervals_of(plan: Plan) -> dict[str, tuple[float, float]]:
    """Times the forecast of one request, by tpot and ttft; empty for a plan of no engine that was measured.

    Of a full box there is none: its KV room and limits are the plan's and not that engine's.
    """
    engine = engine_of_request(plan.request)
    if engine is None:
        return {}
    kept = {"tpot": "decode", "ttft": "prefill"}
    return {name: (engine.interval(metric).low, engine.interval(metric).high) for name, metric in kept.items()}


def way_of(search: Search) -> str | None:
    """The way to pay that is cheapest; None where nothing was found or no price is known."""
    best = {way: option.dollars(way) for way in WAYS if (option := search.best(way)) is not None}
    return min(best, key=lambda way: best[way]) if best else None


def request_of(found: SearchOption, demand: Demand, asked: PlanRequest) -> PlanRequest:
    """What plans a configuration that a search found, under its load: the report of a search is its winner's."""
    one, replicas = found.configuration, found.replicas
    kv_format = one.precision.kv_dtype.removesuffix("_e4m3")
    return replace(
        asked,
        on=f"{found.num_devices}x{one.accelerator.id}",
        format=one.precision.format.name,
        kv_format=kv_format,
        tp=one.tp,
        pp=one.pp,
        replicas=replicas,
        engine=one.engine,
        batch=max(1, round(found.steady.running * replicas)),
        input_tokens=demand.input_tokens,
        output_tokens=demand.output_tokens,
        context=demand.longest,
        max_num_seqs=found.max_num_seqs,
        max_batch_tokens=max(asked.max_batch_tokens, found.max_num_seqs),
    )


def options_of(search: Search, plan: Plan) -> tuple[Option, ...]:
    """Of the way to pay that is cheapest, the cheapest first: those that none beats, and of the others the cheapest of
    each accelerator and format. The plan's own is marked."""
    way = way_of(search)
    if way is None:
        return ()
    front = {id(option) for option in search.front(way)}
    layout, found, seen = plan.placement.layout, [], set()
    for option in search.ranked(way):
        one = option.configuration
        kind = (one.accelerator.id, one.precision)
        is_plan = (
            option.num_devices == len(plan.placement.ranks)
            and [one.accelerator.id] == [accelerator.id for accelerator in plan.accelerators]
            and (one.tp, one.pp, one.precision) == (layout.tp, layout.pp, plan.spec.precision)
        )
        if kind in seen and not is_plan and id(option) not in front:
            continue
        seen.add(kind)
        parts = (("tp", one.tp), ("pp", one.pp), ("replicas", option.replicas))
        found.append(
            Option(
                name=f"{option.num_devices}x {one.accelerator.id}",
                format=f"{one.precision.format.name} · KV {one.precision.kv_dtype.removesuffix('_e4m3')}",
                split=" · ".join(f"{name} {count}" for name, count in parts if count > 1),
                engine=one.engine,
                dollars_per_month=option.dollars(way),
                tpot_seconds=option.steady.tpot,
                ttft_seconds=option.steady.ttft,
                on_front=id(option) in front,
                is_chosen=is_plan,
            )
        )
    return tuple(found)
