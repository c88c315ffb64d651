"""The same question with what there is in 2026: eight of each under the article's load and a long one.

Which entries are asked is a list; what is known of each is the catalogue's. Knows neither Maia nor training.
"""

from collections.abc import Iterator, Sequence

from article.blocks import Block, Bullets, Cell, Code, Heading, Paragraph, Several, Table, say
from article.figures import count, dollars, rate, times
from article.plans import (
    ARTICLE,
    LONGEST,
    Box,
    Load,
    box_plan,
    card,
    command_of_box,
    one_stream,
    tokens_per_second,
)
from article.prices import OWNED, OWNED_CN, RENTED, Basis
from article.questions import EVEN, load_name
from farthing.planner.money.law import is_lawful
from farthing.planner.money.power import is_board

IDS = (
    "rtx-4090", "rtx-4090-48g", "rtx-5090", "rtx-pro-6000-server", "l40s", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x",
    "mi355x", "h20", "ascend-910b", "ascend-910c",
)  # fmt: skip
FORMAT = "bf16"
PRICES = (RENTED, OWNED, OWNED_CN)


def box_of(id: str) -> Box:
    return Box(f"8x {id}")


def speed_of(id: str, load: Load) -> float:
    return tokens_per_second(box_plan(load, box_of(id), FORMAT))


def cost_of(id: str, load: Load, basis: Basis) -> float | None:
    """Dollars per million output tokens."""
    return basis.dollars_per_million(box_of(id), speed_of(id, load))


def section() -> Iterator[Block]:
    yield Heading(say("today.title"))
    yield Paragraph(say("today.lead", format=FORMAT))
    yield Bullets(list(verdict()))
    yield _speed_table()
    yield Paragraph(say("today.money_lead"))
    yield _cost_table()
    yield Code([command_of_box(ARTICLE, box_of("b200-sxm"), FORMAT)])
    yield Paragraph(say("today.law"))


def _speed_table() -> Table:
    base = speed_of("rtx-4090", ARTICLE)
    rows: list[Sequence[Cell]] = []
    for id in IDS:
        one, plan = card(id), box_plan(ARTICLE, box_of(id), FORMAT)
        link = one.scale_up.bytes_per_second
        rows.append(
            (
                id,
                say("cell.unknown") if one.memory_bytes is None else f"{one.memory_bytes / 2**30:,.0f}",
                say("cell.unknown") if one.bandwidth is None else f"{one.bandwidth.value / 1e12:.2f}",
                say("cell.none") if one.scale_up.kind == "none" else _link(None if link is None else link.value),
                count(plan.most_tokens.full.batch) if plan.choices else say("cell.none"),
                rate(tokens_per_second(plan)),
                times(tokens_per_second(plan) / base) if base else say("cell.none"),
                rate(one_stream(plan)),
                rate(speed_of(id, LONGEST)),
            )
        )
    names = ("memory", "bandwidth", "link", "batch", "tokens", "over_4090", "stream")
    columns = [say("column.card"), *(say(f"column.{name}", load=load_name(ARTICLE)) for name in names)]
    return Table([*columns, say("column.tokens", load=load_name(LONGEST))], rows)


def _link(value: float | None) -> Cell:
    return say("cell.unknown") if value is None else f"{value / 1e9:,.0f}"


def _cost_table() -> Table:
    rows: list[Sequence[Cell]] = []
    for id in IDS:
        hours = [_dollars(basis.dollars_per_hour(box_of(id))) for basis in PRICES]
        costs = [_dollars(cost_of(id, load, basis)) for load in (ARTICLE, LONGEST) for basis in PRICES]
        lawful = is_lawful(card(id), "cn")
        word = "law.unknown" if lawful is None else "law.free" if lawful else "law.barred"
        rows.append((id, *hours, *costs, say(word)))
    columns: list[Cell] = [say("column.card"), *(say("column.hour", basis=basis.name) for basis in PRICES)]
    for load in (ARTICLE, LONGEST):
        columns += [say("column.mtok", load=load_name(load), basis=basis.name) for basis in PRICES]
    return Table([*columns, say("column.law")], rows)


def _dollars(value: float | None) -> Cell:
    return say("cell.unknown") if value is None else dollars(value)


def ranked(load: Load, basis: Basis) -> list[tuple[float, str]]:
    """(dollars per million, id) of those with a price and a speed, the cheapest first."""
    found = [(cost, id) for id in IDS if (cost := cost_of(id, load, basis)) is not None]
    return sorted(found)


def verdict() -> Iterator[Cell]:
    for load in (ARTICLE, LONGEST):
        for basis in PRICES:
            order = ranked(load, basis)
            if order:
                yield _cheapest(load, basis, order)
    for basis in (RENTED, OWNED):
        yield from _card_against_board(basis)
    fastest = max(IDS, key=lambda id: speed_of(id, ARTICLE))
    yield say("today.fastest", load=load_name(ARTICLE), name=fastest, rate=count(speed_of(fastest, ARTICLE)))
    unpriced = [id for id in IDS if all(cost_of(id, ARTICLE, basis) is None for basis in PRICES)]
    if unpriced:
        yield say("today.unpriced", names=Several(unpriced))


def kind_key(card_dollars: float, board_dollars: float) -> str:
    if max(card_dollars / board_dollars, board_dollars / card_dollars) <= EVEN:
        return "today.kind_even"
    return "today.kind_board" if card_dollars > board_dollars else "today.kind_card"


def _card_against_board(basis: Basis) -> Iterator[Cell]:
    """The article's question with the best of each kind: cards in slots against parts on boards."""
    order = ranked(ARTICLE, basis)
    cards = [(cost, id) for cost, id in order if not is_board(card(id))]
    boards = [(cost, id) for cost, id in order if is_board(card(id))]
    if cards and boards:
        (mine, card_id), (theirs, board_id) = cards[0], boards[0]
        values = {"basis": basis.name, "card": card_id, "card_cost": dollars(mine), "board": board_id}
        factor = max(mine / theirs, theirs / mine)
        yield say(kind_key(mine, theirs), **values, board_cost=dollars(theirs), factor=times(factor))


def _cheapest(load: Load, basis: Basis, order: Sequence[tuple[float, str]]) -> Cell:
    """The first, and where the 4090 and the H100 stand; it may be one of them."""
    ids = [id for _, id in order]
    costs = {id: cost for cost, id in order}
    first = order[0]
    others: list[Cell] = [
        say("today.place", name=id, place=str(ids.index(id) + 1), cost=dollars(costs[id]))
        for id in ("rtx-4090", "h100-sxm")
        if id in ids and id != first[1]
    ]
    return say(
        "today.cheapest",
        basis=basis.name,
        load=load_name(load),
        name=first[1],
        cost=dollars(first[0]),
        others=Several(others, "semicolon"),
        count=str(len(ids)),
    )
