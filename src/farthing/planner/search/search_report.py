"""An answered search as a JSON object, schema farthing.search/1, and the phrases that JSON and terminals share.

Money is in dollars, time in seconds, what is not known is null. Knows no terminal.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from farthing.planner.money.law import NOT_ADVICE
from farthing.planner.money.monthly import Monthly
from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.search.candidates import Descriptions
from farthing.planner.search.search import Option, Search
from farthing.planner.search.search_answer import Answer, option_key
from farthing.planner.search.sensitivity import Flip, best_of_each
from farthing.planner.search.why_not import WhyNot, binding_text

SCHEMA = "farthing.search/1"
WAY_NAMES = {"rent": "rent", "buy": "own"}
WAY_PHRASES = {"rent": "to rent", "buy": "to own"}
_MOST_OPTIONS = 60  # in JSON, of each way; those that nothing beats are all there


def to_json_object(answer: Answer, offers: Offers, descriptions: Descriptions) -> dict[str, Any]:
    found = answer.search
    demand, slo = found.demand, found.slo
    return {
        "schema": SCHEMA,
        "model": found.model,
        "found": answer.found,
        "demand": {
            "workload": demand.name,
            "users": demand.users,
            "rate": demand.rate,
            "input_tokens": demand.input_tokens,
            "cached_tokens": demand.prefix_tokens,
            "output_tokens": demand.output_tokens,
            "longest_tokens": demand.longest,
            "think_seconds": demand.think_seconds,
            "notes": list(demand.notes),
        },
        "slo": {"ttft_seconds": slo.ttft_seconds, "tpot_seconds": slo.tpot_seconds, "share": 0.9},
        "market": offers.book.market.code,
        "considered": found.num_considered,
        "priced": found.num_priced,
        "meeting": len(found.options),
        "best": {way: None if (best := found.best(way)) is None else _option(answer, best, way) for way in WAYS},
        "options": {way: [_option(answer, option, way) for option in _told(found, way)] for way in WAYS},
        "nearest": nearest_object(answer, descriptions),
        "why_not": {way: [_why(one) for one in answer.why_not[way]] for way in WAYS},
        "not_looked_at": [_why(one) for one in answer.not_looked_at],
        "flips": [_flip(one) for one in answer.flips],
        "law": {id: list(lines) for id, lines in answer.law.items()},
        "assumptions": list(assumptions(answer, offers)),
    }


def _told(found: Search, way: str) -> list[Option]:
    unbeaten = front_keys(found, way)
    ranked = found.ranked(way)
    return [one for index, one in enumerate(ranked) if index < _MOST_OPTIONS or option_key(one) in unbeaten]


def _option(answer: Answer, option: Option, way: str) -> dict[str, Any]:
    configuration, steady, found = option.configuration, option.steady, answer.search
    users, dollars, confirmed = found.demand.users, option.dollars(way), answer.confirmed(option)
    monthly = option.monthly[way]
    assert isinstance(monthly, Monthly)
    return {
        "accelerator": configuration.accelerator.id,
        "devices": option.num_devices,
        "devices_paid": option.count(way),
        "nodes": option.num_nodes,
        "replicas": option.replicas,
        "tp": configuration.tp,
        "pp": configuration.pp,
        "format": configuration.precision.format.name,
        "kv_format": configuration.precision.kv_dtype,
        "engine_forecast": configuration.engine,
        "runs_with": list(configuration.runs_with),
        "max_num_seqs": option.max_num_seqs,
        "dollars_per_month": dollars,
        "dollars_per_user_month": dollars / users if users else None,
        "capital_dollars": monthly.capital_dollars,
        "site_watts": option.watts,
        "ttft_seconds": steady.ttft,
        "ttft_range": [option.ttft_range.low, option.ttft_range.high],
        "tpot_seconds": steady.tpot,
        "tpot_range": [option.tpot_range.low, option.tpot_range.high],
        "ttft_mean_seconds": steady.ttft_mean,
        "tpot_mean_seconds": steady.tpot_mean,
        "running": steady.running,
        "requests_per_second": steady.rate * option.replicas,
        "kv_usage": steady.kv_tokens / option.kv_tokens,
        "keeps_prefix": steady.keeps_prefix,
        "is_safe": option.is_safe(found.slo),
        "quality_worst": option.quality.worst,
        "quality_best": option.quality.best,
        "quality_note": option.quality.note,
        "is_dominated": option_key(option) not in front_keys(found, way),
        "simulated": None
        if confirmed is None
        else {
            "ttft_seconds": confirmed.ttft,
            "tpot_seconds": confirmed.tpot,
            "requests": confirmed.requests,
            "preemptions": confirmed.preemptions,
            "hit_ratio": confirmed.hit_ratio,
            "meets": confirmed.is_met(found.slo),
        },
    }


_FRONTS: dict[tuple[int, str], tuple[Search, frozenset[object]]] = {}


def front_keys(found: Search, way: str) -> frozenset[object]:
    """Of the options that nothing beats."""
    key = (id(found), way)
    if key not in _FRONTS or _FRONTS[key][0] is not found:
        _FRONTS.clear()
        _FRONTS[key] = (found, frozenset(option_key(option) for option in found.front(way)))
    return _FRONTS[key][1]


def _why(one: WhyNot) -> dict[str, Any]:
    return {
        "accelerator": one.id,
        "devices": one.count,
        "dollars_per_month": one.dollars,
        "kind": one.kind,
        "text": one.text,
        "share_of_load": one.share,
    }


def _flip(one: Flip) -> dict[str, Any]:
    factor = one.factor if one.factor is not None and math.isfinite(one.factor) else None
    return {
        "what": one.what,
        "way": one.way,
        "factor": factor,
        "value": one.value,
        "winner": one.winner,
        "dollars_per_month": one.dollars,
        "flips": not one.is_same,
    }


def nearest_object(answer: Answer, descriptions: Descriptions) -> dict[str, Any] | None:
    """Where nothing does it: what comes nearest, and what binds."""
    attempt = answer.nearest
    if attempt is None:
        return None
    kind, text = binding_text(answer.search, attempt, descriptions)
    at = attempt.capacity.at
    return {
        "accelerator": attempt.configuration.accelerator.id,
        "devices": attempt.configuration.num_devices,
        "format": attempt.configuration.precision.format.name,
        "tp": attempt.configuration.tp,
        "pp": attempt.configuration.pp,
        "carries": attempt.capacity.amount,
        "ttft_seconds": at.ttft if at else None,
        "tpot_seconds": at.tpot if at else None,
        "kind": kind,
        "text": text,
    }


def assumptions(answer: Answer, offers: Offers) -> Iterator[str]:
    """What the answer rests on and nobody said."""
    found = answer.search
    yield from found.demand.notes
    yield "ranges: eight of ten measurements of such forecasts lie within (benchmarks/forecasts.md)"
    yield "nine of ten: requests arrive at random, their lengths are lognormal, and each replica gets its even share"
    if answer.flips:
        yield "where it flips: other loads and contexts are searched by closed forms, not simulated"
    if found.demand.prefix_of == "user":
        yield "a user's requests go to the replica that has the conversation; it stays in the KV pool if all fit"
    for way in WAYS:
        best = found.best(way)
        if best is None:
            continue
        monthly = best.monthly[way]
        assert isinstance(monthly, Monthly)
        for part in monthly.parts:
            yield f"{WAY_NAMES[way]}: {part.name}: {part.note}"
        yield from (f"{WAY_NAMES[way]}: {note}" for note in monthly.notes)
        yield f"score of {best.configuration.precision.format.name} weights: {best.quality.note}"
    for id, lines in answer.law.items():
        yield from (f"{id}: {line} ({NOT_ADVICE})" for line in lines)
    yield "what runs where: the engines' documents say; not tried by this program"


def sure_text(option: Option, found: Search) -> str:
    """One word on how sure it is."""
    return "safe" if option.is_safe(found.slo) else "likely"


def rows(found: Search, way: str, most: int) -> list[Option]:
    """What a table shows: the cheapest of each part, and what is on the front, cheapest first."""
    shown = {option.name(way): option for option in best_of_each(found, way)[:most]}
    for option in found.front(way):
        if len(shown) < most + most // 2:
            shown.setdefault(option.name(way), option)
    return sorted(shown.values(), key=lambda option: option.rank(way))


def flip_lines(flips: Sequence[Flip], money: Callable[[float], str]) -> Iterator[str]:
    """Sentences; what changes nothing is told once for each way. `money`: an amount in dollars as text."""
    for one in flips:
        if not one.is_same:
            yield _flip_line(one, money)
    for way, place in WAY_PHRASES.items():
        same = [one for one in flips if one.is_same and one.way == way and one.what not in ("hours", "electricity")]
        values = ", ".join(one.value for one in same if one.what != "price")
        if values:
            yield f"{place}: the same part stays the cheapest at {values}"
        if any(one.what == "price" and one.is_same and one.way == way for one in flips):
            yield f"{place}: no rise of its price up to x 20 changes the winner"
    if any(one.what == "electricity" and one.is_same for one in flips):
        yield "to own: electricity from free to 20 times as dear changes nothing"
    for one in flips:
        if one.what == "hours" and one.is_same:
            yield "renting is cheaper than owning even around the clock"


def _flip_line(one: Flip, money: Callable[[float], str]) -> str:
    way = WAY_PHRASES[one.way]
    dollars = f" ({money(one.dollars)} a month)" if one.dollars is not None else ""
    if one.what == "hours":
        return f"below {one.value} a day, renting {one.winner} by the hour is cheaper than owning; above it, owning is"
    if one.winner is None:
        return f"{way}: at {one.value}, nothing within the limits keeps the promise"
    if one.what == "price":
        return f"{way}: {one.value} in price, and {one.winner} is as cheap{dollars}"
    if one.what == "electricity":
        return f"{way}: with electricity {one.value}, {one.winner} is the cheapest"
    return f"{way}: at {one.value}, {one.winner}{dollars}"
