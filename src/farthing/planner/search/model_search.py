"""The published models for a piece of hardware: which of them keep a promise there, in the widest format that does.

Knows no terminal.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from farthing.errors import FarthingError, UsageError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import PublishedModel, published_models
from farthing.models.spec import Precision
from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.search.candidates import Descriptions, Target, Wishes, shapes
from farthing.planner.search.loads import Demand, demand_of
from farthing.planner.search.search import Option, search
from farthing.planner.search.slo import Slo
from farthing.planner.search.why_not import binding_text, nearest
from farthing.quantization.base import resolve
from farthing.units import format_bytes

SCHEMA = "farthing.models-for/1"
_WIDEST_FIRST = ("bf16", "fp16", "fp8", "w8a8", "int8", "int4")


@dataclass(frozen=True, slots=True)
class Fitting:
    """A model that keeps the promise, and how; or `why` not."""

    model: PublishedModel
    demand: Demand | None
    option: Option | None
    kind: str
    why: str


def models_for(
    target: Target, said: Mapping[str, Any], slo: Slo | None, offers: Offers, wishes: Wishes
) -> tuple[Fitting, ...]:
    """Of all published models, the largest first. `said`: the load, as demand_of() takes it; `slo`: None for the usual
    one of its kind. UsageError for a load that is none, or no hardware that is looked at."""
    if not offers.is_proposed(target.accelerator):
        reason = offers.why_not_proposed(target.accelerator)
        raise UsageError(f"{target.accelerator.id}: {reason}", fix="--all looks at it all the same")
    shapes(wishes)  # a division that is none would else read as a model that does not fit
    fixed = replace(target, count=target.count or 1)
    found = [_fitting(model, fixed, said, slo, offers, wishes) for model in published_models().values()]
    return tuple(sorted(found, key=lambda one: -one.model.parameters))


def _fitting(
    model: PublishedModel, target: Target, said: Mapping[str, Any], slo: Slo | None, offers: Offers, wishes: Wishes
) -> Fitting:
    descriptions = Descriptions(ConfigReader(model.config, model.name))
    try:
        spec = describe(descriptions.config, Precision.of(resolve("bf16", "cuda")))
        demand, usual = demand_of(spec.max_positions, **said)
    except UsageError as error:
        if "above" not in error.what and "needs a context" not in error.what:
            raise
        return Fitting(model, None, None, "context", error.what)
    kind, why = "memory", "its weights do not fit"
    for name in _formats(wishes):
        asked = replace(wishes, format=name)
        try:
            answered = search(model.name, descriptions, (target,), demand, slo or usual, offers, asked)
        except FarthingError as error:
            kind, why = "format", error.what
            continue
        affordable = [option for option in answered.options if wishes.max_dollars is None or _has_price(option)]
        options = sorted(affordable, key=lambda option: (option.quality.worst is None, option.steady.tpot))
        if options:
            return Fitting(model, demand, options[0], "", "")
        attempt = nearest(answered)
        if answered.options:
            kind, why = "budget", f"no price of it is within {wishes.max_dollars:,.0f} $ a month"
        elif attempt is not None:
            kind, why = binding_text(answered, attempt, descriptions)
        elif answered.passed:
            kind, why = answered.passed[0].kind, answered.passed[0].why
        elif answered.smallest:
            size, format_name = answered.smallest[target.accelerator.id]
            kind, why = "memory", f"weights of {format_bytes(size)} in {format_name}"
    return Fitting(model, demand, None, kind, why)


def _has_price(option: Option) -> bool:
    """Within the budget, in a way that is asked for."""
    return any(math.isfinite(option.dollars(way)) for way in WAYS)


def _formats(wishes: Wishes) -> Iterator[str]:
    if wishes.format == "auto":
        yield from _WIDEST_FIRST
    else:
        yield wishes.format


def to_json_object(found: tuple[Fitting, ...], target: Target, offers: Offers) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "hardware": f"{target.count or 1}x {target.accelerator.id}",
        "market": offers.book.market.code,
        "models": [_fitting_object(one) for one in found],
    }


def _fitting_object(one: Fitting) -> dict[str, Any]:
    option = one.option
    base = {"model": one.model.name, "parameters": one.model.parameters, "licence": one.model.licence}
    if option is None:
        return {**base, "fits": False, "kind": one.kind, "why": one.why}
    configuration, steady = option.configuration, option.steady
    return {
        **base,
        "fits": True,
        "format": configuration.precision.format.name,
        "kv_format": configuration.precision.kv_dtype,
        "tp": configuration.tp,
        "pp": configuration.pp,
        "replicas": option.replicas,
        "runs_with": list(configuration.runs_with),
        "ttft_seconds": steady.ttft,
        "tpot_seconds": steady.tpot,
        "kv_usage": steady.kv_tokens / option.kv_tokens,
        "quality_worst": option.quality.worst,
        "dollars_per_month": {way: price if (price := option.dollars(way)) < 1e300 else None for way in WAYS},
    }
