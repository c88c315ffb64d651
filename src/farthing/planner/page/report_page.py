"""What the report of a plan shows, as numbers and names: no words of a language, no HTML, no pictures.

planner/page writes it as a page, cli/report_plots.py draws it. Knows neither flags nor a currency's symbol.
"""

import importlib.metadata
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields

from farthing.hardware.accelerator import Accelerator
from farthing.models.config_reader import ConfigReader
from farthing.planner.explain import Explanation, explain, ledger
from farthing.planner.hardware import Hardware
from farthing.planner.layout import Layout, RankMemory
from farthing.planner.money.cost import Cost
from farthing.planner.money.currency import Currency
from farthing.planner.money.price_book import PriceBook, price_book
from farthing.planner.page import report_sources as ask
from farthing.planner.page.report_levers import LengthRow, Lever, length_rows, levers
from farthing.planner.page.report_roof import Roof, roof_of
from farthing.planner.plan import Choice, Plan
from farthing.planner.request import DEFAULT_INPUT, DEFAULT_OUTPUT, PlanRequest
from farthing.planner.search.search import Search
from farthing.planner.speed import Phase, Speed

_MAX_CURVES = 3
_UNSAID = {"input_tokens": DEFAULT_INPUT, "output_tokens": DEFAULT_OUTPUT}


@dataclass(frozen=True, slots=True)
class MemoryGroup:
    """Devices that hold the same. `free_bytes` is 0 where something is missing. `room`: KV for `kv_tokens`; where not
    one sequence fits, the KV of one."""

    device: str
    devices: str
    stages: str
    count: int
    layers: int
    usable_bytes: int
    weights_bytes: int
    kv_bytes: int
    kv_tokens: int
    activation_bytes: int
    reserve_bytes: int
    free_bytes: int
    missing_bytes: int


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """`batch` requests at a time."""

    batch: int
    speed: Speed
    dollars_per_million: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """A layout over the batch, from one request to what memory holds."""

    layout: Layout
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the catalogue says of one kind of device: (name, value, unit, how it is known, keys of sources)."""

    id: str
    name: str
    figures: tuple[tuple[str, float, str, str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Without a known time, `best`, `roof`, `curves`, `levers` and `lengths` are empty. `command` makes the plan again.

    `intervals`: of ten measurements eight lie between (low, high) times the forecast, by metric: tpot, ttft.
    """

    plan: Plan
    hardware: Hardware
    memory: tuple[MemoryGroup, ...]
    best: Choice | None
    roof: Roof | None
    curves: tuple[Curve, ...]
    costs: tuple[Cost, ...]
    costs_unknown: tuple[str, ...]
    levers: tuple[Lever, ...]
    lengths: tuple[LengthRow, ...]
    intervals: Mapping[str, tuple[float, float]]
    explanation: Explanation | None
    options: tuple[ask.Option, ...]
    facts: tuple[DeviceFacts, ...]
    currency: Currency
    command: str
    date: str
    version: str


def report_page(
    plan: Plan,
    date: str,
    *,
    config: ConfigReader | None = None,
    hardware: Hardware | None = None,
    search: Search | None = None,
    book: PriceBook | None = None,
) -> ReportPage:
    """`date`: the day, as people write it. `config`: of the model; without it nothing is explained. `hardware`: what
    the plan was made for, by default found by its name. `search`: what found it, if one did.
    `book`: what prices rest on, by default what nobody says.
    """
    hardware = hardware or ask.hardware_of(plan)
    best = plan.best if plan.choices else None
    book = book or price_book()
    box = ask.box_of(plan, hardware, book)
    costs = ask.costs_when_full(plan, box, plan.most_tokens.full, book.api) if box and best else ()
    return ReportPage(
        plan=plan,
        hardware=hardware,
        memory=tuple(_memory(plan.placement.ranks, plan.placement.layout)),
        best=best,
        roof=roof_of(plan, hardware) if best else None,
        curves=tuple(_curve(plan, hardware, choice) for choice in _shown(plan)),
        costs=costs,
        costs_unknown=() if costs else box.unknown if box else (plan.price.note,),
        levers=levers(plan, hardware, book.market.code) if best else (),
        lengths=length_rows(plan, hardware) if best else (),
        intervals=ask.intervals_of(plan),
        explanation=explain(plan, config, hardware) if config and best else None,
        options=ask.options_of(search, plan) if search else (),
        facts=tuple(_facts(one) for one in plan.accelerators),
        currency=book.currency,
        command=command_of(plan),
        date=date,
        version=importlib.metadata.version("farthing"),
    )


def command_of(plan: Plan) -> str:
    """The command line that asks the same again: flags that were said."""
    words = ["farthing", "plan", plan.model]
    for field in fields(PlanRequest):
        value = getattr(plan.request, field.name)
        default = _UNSAID.get(field.name, None if field.default is MISSING else field.default)
        if value == default and field.name != "on":
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _memory(ranks: Sequence[RankMemory], layout: Layout) -> Iterator[MemoryGroup]:
    """A group for each way in which devices are filled, in order of the first of them."""
    alike: dict[object, list[int]] = {}
    for index, rank in enumerate(ranks):
        alike.setdefault((rank.device.name, rank.num_layers, rank.memory), []).append(index)
    for indices in alike.values():
        rank = ranks[indices[0]]
        memory, fits = rank.memory, bool(rank.memory.num_blocks)
        yield MemoryGroup(
            device=rank.device.name,
            devices=_spans(indices),
            stages=_spans(sorted({ranks[index].stage + 1 for index in indices})) if layout.pp > 1 else "",
            count=len(indices),
            layers=rank.num_layers,
            usable_bytes=memory.budget_bytes,
            weights_bytes=memory.weights_bytes,
            kv_bytes=memory.kv_bytes if fits else rank.sequence_bytes,
            kv_tokens=memory.kv_tokens,
            activation_bytes=memory.activation_bytes,
            reserve_bytes=memory.reserve_bytes + memory.graph_bytes,
            free_bytes=max(0, memory.budget_bytes - memory.total_bytes) if fits else max(0, -rank.shortfall_bytes),
            missing_bytes=0 if fits else max(0, rank.shortfall_bytes),
        )


def _spans(numbers: Sequence[int]) -> str:
    """Numbers in order, runs together: '0-3, 8'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)


def _shown(plan: Plan) -> list[Choice]:
    """The layouts whose curves are drawn: what answers fastest, what gives most, then the next fastest."""
    if not plan.choices:
        return []
    first = [plan.best] + [plan.most_tokens] * (plan.most_tokens is not plan.best)
    return (first + [choice for choice in plan.choices if choice not in first])[:_MAX_CURVES]


def _curve(plan: Plan, hardware: Hardware, choice: Choice) -> Curve:
    full, asked = choice.full.batch, choice.speed.batch
    batches = sorted({1, asked, full, *(2**power for power in range(full.bit_length()) if 2**power < full)})
    points = []
    for batch in batches:
        speed = ask.speed_at(choice.placement, hardware, plan.request, batch)
        points.append(CurvePoint(batch, speed, plan.price.per_million_tokens(speed.output_tokens_per_second)))
    return Curve(choice.placement.layout, tuple(points))


def _facts(one: Accelerator) -> DeviceFacts:
    """The figures that a plan rests on."""
    figures = [("memory", one.usable_bytes or one.nominal_bytes, "B"), ("bandwidth", one.bandwidth, "B/s")]
    figures += [(math, figure, "FLOP/s") for math, figure in one.flops.items() if not math.endswith("_acc16")]
    for name, link in (("scale_up", one.scale_up), ("host", one.host)):
        figures.append((f"{name} {link.kind}", link.bytes_per_second, "B/s"))
    figures.append(("power", one.tdp_watts, "W"))
    return DeviceFacts(
        one.id,
        one.name,
        tuple(
            (name, float(figure.value), unit, figure.known or "", figure.sources)
            for name, figure, unit in figures
            if figure is not None
        ),
    )


def shares(phase: Phase, layout: Layout) -> tuple[tuple[str, float], ...]:
    """(part, share) of a phase's work, in the order in which they are drawn."""
    parts = ledger(phase.step, layout)
    whole = sum(parts.values())
    return tuple((name, seconds / whole) for name, seconds in parts.items() if seconds > 0)
