"""How much a plan's answer moves when what it rests on does: price, batch, lengths of prompts and answers.

Each is moved by itself, all else as asked, on the layout that gives most tokens when full. Knows no words.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from farthing.errors import FarthingError
from farthing.planner.hardware import Hardware
from farthing.planner.page import report_sources as ask
from farthing.planner.plan import Plan
from farthing.planner.speed import Speed

_LENGTHS = tuple(4**power for power in range(4, 10))  # 256 to 262,144 tokens


@dataclass(frozen=True, slots=True)
class LeverEnd:
    """One end of a lever: what it was moved to (a number of its unit), and what the answer is then."""

    moved_to: float
    tokens_per_second: float
    dollars_per_million: float | None


@dataclass(frozen=True, slots=True)
class Lever:
    """`name`: price (dollars per hour), batch (requests), prompt, answer (tokens). `base`: as asked."""

    name: str
    base: LeverEnd
    ends: tuple[LeverEnd, ...]


@dataclass(frozen=True, slots=True)
class LengthRow:
    """Prompts of so many tokens; `full` None where not one such request fits."""

    prompt_tokens: int
    is_asked: bool
    full: Speed | None
    dollars_per_million: float | None


def levers(plan: Plan, hardware: Hardware, market: str) -> tuple[Lever, ...]:
    """Those that can be moved, each with one or two ends. `market`: whose rents are the range of the price."""
    return tuple(lever for lever in _levers(plan, hardware, market) if lever.ends)


def _levers(plan: Plan, hardware: Hardware, market: str) -> Iterator[Lever]:
    choice, request = plan.most_tokens, plan.request
    full = choice.full

    def end(moved_to: float, speed: Speed) -> LeverEnd:
        rate = speed.output_tokens_per_second
        return LeverEnd(moved_to, rate, plan.price.per_million_tokens(rate))

    dollars, rate = plan.price.dollars_per_hour, full.output_tokens_per_second
    if dollars:
        low, high = (None if request.price_per_hour is not None else ask.rent_range(hardware.devices, market)) or (
            dollars / 2,
            dollars * 2,
        )
        ends = tuple(LeverEnd(price, rate, price / (rate * 3600) * 1e6) for price in (low, high))
        yield Lever("price", end(dollars, full), ends)
    fewer = [batch for batch in (max(1, full.batch // 8), max(1, full.batch // 2)) if batch < full.batch]
    ends = tuple(end(batch, ask.speed_at(choice.placement, hardware, request, batch)) for batch in dict.fromkeys(fewer))
    yield Lever("batch", end(full.batch, full), ends)
    prompt, answer = request.prompt_tokens, request.answer_tokens
    for name, base, pairs in (
        ("prompt", prompt, ((max(1, prompt // 2), answer), (prompt * 2, answer))),
        ("answer", answer, ((prompt, max(1, answer // 2)), (prompt, answer * 2))),
    ):
        moved = [(max(pair[name == "answer"], 1), _with_lengths(plan, hardware, *pair)) for pair in pairs]
        yield Lever(name, end(base, full), tuple(end(to, speed) for to, speed in moved if speed and to != base))


def _with_lengths(plan: Plan, hardware: Hardware, prompt: int, answer: int) -> Speed | None:
    """When full of requests of these lengths; None where none fits, or the model computes no such length."""
    if prompt + answer > plan.spec.max_positions:
        return None
    try:
        placement, request = ask.with_lengths(plan.most_tokens.placement, hardware, plan.request, prompt, answer)
        return ask.full_speed(placement, hardware, request) if placement.fits else None
    except FarthingError:
        return None


def length_rows(plan: Plan, hardware: Hardware) -> tuple[LengthRow, ...]:
    """Prompts from short to as long as the model computes, answers as asked."""
    asked, answer = plan.request.prompt_tokens, plan.request.answer_tokens
    longest = plan.spec.max_positions - answer
    prompts = sorted({asked, *(length for length in _LENGTHS if length < longest)})
    if longest > prompts[-1]:
        prompts.append(longest)
    rows = []
    for prompt in prompts:
        full = _with_lengths(plan, hardware, prompt, answer)
        dollars = plan.price.per_million_tokens(full.output_tokens_per_second) if full else None
        rows.append(LengthRow(prompt, prompt == asked, full, dollars))
    return tuple(rows)
