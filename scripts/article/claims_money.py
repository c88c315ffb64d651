"""The article's claims on money, on law and licence, and on training."""

from collections.abc import Sequence

from article.blocks import Cell, Several, say
from article.claim import Claim
from article.figures import GIB, count, dollars, times
from article.plans import H100, MODEL, PATCHED, SHORT, STOCK, box_plan, card, tokens_per_second, training_of
from article.prices import ARTICLE_DOLLARS, OF_ARTICLE, OWNED, RENTED, Basis, capital, list_price, sales_of, years_text
from article.verdicts import CLOSE, PRICES, is_close, judge, judge_cases, judge_ratio, judge_whether
from farthing.planner.money.law import is_lawful, legal_notes

CLAIMED_CARDS, CLAIMED_H100 = 12_800, 30_000
CLAIMED_RATIO, CLAIMED_DEARER = 6.0, 1.16
CLAIMED_DEGREES = {"8x rtx-4090": 2.4, "8x h100-sxm": 11.0}  # of tensor parallelism that training bears
NUM_CARDS = 8


def claims() -> Sequence[Claim]:
    return (_cards(), _box(), _h100(), _h100_box(), _ratio(), _dearer())


def law_claims() -> Sequence[Claim]:
    return (_export(), _licence())


def training_claims() -> Sequence[Claim]:
    return (_training(), _degree())


def _cards() -> Claim:
    launch, today = NUM_CARDS * list_price("rtx-4090"), sales_of("rtx-4090")
    assert today.dollars is not None
    return Claim(
        "cards",
        say("cards.claim", dollars=dollars(CLAIMED_CARDS)),
        say("cards.computed", launch=dollars(launch), today=dollars(NUM_CARDS * today.dollars), **_dates("rtx-4090")),
        judge_cases(CLAIMED_CARDS, {"case.launch": launch, "case.today": NUM_CARDS * today.dollars}),
        ("farthing hardware rtx-4090",),
        (f"${list_price('rtx-4090'):,.0f} list",),
    )


def _dates(id: str) -> dict[str, Cell]:
    found = sorted(date for _, date in sales_of(id).offers)
    return {"first": found[0], "last": found[-1]}


def _box() -> Claim:
    return Claim(
        "box-4090",
        say("box.claim", dollars=dollars(ARTICLE_DOLLARS[STOCK.on])),
        say("box.computed", dollars=dollars(capital(STOCK))),
        judge(ARTICLE_DOLLARS[STOCK.on], capital(STOCK), within=PRICES),
    )


def _h100() -> Claim:
    found = sales_of("h100-sxm")
    values = sorted(value for value, _ in found.offers)
    assert found.dollars is not None
    return Claim(
        "h100",
        say("h100.claim", dollars=dollars(CLAIMED_H100)),
        say(
            "h100.computed",
            median=dollars(found.dollars),
            low=dollars(values[0]),
            high=dollars(values[-1]),
            **_dates("h100-sxm"),
        ),
        judge_whether(found.dollars >= CLAIMED_H100 * (1 - CLOSE)),
        ("farthing hardware h100-sxm",),
        (f"${values[0]:,.0f}",),
    )


def _h100_box() -> Claim:
    return Claim(
        "box-h100",
        say("h100_box.claim", dollars=dollars(ARTICLE_DOLLARS[H100.on])),
        say("h100_box.computed", dollars=dollars(capital(H100))),
        judge(ARTICLE_DOLLARS[H100.on], capital(H100), within=PRICES),
    )


def _hourly_ratio(basis: Basis) -> float:
    mine, theirs = basis.dollars_per_hour(STOCK), basis.dollars_per_hour(H100)
    assert mine and theirs
    return theirs / mine


def _ratio() -> Claim:
    cases = {
        "case.purchase": ARTICLE_DOLLARS[H100.on] / ARTICLE_DOLLARS[STOCK.on],
        "case.hour": _hourly_ratio(OF_ARTICLE),
        "case.owned": _hourly_ratio(OWNED),
        "case.rented": _hourly_ratio(RENTED),
    }
    values = {key.partition(".")[2]: times(value) for key, value in cases.items()}
    return Claim(
        "price-ratio",
        say("ratio.claim", factor=f"{CLAIMED_RATIO:g}"),
        say("ratio.computed", **values, years=years_text(OF_ARTICLE)),
        judge_cases(CLAIMED_RATIO, cases),
    )


def _dearer() -> Claim:
    """A token of the H100 over one of the 4090, short sequences, at the article's prices."""
    mine, theirs = (
        OF_ARTICLE.dollars_per_million(box, tokens_per_second(box_plan(SHORT, box))) for box in (PATCHED, H100)
    )
    assert mine and theirs
    return Claim(
        "dearer",
        say("dearer.claim", factor=f"{CLAIMED_DEARER:g}"),
        say(
            "dearer.computed",
            context=count(SHORT.context),
            mine=dollars(mine),
            h100=dollars(theirs),
            factor=times(theirs / mine),
        ),
        judge_ratio(CLAIMED_DEARER, theirs / mine, within=0.1),
    )


def _export() -> Claim:
    found: list[Cell] = []
    for id in ("a100-80-sxm", "h100-sxm", "a800-80-sxm", "h800-sxm"):
        note = next(note for note in legal_notes(card(id), "cn") if note.kind == "export")
        word = "law.barred" if note.barred else "law.free" if note.barred is False else "law.unknown"
        date, sources = note.date or "", ", ".join(note.sources)
        found.append(say("law.item", name=id, state=say(word), date=date, sources=sources))
    first, second = (
        all(is_lawful(card(id), "cn") is False for id in ids)
        for ids in (("a100-80-sxm", "h100-sxm"), ("a800-80-sxm", "h800-sxm"))
    )
    verdict = "export.overtaken" if first and second else "verdict.right" if first else "verdict.wrong"
    return Claim("export", say("export.claim"), Several(found, "semicolon"), say(verdict), _catalogue("a800", "h800"))


def _catalogue(*names: str) -> tuple[str, ...]:
    return tuple(f"farthing hardware {name}" for name in names)


def _licence() -> Claim:
    notes = [note for note in legal_notes(card("rtx-4090"), "cn") if note.kind == "licence" and note.date]
    if not notes:
        return Claim("licence", say("licence.claim"), say("law.unknown"), say("verdict.unknown"))
    (note,) = notes
    return Claim(
        "licence",
        say("licence.claim"),
        say("licence.computed", date=note.date or "", sources=", ".join(note.sources)),
        judge_whether(bool(note.barred is not False)),
    )


def _training() -> Claim:
    made = training_of(MODEL, STOCK.on)
    held = sum(made.device_bytes)
    return Claim(
        "training",
        say("training.claim", cards=str(NUM_CARDS)),
        say(
            "training.computed",
            per_parameter=f"{made.states_bytes / made.num_parameters:.0f}",
            states=f"{made.states_bytes / GIB:,.0f} GiB",
            held=f"{held / GIB:,.0f} GiB",
            factor=times(made.states_bytes / held),
        ),
        judge_whether(not made.fits),
        (f"farthing plan {MODEL} --on {STOCK.on.replace(' ', '')} --train",),
        (f"{made.states_bytes / GIB:,.0f} GiB",),
    )


def degree_of(on: str) -> float:
    """Of tensor parallelism at which messages take as long as computing: a rank's messages grow with (n - 1) / n, its
    computing shrinks with 1 / n."""
    made = training_of(MODEL, on)
    assert made.time is not None
    ratio = made.time.ways[f"tensor parallel {NUM_CARDS}"]
    return 1 + (NUM_CARDS - 1) / ratio


def _degree() -> Claim:
    mine, theirs = degree_of(STOCK.on), degree_of(H100.on)
    made = training_of(MODEL, STOCK.on)
    assert made.time is not None
    claimed = [CLAIMED_DEGREES[box.on] for box in (STOCK, H100)]
    right = is_close(claimed[0], mine, PRICES) and is_close(claimed[1], theirs, PRICES)
    return Claim(
        "degree",
        say("degree.claim", mine=f"{claimed[0]:g}", h100=f"{claimed[1]:g}"),
        say("degree.computed", mine_at=times(mine), h100_at=times(theirs), mfu=f"{made.time.mfu:.0%}"),
        judge(claimed[0], mine, PRICES)
        if right
        else say("verdict.both", first=judge(claimed[0], mine, PRICES), second=judge(claimed[1], theirs, PRICES)),
    )
