"""4090 or H100: tokens per second over context, division and P2P, and what a token costs; where the answer flips.

Tables of what the planner says, and sentences chosen by it. Knows no other hardware (hardware_2026.py).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from article.blocks import Block, Bullets, Cell, Code, Heading, Paragraph, Several, Table, say
from article.figures import count, dollars, milliseconds, rate, split, times
from article.plans import (
    ARTICLE,
    H100,
    LIMITS,
    LOADS,
    LONG_MODEL,
    PATCHED,
    SHORT,
    STOCK,
    Box,
    Load,
    box_plan,
    choice_of,
    command_of_box,
    one_stream,
    room_for_tokens,
    tokens_per_second,
)
from article.prices import BASES, OWNED, RENTED, Basis, capital, num_cards, years_text
from farthing.planner.plan import Plan

DIVISIONS = ((8, 1), (4, 2), (2, 4), (1, 8))
FORMATS = ("fp16", "fp8", "int4")
EVEN = 1.15  # nearer than such forecasts are exact
BOXES = (STOCK, PATCHED, H100)
TWO_NODES, DESKTOPS = Box("2x4xrtx-4090", network="3.125GB"), Box("8x1xrtx-4090", network="3.125GB")
BUILDS = (STOCK, PATCHED, TWO_NODES, DESKTOPS, H100)
_NAMES = {
    STOCK: "box_name.stock",
    PATCHED: "box_name.patched",
    H100: "box_name.h100",
    TWO_NODES: "box_name.two_nodes",
    DESKTOPS: "box_name.desktops",
}


def name_of(box: Box) -> Cell:
    return say(_NAMES[box])


def section() -> Iterator[Block]:
    yield Heading(say("question.title"))
    yield Paragraph(_lead())
    yield Bullets(list(verdict()))
    yield Heading(say("question.throughput"), 3)
    yield Paragraph(say("question.throughput_lead"))
    yield _throughput_table()
    yield Code([command_of_box(ARTICLE, box) for box in BOXES])
    yield Heading(say("question.formats"), 3)
    yield _format_table()
    yield Heading(say("question.stream"), 3)
    yield _stream_table()
    yield Heading(say("question.money"), 3)
    yield Paragraph(say("question.money_lead", years=years_text(OWNED)))
    yield _price_table()
    yield Paragraph(say("question.winner_lead", even=f"{EVEN - 1:.0%}"))
    yield _winner_table()
    yield Paragraph(say("question.flip_lead"))
    yield _flip_table()
    network = f"{DESKTOPS.network.removesuffix('GB')} GB/s"
    yield Heading(say("question.builds"), 3)
    yield Paragraph(say("question.builds_lead", network=network))
    yield _build_table()


def _lead() -> Cell:
    models = {"model": ARTICLE.model, "context": count(ARTICLE.context), "long_model": LONG_MODEL}
    return say("question.lead", **models, most=count(LIMITS[-1]))


def load_name(load: Load) -> Cell:
    return f"{count(load.input_tokens)} + {count(load.output_tokens)}"


def _throughput_table() -> Table:
    columns: list[Cell] = [say("column.load"), say("column.box")]
    columns += [say("column.division", tp=str(tp), pp=str(pp)) for tp, pp in DIVISIONS]
    columns += [say(f"column.{name}") for name in ("replicas", "best", "batch", "per_token", "h100_ratio")]
    rows: list[Sequence[Cell]] = []
    for load in LOADS:
        fastest = tokens_per_second(box_plan(load, H100))
        for box in BOXES:
            plan = box_plan(load, box)
            rows.append((load_name(load), name_of(box), *_divisions(plan), *_best(plan, fastest)))
    return Table(columns, rows)


def _divisions(plan: Plan) -> Iterator[Cell]:
    """Tokens per second in each pure division, then in the best one of several replicas."""
    for tp, pp in DIVISIONS:
        choice = choice_of(plan, tp, pp)
        yield say("cell.does_not_fit") if choice is None else rate(choice.full.output_tokens_per_second)
    copies = [choice for choice in plan.choices if choice.placement.layout.replicas > 1]
    if not copies:
        yield say("cell.does_not_fit")
        return
    best = max(copies, key=lambda choice: choice.full.output_tokens_per_second)
    layout = best.placement.layout
    yield f"{rate(best.full.output_tokens_per_second)} ({split(layout.tp, layout.pp, layout.replicas)})"


def _best(plan: Plan, fastest: float) -> Iterator[Cell]:
    if not plan.choices:
        yield from (say("cell.none"),) * 4
        return
    best = plan.most_tokens
    yield rate(tokens_per_second(plan))
    yield count(best.full.batch)
    yield milliseconds(best.full.decode.seconds)
    yield times(fastest / tokens_per_second(plan))


def _format_table() -> Table:
    rows: list[Sequence[Cell]] = []
    for weight_format in FORMATS:
        plans = {box: box_plan(ARTICLE, box, weight_format) for box in BOXES}
        fastest = tokens_per_second(plans[H100])
        for box, plan in plans.items():
            if not plan.choices:
                rows.append((weight_format, name_of(box), *(say("cell.none"),) * 4))
                continue
            layout = plan.most_tokens.placement.layout
            rows.append(
                (
                    weight_format,
                    name_of(box),
                    split(layout.tp, layout.pp, layout.replicas),
                    count(plan.most_tokens.full.batch),
                    rate(tokens_per_second(plan)),
                    times(fastest / tokens_per_second(plan)),
                )
            )
    columns = [say(f"column.{name}") for name in ("format", "box", "split", "batch", "best", "h100_ratio")]
    return Table(columns, rows)


def _stream_table() -> Table:
    rows: list[Sequence[Cell]] = []
    for load in LOADS:
        speeds = [one_stream(box_plan(load, box)) for box in BOXES]
        ratios = [times(speeds[2] / speed) if speed else say("cell.none") for speed in speeds[:2]]
        rows.append((load_name(load), *map(rate, speeds), *ratios))
    columns = [say("column.load"), *map(name_of, BOXES), say("column.over_stock"), say("column.over_patched")]
    return Table(columns, rows)


def _price_table() -> Table:
    rows: list[Sequence[Cell]] = []
    for basis in BASES:
        mine, theirs = basis.dollars_per_hour(STOCK), basis.dollars_per_hour(H100)
        known = [say("cell.unknown") if one is None else dollars(one) for one in (mine, theirs)]
        ratio = say("cell.unknown") if not mine or not theirs else times(theirs / mine)
        rows.append((basis.name, *known, ratio))
    return Table([say(f"column.{name}") for name in ("basis", "hour_4090", "hour_h100", "over_stock")], rows)


def gain(basis: Basis, load: Load, box: Box) -> float | None:
    """How many times cheaper a token of that 4090 box is than one of the H100 box; below 1 it is dearer."""
    mine = basis.dollars_per_million(box, tokens_per_second(box_plan(load, box)))
    theirs = basis.dollars_per_million(H100, tokens_per_second(box_plan(load, H100)))
    return None if mine is None or theirs is None else theirs / mine


def winner(factor: float | None) -> Cell:
    if factor is None:
        return say("cell.unknown")
    if 1 / EVEN <= factor <= EVEN:
        return say("winner.even", factor=times(max(factor, 1 / factor)))
    return say("winner.rtx4090", factor=times(factor)) if factor > 1 else say("winner.h100", factor=times(1 / factor))


def _winner_table() -> Table:
    rows: list[Sequence[Cell]] = []
    for load in LOADS:
        for box in (STOCK, PATCHED):
            rows.append((load_name(load), name_of(box), *(winner(gain(basis, load, box)) for basis in BASES)))
    return Table([say("column.load"), say("column.box"), *(basis.name for basis in BASES)], rows)


def _flip_table() -> Table:
    """At which price of an H100 a token costs the same on both."""
    rows: list[Sequence[Cell]] = []
    rent, owned = RENTED.dollars_per_hour(STOCK), OWNED.dollars_per_hour(STOCK)
    for load in LOADS:
        for box in (STOCK, PATCHED):
            speed = tokens_per_second(box_plan(load, box))
            if not speed or rent is None or owned is None:
                rows.append((load_name(load), name_of(box), *(say("cell.none"),) * 3))
                continue
            ratio = tokens_per_second(box_plan(load, H100)) / speed
            rows.append(
                (
                    load_name(load),
                    name_of(box),
                    times(ratio),
                    dollars(rent * ratio / num_cards(H100)),
                    dollars(owned * ratio / num_cards(H100)),
                )
            )
    columns = [say("column.load"), say("column.box"), say("column.flip_ratio"), say("column.flip_rent")]
    return Table([*columns, say("column.flip_owned")], rows)


def _build_table() -> Table:
    rows: list[Sequence[Cell]] = []
    for box in BUILDS:
        cells: list[Cell] = []
        for load in (SHORT, ARTICLE):
            speed = tokens_per_second(box_plan(load, box))
            cost = OWNED.dollars_per_million(box, speed)
            cells += [rate(speed), say("cell.unknown") if cost is None else dollars(cost)]
        hourly = OWNED.dollars_per_hour(box)
        rows.append(
            (name_of(box), dollars(capital(box)), say("cell.unknown") if hourly is None else dollars(hourly), *cells)
        )
    columns: list[Cell] = [say("column.box"), say("column.capital"), say("column.hour_owned")]
    for load in (SHORT, ARTICLE):
        columns += [say("column.speed_at", load=load_name(load)), say("column.cost_at", load=load_name(load))]
    return Table(columns, rows)


def verdict() -> Iterator[Cell]:
    """Where the 4090 wins, where not, where it flips: sentences that the figures choose."""
    ratios = [
        tokens_per_second(box_plan(load, H100)) / speed
        for load in LOADS
        for box in (STOCK, PATCHED)
        if (speed := tokens_per_second(box_plan(load, box)))
    ]
    yield say("say.throughput", low=times(min(ratios)), high=times(max(ratios)))
    for basis in (OWNED, RENTED):
        for box in (STOCK, PATCHED):
            yield say("say.money", basis=basis.name, box=name_of(box), answer=_answer(basis, box))
    yield from map(_build_sentence, (SHORT, ARTICLE))
    yield _p2p_sentence()
    yield _division_sentence()
    yield _stream_sentence()
    yield _room_sentence()


def _answer(basis: Basis, box: Box) -> Cell:
    return answer([(load, gain(basis, load, box)) for load in LOADS])


def answer(gains: Sequence[tuple[Load, float | None]]) -> Cell:
    """Who is cheaper at these loads, in order of their contexts, and between which it flips."""
    sides = [(load, _side(factor)) for load, factor in gains if factor is not None]
    if not sides:
        return say("cell.unknown")
    if len({side for _, side in sides}) == 1:
        return say(f"answer.always_{sides[0][1]}")
    flips: list[Cell] = [
        say(f"answer.{after}_from", before=count(load.context), context=count(next_.context))
        for (load, before), (next_, after) in pairwise(sides)
        if before != after
    ]
    return Several([say(f"answer.first_{sides[0][1]}"), *flips], "semicolon")


def _side(factor: float) -> str:
    return "even" if 1 / EVEN <= factor <= EVEN else "rtx4090" if factor > 1 else "h100"


def _build_sentence(load: Load) -> Cell:
    """The cheapest eight 4090 without a patched driver against the H100 box."""
    costs = {
        box: cost
        for box in BUILDS
        if box.p2p is None
        if (cost := OWNED.dollars_per_million(box, tokens_per_second(box_plan(load, box)))) is not None
    }
    theirs = costs.pop(H100)
    box = min(costs, key=lambda box: costs[box])
    mine = costs[box]
    values = {"load": load_name(load), "box": name_of(box), "mine": dollars(mine), "h100": dollars(theirs)}
    return say("say.build", **values, winner=winner(theirs / mine))


def _p2p_sentence() -> Cell:
    gains = [tokens_per_second(box_plan(load, PATCHED)) / tokens_per_second(box_plan(load, STOCK)) for load in LOADS]
    key = "say.p2p" if max(gains) > EVEN else "say.p2p_nothing"
    return say(key, low=times(min(gains)), high=times(max(gains)))


def _division_sentence() -> Cell:
    """Tensor against pipeline parallel on the stock box at the article's length."""
    tensor, pipeline = (choice_of(box_plan(ARTICLE, STOCK), *division) for division in (DIVISIONS[0], DIVISIONS[-1]))
    layout = box_plan(ARTICLE, STOCK).most_tokens.placement.layout
    best = split(layout.tp, layout.pp, layout.replicas)
    if tensor is None or pipeline is None:
        return say("say.division_one", best=best)
    ratio = pipeline.full.output_tokens_per_second / tensor.full.output_tokens_per_second
    key = "say.division_pipeline" if ratio > 1 else "say.division_tensor"
    return say(key, context=count(ARTICLE.context), factor=times(max(ratio, 1 / ratio)), best=best)


def stream_key(ratios: Sequence[float], price: float) -> str:
    """Who is cheaper a token alone: how many times as fast an H100 box is, against how many times as dear."""
    cheaper = "4090" if price > max(ratios) * EVEN else "h100" if price < min(ratios) / EVEN else "even"
    return f"say.stream_{cheaper}"


def _stream_sentence() -> Cell:
    ratios = [
        one_stream(box_plan(load, H100)) / speed for load in LOADS if (speed := one_stream(box_plan(load, PATCHED)))
    ]
    mine, theirs = RENTED.dollars_per_hour(STOCK), RENTED.dollars_per_hour(H100)
    price = theirs / mine if mine and theirs else float("inf")
    return say(stream_key(ratios, price), low=times(min(ratios)), high=times(max(ratios)), price=times(price))


def _room_sentence() -> Cell:
    mine, theirs = (room_for_tokens(box_plan(ARTICLE, box)) for box in (STOCK, H100))
    return say("say.room", mine=count(mine), h100=count(theirs), factor=times(theirs / mine))
