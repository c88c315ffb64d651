"""Two plans side by side: what they ask differently, whether each fits, how fast, how dear, with what energy.

The answer as values, as rows for people and as the JSON object `farthing.plan-diff/1`. Knows no files and no flags.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from farthing.planner.hardware import Hardware
from farthing.planner.money.price_book import PriceBook
from farthing.planner.plan import Plan
from farthing.planner.plan_cost import costs_of_plan
from farthing.units import format_bytes, format_seconds

SCHEMA = "farthing.plan-diff/1"


@dataclass(frozen=True, slots=True)
class Side:
    """One plan in figures; None is what is not known or does not fit. Seconds, bytes, tokens/s, dollars, joules.

    `asked`: model, hardware and every flag, as the plan resolved them.
    """

    asked: dict[str, Any]
    fits: bool
    kv_tokens: int
    missing_bytes: int
    prefill_seconds: float | None
    tpot_seconds: float | None
    output_tokens_per_second: float | None
    full_output_tokens_per_second: float | None
    dollars_per_month: float | None
    dollars_per_million_output_tokens: float | None
    full_dollars_per_million_output_tokens: float | None
    joules_per_output_token: float | None


FIGURES = tuple(name for name in Side.__dataclass_fields__ if name not in ("asked", "fits"))


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """`asked`: what is asked differently, (a, b) by name. `ratios`: b / a of every figure that both have."""

    a: Side
    b: Side

    @property
    def asked(self) -> dict[str, tuple[Any, Any]]:
        names = dict.fromkeys((*self.a.asked, *self.b.asked))
        pairs = {name: (self.a.asked.get(name), self.b.asked.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    @property
    def ratios(self) -> dict[str, float]:
        pairs = {name: (getattr(self.a, name), getattr(self.b, name)) for name in FIGURES}
        return {name: b / a for name, (a, b) in pairs.items() if a and b is not None}


def side_of(plan: Plan, hardware: Hardware, book: PriceBook) -> Side:
    """A plan as one side, priced as `book` says or, where the plan has a price of its own, as that. Idle devices are
    paid, too."""
    layout, precision = plan.placement.layout, plan.spec.precision
    asked = {
        "model": plan.model,
        "hardware": plan.hardware,
        **{name: value for name, value in asdict(plan.request).items() if name != "on"},
        "format": precision.format.name,
        "kv_format": precision.kv_dtype,
        "tp": layout.tp,
        "pp": layout.pp,
        "replicas": layout.replicas,
        "context": plan.placement.context,
    }
    best = plan.best if plan.choices else None
    cost = next(iter(costs_of_plan(plan, hardware, book)), None)
    return Side(
        asked=asked,
        fits=plan.fits,
        kv_tokens=plan.placement.kv_tokens,
        missing_bytes=0 if plan.fits else plan.placement.shortfall_bytes,
        prefill_seconds=best.speed.prefill.seconds if best else None,
        tpot_seconds=best.speed.decode.seconds if best else None,
        output_tokens_per_second=best.speed.output_tokens_per_second if best else None,
        full_output_tokens_per_second=best.full.output_tokens_per_second if best else None,
        dollars_per_month=cost.dollars_per_month if cost else None,
        dollars_per_million_output_tokens=cost.dollars_per_million_tokens if cost else None,
        full_dollars_per_million_output_tokens=cost.saturated_dollars_per_million_tokens if cost else None,
        joules_per_output_token=cost.joules_per_token if cost else None,
    )


def to_json_object(diff: PlanDiff) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "a": asdict(diff.a),
        "b": asdict(diff.b),
        "differs": {name: {"a": a, "b": b} for name, (a, b) in diff.asked.items()},
        "ratios": diff.ratios,
    }


def rows(diff: PlanDiff) -> Iterator[tuple[str, str, str, str]]:
    """Name, a, b and what b is of a: what is asked differently first, then what comes of it."""
    for name, (a, b) in diff.asked.items():
        yield name.replace("_", "-"), _text(a), _text(b), ""
    yield "fits", "yes" if diff.a.fits else "no", "yes" if diff.b.fits else "no", ""
    for name in FIGURES:
        a, b = getattr(diff.a, name), getattr(diff.b, name)
        if (a is None and b is None) or (name == "missing_bytes" and not (a or b)):
            continue
        ratio = diff.ratios.get(name)
        yield _NAMES[name], _figure(name, a), _figure(name, b), "" if ratio is None else f"{ratio:.3g}x"


_NAMES = {
    "kv_tokens": "KV room",
    "missing_bytes": "missing",
    "prefill_seconds": "prefill",
    "tpot_seconds": "time per token",
    "output_tokens_per_second": "output tokens/s",
    "full_output_tokens_per_second": "output when full",
    "dollars_per_month": "dollars a month",
    "dollars_per_million_output_tokens": "$ per Mtok",
    "full_dollars_per_million_output_tokens": "$ per Mtok, full",
    "joules_per_output_token": "J per token",
}


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "missing_bytes":
        return format_bytes(value)
    if name.endswith("_seconds"):
        return format_seconds(value)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(value: Any) -> str:
    return "-" if value is None else str(value)
