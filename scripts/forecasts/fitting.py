"""Constants of engines from measured rows: the logarithm of forecast over measured, as small as the priors allow.

Every constant is a base of its engine times factors for the class of device and of format. A constant moves away from
what it starts with (the generic profile, or the one that the engine is said to be like) only as far as rows pull it:
its logarithm has a normal prior. Errors count quadratically while small and linearly beyond (pseudo-Huber). Solved by
damped Gauss-Newton steps: deterministic, seconds. Knows no file.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy

from farthing.planner.engines.engine_profile import GENERIC, engine_names, find_engine, profile_of
from farthing.planner.timing.device_class import DEVICE_CLASSES, FORMAT_CLASSES, LINK_CLASSES
from farthing.planner.timing.efficiency import Efficiency
from farthing.planner.validation.measured_row import SkippedRowError
from farthing.planner.validation.row_forecast import forecast, recipe_of
from forecasts.columns import Array, Columns, Keys, Measured, Values, columns_of, figures, row_seconds

Fitted = dict[str, Any]
OPERATORS_SIGMA, OPERATORS_SCALE = 0.2, 3.0  # of operators there are thousands of rows: the priors hardly hold them
KEYS = Keys(DEVICE_CLASSES, FORMAT_CLASSES, LINK_CLASSES)
NAMES = tuple(field.name for field in fields(Efficiency))
SHARES = ("weights", "kv", "gemm", "attention")
MOST_SHARE = 0.98
SIGMA = 0.12  # an error of a row that is as usual as a constant one prior off
FEW = 6  # rows from which an engine gets constants of its own
ENOUGH = 40  # rows of a source, from which each counts less

# Standard deviations of the logarithm of a constant around what it starts with.
BASE = {"weights": 0.2, "kv": 0.5, "gemm": 0.4, "half_rows": 1.0, "attention": 0.8, "kernel_seconds": 0.7,
        "step_seconds": 1.2, "sequence_seconds": 1.5, "request_seconds": 1.5}  # fmt: skip
BY_CLASS = {"weights": 0.15, "kv": 0.15, "gemm": 0.3, "attention": 0.4, "kernel_seconds": 0.2, "step_seconds": 0.2,
            "sequence_seconds": 0.25}  # fmt: skip
BY_FORMAT = {"weights": 0.25, "gemm": 0.35, "kernel_seconds": 0.3}
BY_LINK = {"share": 0.5, "seconds": 0.6}
PROMPT_SHARES = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0)

START: Fitted = {
    "lockstep": 1.0,
    "base": {"weights": 0.8, "kv": 0.6, "gemm": 0.65, "half_rows": 16.0, "attention": 0.4, "kernel_seconds": 3e-6,
             "step_seconds": 1e-3, "sequence_seconds": 1e-5, "request_seconds": 1e-3},
    "classes": {},
    "formats": {},
    "links": {
        "nvlink": {"share": 0.6, "seconds": 5e-6},
        "mesh": {"share": 0.4, "seconds": 15e-6},
        "fabric": {"share": 0.4, "seconds": 20e-6},
        "pcie": {"share": 0.4, "seconds": 12e-6},
        "staged": {"share": 0.2, "seconds": 20e-6},
        "network": {"share": 0.7, "seconds": 30e-6},
    },
    "intervals": {"any": [0.5, 1.6]},
}  # fmt: skip


def is_fitted_to(one: Measured) -> bool:
    """Waits under load are no kernel's: a first token counts only where nobody is ahead."""
    metric, kind = one.setting.metric, one.setting.kind
    if metric == "ttft":
        return kind in ("single", "static")
    return metric != "e2e"


def fit_all(rows: Sequence[Measured], operators: Fitted | None = None, scale: float = 1.0) -> Fitted:
    """Constants of every engine that has rows, fitted to these rows. `operators`: what single operators reach, from
    which the generic profile starts. `scale`: of all priors."""
    first = START if operators is None else started(operators)
    used = [one for one in rows if is_fitted_to(one)]
    counts = Counter(one.setting.engine.name for one in used)
    weights = [min(1.0, (60 / counts[one.setting.engine.name]) ** 0.5) for one in used]
    fitted: Fitted = {"engines": {GENERIC: first}}
    fitted["engines"][GENERIC] = _fit(used, weights, first, fitted, None, scale, sigma=0.3)
    for name in _parents_first():
        own = [one for one in used if one.setting.engine.name == name]
        if name == GENERIC or len(own) < FEW:
            continue
        sources = Counter(one.row["source"] for one in own)
        weights = [min(1.0, (ENOUGH / sources[one.row["source"]]) ** 0.25) for one in own]
        parent = fitted["engines"].get(find_engine(name).like, fitted["engines"][GENERIC])
        shares = PROMPT_SHARES if find_engine(name).caches_prefixes else (parent.get("prompt_share", 1.0),)
        tried = [_settled(own, weights, {**parent, "prompt_share": share}, fitted, name, scale) for share in shares]
        fitted["engines"][name] = min(tried, key=lambda one: float(one["cost"]))
    for name in (GENERIC, *fitted["engines"]):
        waiting = [one for one in rows if one.setting.metric == "ttft" and one.setting.kind == "closed"]
        if name != GENERIC:
            waiting = [one for one in waiting if one.setting.engine.name == name]
        if len(waiting) >= FEW:
            fitted["engines"][name]["lockstep"] = _lockstep(waiting, fitted)
    return fitted


def fit_operators(columns: Columns) -> Fitted:
    """What kernels reach, alone: no host's time beside them."""
    idle = {"step_seconds": 0.0, "sequence_seconds": 0.0, "request_seconds": 0.0}
    start = {**START, "base": START["base"] | idle}
    weights = numpy.ones(len(columns.measured))
    found = solved(columns, weights, start, OPERATORS_SCALE, OPERATORS_SIGMA)
    found["measured_links"] = sorted({LINK_CLASSES[index] for index in columns.link[columns.work.messages > 0]})
    errors = numpy.abs(_figures(columns, found) / columns.measured - 1)
    prefill = columns.work.attention_flops > 50 * columns.work.kv_bytes
    kinds = {
        "product": columns.work.layer_flops > 0,
        "attention of prompts": prefill,
        "attention of decode steps": (columns.work.attention_flops > 0) & ~prefill,
        "all-reduce": columns.work.messages > 0,
    }
    found["errors"] = {
        f"{kind}, {DEVICE_CLASSES[index]}": (
            int(numpy.sum(chosen := holds & (columns.device == index))),
            float(numpy.median(errors[chosen])),
            float(numpy.quantile(errors[chosen], 0.9)),
        )
        for kind, holds in kinds.items()
        for index in sorted(set(columns.device[holds]))
    }
    return found


def started(operators: Fitted) -> Fitted:
    """START with what was measured of single operators: shares and links; a host's times are no operator's."""
    table = {**START, "base": dict(START["base"]), "links": dict(START["links"])}
    for name in ("weights", "kv", "gemm", "half_rows", "attention"):
        table["base"][name] = operators["base"][name]
    table["classes"] = {key: dict(values) for key, values in operators["classes"].items()}
    table["links"] |= {key: operators["links"][key] for key in operators["measured_links"]}
    return table


def _settled(
    rows: Sequence[Measured], weights: Sequence[float], start: Fitted, fitted: Fitted, name: str, scale: float
) -> Fitted:
    """Twice: what runs at a time under arrivals depends on the constants themselves."""
    for _ in range(2):
        trial = {"engines": {**fitted["engines"], name: {**start, **fitted["engines"].get(name, {})}}}
        trial["engines"][name]["prompt_share"] = start["prompt_share"]
        table = _fit(rows, weights, start, trial, name, scale, sigma=SIGMA)
        fitted = {"engines": {**fitted["engines"], name: table}}
    return table


def _parents_first() -> list[str]:
    return sorted(engine_names(), key=lambda name: (find_engine(name).like != GENERIC, name))


def predictions(rows: Iterable[Measured], fitted: Fitted) -> list[tuple[Measured, float, str]]:
    """Each row that has a forecast, with it and the group of its interval."""
    profiles = {name: profile_of(name, fitted) for name in engine_names()}
    found = []
    for one in rows:
        try:
            recipe = recipe_of(replace(one.setting, engine=profiles[one.setting.engine.name]))
        except SkippedRowError:
            continue
        found.append((one, forecast(recipe), recipe.group))
    return found


@dataclass(frozen=True)
class _Unknown:
    """One number that is searched for: where its logarithm is added, and its prior."""

    table: str
    key: str
    name: str
    deviation: float


def _unknowns(columns: Columns) -> list[_Unknown]:
    found = [_Unknown("base", "", name, deviation) for name, deviation in BASE.items()]
    for index in sorted(set(columns.device)):
        found += [_Unknown("classes", DEVICE_CLASSES[index], name, one) for name, one in BY_CLASS.items()]
    for index in sorted(set(columns.form)):
        if FORMAT_CLASSES[index] != "16":
            found += [_Unknown("formats", FORMAT_CLASSES[index], name, one) for name, one in BY_FORMAT.items()]
    links = {*columns.link[columns.work.messages > 0], *columns.send[columns.work.sends > 0]}
    for index in sorted(links):
        found += [_Unknown("links", LINK_CLASSES[index], name, one) for name, one in BY_LINK.items()]
    return found


def _fit(
    rows: Sequence[Measured],
    weights: Sequence[float],
    start: Fitted,
    fitted: Fitted,
    name: str | None,
    scale: float,
    *,
    sigma: float,
) -> Fitted:
    profiles = {one: profile_of(one, fitted) for one in engine_names()}
    columns = columns_of(rows, lambda one: profiles[one.setting.engine.name], KEYS)
    kept = {id(one) for one in columns.rows}
    row_weights = numpy.array([weight for one, weight in zip(rows, weights, strict=True) if id(one) in kept])
    result: Fitted = solved(columns, row_weights, start, scale, sigma)
    result |= {"sources": sorted({one.row["source"] for one in columns.rows}), "lockstep": start["lockstep"]}
    result["prompt_share"] = start.get("prompt_share", 1.0)
    if name is None:
        result["intervals"] = START["intervals"]
    return result


def solved(columns: Columns, weights: Array, start: Fitted, scale: float, sigma: float) -> Fitted:
    """The constants of least cost, with the number of rows and the median error."""
    unknowns = _unknowns(columns)
    deviations = scale * numpy.array([one.deviation for one in unknowns])
    measured = numpy.log(columns.measured)

    def residuals(x: Array) -> Array:
        off = (numpy.log(_figures(columns, _moved(start, unknowns, x))) - measured) / sigma * weights
        bent = numpy.sign(off) * numpy.sqrt(2 * (numpy.sqrt(1 + off * off) - 1))
        return numpy.concatenate([bent, x / deviations])

    found = _minimum(residuals, numpy.zeros(len(unknowns)), deviations)
    table = _moved(start, unknowns, found)
    errors = numpy.abs(_figures(columns, table) / columns.measured - 1)
    left = residuals(found)
    return {
        "rows": len(measured),
        "median_error": float(numpy.median(errors)),
        "cost": float(left @ left) / len(measured),
        **table,
    }


def _moved(start: Fitted, unknowns: Sequence[_Unknown], x: Array) -> Fitted:
    """The constants, each times e to its unknown."""
    table: Fitted = {"base": dict(start["base"])}
    for key in ("classes", "formats", "links"):
        table[key] = {inner: dict(values) for inner, values in start[key].items()}
    for one, value in zip(unknowns, x, strict=True):
        if one.table == "base":
            table["base"][one.name] *= float(numpy.exp(value))
        else:
            values = table[one.table].setdefault(one.key, {})
            values[one.name] = values.get(one.name, 1.0) * float(numpy.exp(value))
    return table


def _figures(columns: Columns, table: Fitted) -> Array:
    values = {}
    for name in NAMES:
        devices = numpy.array([table["classes"].get(key, {}).get(name, 1.0) for key in DEVICE_CLASSES])
        forms = numpy.array([table["formats"].get(key, {}).get(name, 1.0) for key in FORMAT_CLASSES])
        value = table["base"][name] * devices[columns.device] * forms[columns.form]
        values[name] = numpy.minimum(value, MOST_SHARE) if name in SHARES else value
    links = {name: numpy.array([table["links"][key][name] for key in LINK_CLASSES]) for name in BY_LINK}
    links["share"] = numpy.minimum(links["share"], MOST_SHARE)
    link = Values({name: value[columns.link] for name, value in links.items()})
    send = Values({name: value[columns.send] for name, value in links.items()})
    requests = columns.has_request * table["base"]["request_seconds"]
    return figures(columns, row_seconds(columns, Values(values), link, send), columns.waits + requests)


def _minimum(residuals: Callable[[Array], Array], x: Array, scales: Array) -> Array:
    """Damped Gauss-Newton (Levenberg 1944, Marquardt 1963), the slopes by differences."""
    damping, width = 1e-2, 1e-3
    now = residuals(x)
    for _ in range(40):
        slopes = numpy.empty((len(now), len(x)))
        for index, scale in enumerate(scales):
            moved = x.copy()
            moved[index] += width * scale
            slopes[:, index] = (residuals(moved) - now) / width
        normal, gradient = slopes.T @ slopes, slopes.T @ now
        for _ in range(8):
            step = numpy.linalg.solve(normal + damping * numpy.diag(numpy.diag(normal) + 1e-9), -gradient)
            then = residuals(x + step * scales)
            if then @ then < now @ now:
                break
            damping *= 4
        else:
            return x
        gained = 1 - (then @ then) / (now @ now)
        x, now, damping = x + step * scales, then, max(damping / 5, 1e-6)
        if gained < 1e-4:
            return x
    return x


def _lockstep(waiting: Sequence[Measured], fitted: Fitted) -> float:
    """The share of others' prompts ahead of one's own that comes nearest to the times to a first token."""

    def off(share: float) -> float:
        trial: Mapping[str, Any] = {
            "engines": {name: {**table, "lockstep": share} for name, table in fitted["engines"].items()}
        }
        return float(
            numpy.median([abs(numpy.log(value / one.value)) for one, value, _ in predictions(waiting, dict(trial))])
        )

    return min((0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2), key=off)
