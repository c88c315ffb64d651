"""An Explanation as JSON and as lines of text. Knows neither flags nor a terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from farthing.planner.explain import MIN_GAIN, Explanation, Part, Remedy, Starvation
from farthing.units import format_seconds

_PARTS: dict[Part, str] = {
    "weights": "reading weights",
    "kv_cache": "reading KV",
    "activations": "activations",
    "compute": "arithmetic",
    "link": "links",
    "latency": "launches",
}


def to_json_object(explanation: Explanation) -> dict[str, Any]:
    """Seconds by part, factors. The part `explain` of a plan's object: no schema of its own."""
    return {
        "bound": explanation.bound,
        "prefill_seconds": dict(explanation.prefill),
        "decode_seconds": dict(explanation.decode),
        "kv_starved": None if explanation.starvation is None else asdict(explanation.starvation),
        "remedies": [{**asdict(one), "gain": one.gain} for one in explanation.remedies],
    }


def to_lines(explanation: Explanation, most: int = 6) -> Iterator[str]:
    """What bounds it, where the time goes, what would help: at most so many remedies."""
    yield f"a token is {explanation.bound}-bound: {_shares(explanation.decode)}"
    yield f"a prompt: {_shares(explanation.prefill)}"
    if explanation.starvation is not None:
        yield starved_line(explanation.starvation)
    for remedy in explanation.remedies[:most]:
        yield remedy_line(remedy)


def starved_line(found: Starvation) -> str:
    return (
        f"KV-starved: room for {found.running:,} sequences of {found.seats:,} places in a replica; "
        f"twice the room gives {found.gain:.3g} times the tokens"
    )


def remedy_line(remedy: Remedy) -> str:
    gains = []
    if remedy.answer_gain >= MIN_GAIN:
        gains.append(f"answers {remedy.answer_gain:.3g} times as fast")
    if remedy.throughput_gain >= MIN_GAIN:
        when = "" if remedy.kind == "batch" else " when full"
        gains.append(f"{remedy.throughput_gain:.3g} times the tokens{when}")
    if remedy.energy_gain >= MIN_GAIN:
        gains.append(f"{remedy.energy_gain:.3g} times the tokens a joule")
    losses = []
    if remedy.answer_gain <= 1 / MIN_GAIN:
        losses.append(f"answers {1 / remedy.answer_gain:.3g} times as slow")
    if remedy.throughput_gain <= 1 / MIN_GAIN:
        losses.append(f"{remedy.throughput_gain:.3g} times the tokens")
    if remedy.cost_factor is None:
        losses.append("price unknown")
    elif remedy.cost_factor > 1:
        losses.append(f"{remedy.cost_factor:g} times the price")
    text = f"{remedy.what}{f' ({remedy.flag})' if remedy.flag else ''}: {', '.join(gains)}"
    text += f"; but {', '.join(losses)}" if losses else ""
    return f"{text} - {remedy.note}" if remedy.note else text


def _shares(parts: Mapping[Part, float]) -> str:
    """The largest first; what is under 1 % is left out."""
    whole = sum(parts.values())
    ranked = sorted(parts, key=lambda name: -parts[name])
    shown = [f"{_PARTS[name]} {parts[name] / whole:.0%}" for name in ranked if parts[name] >= 0.01 * whole]
    return f"{format_seconds(whole)}, {', '.join(shown)}"
