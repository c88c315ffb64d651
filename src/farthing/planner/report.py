"""A Plan as the JSON object `farthing.plan/1` and as text for people. Knows neither flags nor a terminal's width."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

from farthing.planner.layout import Layout, RankMemory
from farthing.planner.plan import Choice, Plan
from farthing.planner.speed import Phase, Speed
from farthing.planner.timing.forecast import StepForecast
from farthing.units import format_bytes, format_count, format_seconds

SCHEMA = "farthing.plan/1"


def to_json_object(plan: Plan) -> dict[str, Any]:
    """Sums are over all devices, `per_device` the parts; an unknown price is null, and so are speeds of what does not
    fit. Seconds, bytes, tokens per second, dollars."""
    layout, placement, spec = plan.placement.layout, plan.placement, plan.spec
    memories = [rank.memory for rank in placement.ranks]
    return {
        "schema": SCHEMA,
        "model": plan.model,
        "hardware": plan.hardware,
        "fits": plan.fits,
        "plan_only": list(plan.plan_only),
        "cautions": list(plan.cautions),
        "untimed": plan.untimed,
        "format": spec.precision.format.name,
        "kv_format": spec.precision.kv_dtype,
        "formats_too_large": list(plan.tried),
        "tp": layout.tp,
        "pp": layout.pp,
        "replicas": layout.replicas,
        "context": placement.context,
        "input_tokens": plan.request.prompt_tokens,
        "output_tokens": plan.request.answer_tokens,
        "memory": {
            "weights_bytes": sum(memory.weights_bytes for memory in memories),
            "kv_bytes_per_token": spec.kv_bytes_per_token,
            "kv_tokens": placement.kv_tokens,
            "sequences": placement.num_sequences,
            "activation_bytes": sum(memory.activation_bytes for memory in memories),
            "reserve_bytes": sum(memory.reserve_bytes + memory.graph_bytes for memory in memories),
            "per_device": [
                {
                    "device": rank.device.name,
                    "stage": rank.stage,
                    "layers": rank.num_layers,
                    "usable_bytes": rank.memory.budget_bytes,
                    "weights_bytes": rank.memory.weights_bytes,
                    "kv_bytes": rank.memory.kv_bytes,
                    "kv_tokens": rank.memory.kv_tokens,
                    "activation_bytes": rank.memory.activation_bytes,
                    "reserve_bytes": rank.memory.reserve_bytes + rank.memory.graph_bytes,
                    "left_after_weights_bytes": rank.memory.budget_bytes - rank.memory.weights_bytes,
                }
                for rank in placement.ranks
            ],
        },
        **_speed_object(plan, plan.best.speed if plan.choices else None),
        "full": _speed_object(plan, plan.best.full) if plan.choices else None,
        "other_layouts": [_layout_object(plan, choice) for choice in plan.choices[1:]],
        "would_fit": list(plan.would_fit),
        "assumptions": list(plan.assumptions),
    }


def _speed_object(plan: Plan, speed: Speed | None) -> dict[str, Any]:
    per_million = plan.price.per_million_tokens(speed.output_tokens_per_second) if speed else None
    cost = {"dollars_per_hour": plan.price.dollars_per_hour, "dollars_per_million_output_tokens": per_million}
    if speed is None:
        return {"batch": None, "prefill": None, "decode": None, "cost": cost}
    prefill, decode = speed.prefill, speed.decode
    return {
        "batch": speed.batch,
        "prefill": {"seconds": prefill.seconds, **_rate_object(prefill)},
        "decode": {"tpot_seconds": decode.seconds, **_rate_object(decode)},
        "cost": cost,
    }


def _layout_object(plan: Plan, choice: Choice) -> dict[str, Any]:
    layout = choice.placement.layout
    return {
        "tp": layout.tp,
        "pp": layout.pp,
        "replicas": layout.replicas,
        "kv_tokens": choice.placement.kv_tokens,
        "prefill_seconds": choice.speed.prefill.seconds,
        "tpot_seconds": choice.speed.decode.seconds,
        "full_batch": choice.full.batch,
        "full_output_tokens_per_second": choice.full.output_tokens_per_second,
        "full_dollars_per_million_output_tokens": plan.price.per_million_tokens(choice.full.output_tokens_per_second),
    }


def _rate_object(phase: Phase) -> dict[str, Any]:
    step = phase.step
    return {
        "tokens_per_second": phase.tokens_per_second,
        "bound": step.bound,
        "shares": {bound: seconds / step.seconds for bound, seconds in step.by_bound.items()},
        "ops": [{"name": op.name, "count": op.count, "seconds": op.seconds, "bound": op.bound} for op in step.ops],
    }


def headline(plan: Plan, money: Callable[[float], str] | None = None) -> str:
    """The plan in one line. `money`: an amount of dollars as it is shown."""
    money = money or _dollars
    spec, split = plan.spec, _split(plan.placement.layout)
    where = f"{plan.model} · {spec.precision.format.name} on {plan.hardware}{f' ({split})' if split else ''}"
    if not plan.fits:
        return f"{where} · does not fit"
    if plan.untimed:
        return f"{where} · fits, KV room {plan.placement.kv_tokens:,} tokens · no time: {plan.untimed}"
    speed = plan.best.speed
    memories = [rank.memory for rank in plan.placement.ranks]
    taken = sum(memory.total_bytes - memory.kv_bytes for memory in memories)
    whole = sum(memory.budget_bytes for memory in memories)
    cheapest = plan.most_tokens
    dollars = plan.price.per_million_tokens(cheapest.full.output_tokens_per_second)
    other_split = "" if cheapest is plan.best else f" as {_split(cheapest.placement.layout) or 'one rank'}"
    cost = "price unknown" if dollars is None else f"{money(dollars)} per Mtok when full{other_split}"
    return (
        f"{where} · {format_bytes(taken)} of {format_bytes(whole)} before KV, "
        f"KV room {plan.placement.kv_tokens:,} tokens · "
        f"expect {_rate(speed.decode.tokens_per_second)} at batch {speed.batch} "
        f"({speed.decode.step.bound}-bound) · {cost}"
    )


def memory_columns(plan: Plan) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """A column per run of equal devices: its title, and (name, size) from layers to what is left or missing."""
    for ranks in _equal_neighbours(plan.placement.ranks):
        (first, rank), (last, _) = ranks[0], ranks[-1]
        memory = rank.memory
        left = memory.budget_bytes - memory.total_bytes if memory.num_blocks else -rank.shortfall_bytes
        room = ("KV room", memory.kv_bytes) if memory.num_blocks else ("KV of one sequence", rank.sequence_bytes)
        yield (
            f"{rank.device.name} #{first}" + (f"-{last}" if last > first else ""),
            (
                ("layers", str(rank.num_layers)),
                ("weights", format_bytes(memory.weights_bytes)),
                (room[0], format_bytes(room[1])),
                ("activations", format_bytes(memory.activation_bytes)),
                *((("graphs", format_bytes(memory.graph_bytes)),) if memory.graph_bytes else ()),
                ("reserve", format_bytes(memory.reserve_bytes)),
                ("usable", format_bytes(memory.budget_bytes)),
                ("left", format_bytes(left)) if left >= 0 else ("missing", format_bytes(-left)),
            ),
        )


def _equal_neighbours(ranks: Sequence[RankMemory]) -> Iterator[list[tuple[int, RankMemory]]]:
    """(index, rank) of devices that follow each other and hold the same."""
    for _, group in groupby(
        enumerate(ranks), key=lambda item: (item[1].device.name, item[1].num_layers, item[1].memory)
    ):
        yield list(group)


def speed_columns(
    plan: Plan, money: Callable[[float], str] | None = None
) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """As asked, and at the batch that memory holds: the column's title, and (name, figure). `money`: an amount of
    dollars as it is shown."""
    money = money or _dollars
    for title, speed in (("", plan.best.speed), (" (full)", plan.best.full)):
        dollars = plan.price.per_million_tokens(speed.output_tokens_per_second)
        prefill, decode = speed.prefill, speed.decode
        yield (
            f"batch {speed.batch:,}{title}",
            (
                ("prefill", f"{format_seconds(prefill.seconds)}, {format_count(prefill.tokens_per_second)} tok/s"),
                ("  limited by", _shares(prefill.step)),
                ("time per token", format_seconds(decode.seconds)),
                ("  limited by", _shares(decode.step)),
                ("decode", _rate(decode.tokens_per_second)),
                ("output, with prefill", _rate(speed.output_tokens_per_second)),
                ("per million of them", "price unknown" if dollars is None else money(dollars)),
            ),
        )


def op_rows(step: StepForecast, limit: int = 8) -> Iterator[tuple[str, str, float, str]]:
    """The ops that take longest: name x count, time, share of the step, bound."""
    for op in sorted(step.ops, key=lambda op: -op.seconds)[:limit]:
        name = f"{op.name} x{op.count}" if op.count > 1 else op.name
        yield name, format_seconds(op.seconds), op.seconds / step.seconds, op.bound


def layout_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """tp, pp, replicas, KV room, prefill, time per token and tokens/s as asked; batch and output tokens/s when full."""
    for choice in plan.choices:
        layout, speed, full = choice.placement.layout, choice.speed, choice.full
        yield (
            str(layout.tp),
            str(layout.pp),
            str(layout.replicas),
            f"{choice.placement.kv_tokens:,}",
            format_seconds(speed.prefill.seconds),
            format_seconds(speed.decode.seconds),
            _rate(speed.decode.tokens_per_second),
            f"{full.batch:,}",
            _rate(full.output_tokens_per_second),
        )


def _dollars(dollars: float) -> str:
    """Cents, or two digits of less than ten of them: $13.84, $0.0031."""
    return f"${dollars:,.2f}" if dollars >= 0.1 else f"${dollars:.2g}"


def _rate(tokens_per_second: float) -> str:
    """Two digits at least: 0.73 tok/s, 8.4 tok/s, 1,234 tok/s."""
    return f"{tokens_per_second:,.0f} tok/s" if tokens_per_second >= 10 else f"{tokens_per_second:.2g} tok/s"


def _split(layout: Layout) -> str:
    """'tp 2 pp 2'; empty for one rank."""
    parts = (("tp", layout.tp), ("pp", layout.pp), ("replicas", layout.replicas))
    return " ".join(f"{name} {value}" for name, value in parts if value > 1)


def _shares(step: StepForecast) -> str:
    """'bandwidth 91 %, latency 6 %': every bound above 4 %, largest first."""
    shares = sorted(((seconds / step.seconds, bound) for bound, seconds in step.by_bound.items()), reverse=True)
    return ", ".join(f"{bound} {share:.0%}" for share, bound in shares if share >= 0.045)
