"""Microsoft's Maia and Huawei's Ascend as data: what is known, what is not, and whether they can be had.

What the catalogue does not know stays "unknown" on the page, and what can't be had is not planned. Knows no price book.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from article.blocks import Block, Bullets, Cell, Code, Heading, Paragraph, Several, Table, say
from article.figures import count, dollars, rate, times
from article.hardware_2026 import FORMAT, box_of
from article.plans import ARTICLE, box_plan, card, tokens_per_second
from article.questions import load_name
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.figure import Figure

IDS = ("maia-100", "maia-200", "ascend-910b", "ascend-910c", "h100-sxm", "b200-sxm")
COMPARED = {"maia-100": "h100-sxm", "maia-200": "b200-sxm", "ascend-910b": "h100-sxm", "ascend-910c": "h100-sxm"}


def figures_of(one: Accelerator) -> Mapping[str, Figure[float] | Figure[int] | None]:
    """The figures that chips are compared by."""
    return {
        "memory": one.nominal_bytes,
        "bandwidth": one.bandwidth,
        **{math: one.flops.get(math) for math in ("bf16", "fp8", "fp4")},
        "link": one.scale_up.bytes_per_second,
        "sram": one.l2_bytes,
        "power": one.tdp_watts,
    }


_FORMATS: Mapping[str, Callable[[float], str]] = {
    "memory": lambda value: f"{value / 1e9:,.0f} GB",
    "bandwidth": lambda value: f"{value / 1e12:.2f} TB/s",
    "bf16": lambda value: f"{value / 1e12:,.0f} TFLOP/s",
    "fp8": lambda value: f"{value / 1e12:,.0f} TFLOP/s",
    "fp4": lambda value: f"{value / 1e12:,.0f} TFLOP/s",
    "link": lambda value: f"{value / 1e9:,.0f} GB/s",
    "sram": lambda value: f"{value / 1e6:,.0f} MB",
    "power": lambda value: f"{value:,.0f} W",
}


def section() -> Iterator[Block]:
    yield Heading(say("unsold.title"))
    yield Paragraph(say("unsold.lead"))
    yield _table()
    yield Bullets(list(verdict()))
    yield Code([f"farthing hardware {id}" for id in COMPARED])


def _table() -> Table:
    cards = [card(id) for id in IDS]
    rows: list[Sequence[Cell]] = [(say("unsold.sale"), *(say(f"sale.{one.sale}") for one in cards))]
    for name, text in _FORMATS.items():
        rows.append((say(f"unsold.{name}"), *(_cell(one, name, text) for one in cards)))
    rows.append((say("unsold.price"), *(_price(one) for one in cards)))
    rows.append((say("unsold.engines"), *(", ".join(one.engines) or say("cell.no") for one in cards)))
    rows.append((say("unsold.forecast", load=load_name(ARTICLE)), *(_forecast(one) for one in cards)))
    rows.append((say("unsold.sources"), *(_sources(one) for one in cards)))
    return Table([say("column.figure"), *IDS], rows)


def _cell(one: Accelerator, name: str, text: Callable[[float], str]) -> Cell:
    """Marked where no document of the maker prints it."""
    figure = figures_of(one)[name]
    if figure is None:
        return say("cell.no_path") if name in one.unsupported_dtypes else say("cell.unknown")
    if figure.known in ("inferred", "third"):
        return say(f"cell.{figure.known}", figure=text(figure.value))
    return text(figure.value)


def _price(one: Accelerator) -> Cell:
    """The last one that is dated, to own."""
    if one.sale == "not-sold":
        return say("sale.not-sold")
    priced = [price for price in one.prices if price.market != "estimate" and price.of is None]
    known = [price for price in priced if price.currency == "USD"]
    if not known:
        return say("cell.unknown")
    last = max(known, key=lambda price: price.date)
    return f"{dollars(last.value)} ({last.date})"


def _forecast(one: Accelerator) -> Cell:
    """Tokens per second of eight under the article's load; of what can't be had, nothing."""
    if one.sale == "not-sold":
        lacking = [say(f"unsold.{name}") for name, figure in figures_of(one).items() if figure is None]
        lacking = [name for name in lacking if name.key not in ("unsold.fp4", "unsold.sram")]
        if lacking:
            return say("unsold.not_planned_unknown", names=Several(lacking))
        return say("unsold.not_planned")
    plan = box_plan(ARTICLE, box_of(one.id), FORMAT)
    if not plan.choices:
        return say("cell.unknown")
    key = "unsold.planned_slow_link" if one.scale_up.bytes_per_second is None else "unsold.planned"
    return say(key, rate=rate(tokens_per_second(plan)))


def _sources(one: Accelerator) -> Cell:
    found = [figure.sources for figure in figures_of(one).values() if figure is not None]
    return ", ".join(dict.fromkeys(source for sources in found for source in sources))


def verdict() -> Iterator[Cell]:
    for id, other in COMPARED.items():
        yield say("unsold.against", name=id, other=other, **against(card(id), card(other)))
    yield say("unsold.maia" if _is_kept("maia-100", "maia-200") else "unsold.maia_sold")
    planned = [id for id in ("ascend-910b", "ascend-910c") if box_plan(ARTICLE, box_of(id), FORMAT).choices]
    if planned:
        yield say("unsold.ascend", shares=Several([_share(id) for id in planned]))


def _share(id: str) -> Cell:
    """Of eight H100."""
    own, other = (tokens_per_second(box_plan(ARTICLE, box_of(one), FORMAT)) for one in (id, "h100-sxm"))
    return say("unsold.share", name=id, factor=times(own / other), context=count(ARTICLE.context))


def _is_kept(*ids: str) -> bool:
    return all(card(id).sale == "not-sold" for id in ids)


def against(one: Accelerator, other: Accelerator) -> dict[str, Cell]:
    """How the known figures stand to another's: at least as large, smaller, unknown."""
    sides: dict[str, list[Cell]] = {"above": [], "below": [], "unknown": []}
    others = figures_of(other)
    for name, figure in figures_of(one).items():
        theirs = others[name]
        if name == "power" or name in one.unsupported_dtypes:
            continue
        if figure is None:
            sides["unknown"].append(say(f"unsold.{name}"))
        if figure is None or theirs is None:
            continue
        ratio = figure.value / theirs.value
        sides["above" if ratio >= 1 else "below"].append(
            say("unsold.ratio", name=say(f"unsold.{name}"), factor=times(ratio))
        )
    return {side: Several(items) if items else say("cell.nothing") for side, items in sides.items()}
