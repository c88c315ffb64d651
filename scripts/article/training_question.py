"""Can the boxes train LLaMA-2: memory, time, money, and messages against computing. Why a 4090 can't, as figures."""

from collections.abc import Iterator, Sequence

from article.blocks import Block, Bullets, Cell, Code, Heading, Note, Paragraph, Several, Table, say
from article.figures import GIB, count, dollars, times
from article.plans import H100, MODEL, STOCK, training_of
from farthing.models.training import TrainingSetup
from farthing.planner.training.training import assumptions_of
from farthing.planner.training.training_answer import Method, TrainingAnswer
from farthing.planner.training.training_time import MFU, TOKENS_PER_PARAMETER

SMALL_MODEL = "llama-2-7b"
MORE_H100 = "16x h100-sxm"
ASKED: Sequence[tuple[str, str, Method]] = (
    (MODEL, STOCK.on, "full"),
    (MODEL, H100.on, "full"),
    (MODEL, MORE_H100, "full"),
    (MODEL, STOCK.on, "lora"),
    (MODEL, STOCK.on, "qlora"),
    (SMALL_MODEL, STOCK.on, "full"),
    (SMALL_MODEL, H100.on, "full"),
)
DAY = 86_400
WAYS = ("tensor parallel", "ZeRO 3 over", "data parallel", "pipeline")
TUNING_TOKENS = "100M"  # assumed: of fine-tuning


def asked(model: str, on: str, method: Method) -> TrainingAnswer:
    return training_of(model, on, method, None if method == "full" else TUNING_TOKENS)


def section() -> Iterator[Block]:
    yield Heading(say("training_question.title"))
    values = {"tokens": str(TOKENS_PER_PARAMETER), "mfu": f"{MFU:.0%}"}
    yield Paragraph(say("training_question.lead", **values, tuning=TUNING_TOKENS))
    yield Bullets(list(verdict()))
    yield _table()
    yield Paragraph(say("training_question.alternatives", hardware=STOCK.on))
    yield _alternatives()
    yield Code([f"farthing plan {MODEL} --on {on.replace(' ', '')} --train" for on in (STOCK.on, H100.on)])


def _table() -> Table:
    rows: list[Sequence[Cell]] = []
    for model, on, method in ASKED:
        made = asked(model, on, method)
        time = made.time
        rows.append(
            (
                f"{model} ({method})",
                on,
                say(f"outcome.{made.outcome.replace(' ', '_')}"),
                f"{made.states_bytes / GIB:,.0f}",
                f"{sum(made.device_bytes) / GIB:,.0f}",
                say("cell.none") if made.fewest_devices is None else count(made.fewest_devices),
                *((say("cell.unknown"),) * 4 if time is None else ()),
                *(() if time is None else (_days(time.seconds), _dollars(time.dollars))),
                *(() if time is None else (_way(made, way) for way in WAYS[:2])),
            )
        )
    names = ("training", "hardware", "outcome", "states", "held", "fewest", "days", "rent", "tensor", "zero")
    return Table([say(f"column.{name}") for name in names], rows)


def _days(seconds: float) -> str:
    return count(seconds / DAY) if seconds >= 10 * DAY else f"{seconds / DAY:.1f}"


def _dollars(value: float | None) -> Cell:
    return say("cell.unknown") if value is None else dollars(value)


def way_ratio(made: TrainingAnswer, way: str) -> float | None:
    """Messages over computing if all devices were used that way alone."""
    if made.time is None:
        return None
    return next((ratio for name, ratio in made.time.ways.items() if name.startswith(way)), None)


def _way(made: TrainingAnswer, way: str) -> Cell:
    ratio = way_ratio(made, way)
    return say("cell.none") if ratio is None else times(ratio)


def _alternatives() -> Table:
    rows: list[Sequence[Cell]] = []
    for one in asked(MODEL, STOCK.on, "full").alternatives:
        fits = "outcome.runs" if one.attempt.fits else "outcome.GPU_OOM"
        host = f"{one.attempt.host_bytes / GIB:,.0f}" if one.attempt.host_bytes else say("cell.nothing")
        needed = f"{one.attempt.needed_bytes / GIB:.1f}", f"{one.attempt.room_bytes / GIB:.1f}"
        word = "outcome.tight" if one.attempt.fits and one.attempt.tight else fits
        rows.append((_way_out(one.attempt.setup), say(word), *needed, host))
    return Table([say(f"column.{name}") for name in ("way", "outcome", "needed", "room", "host")], rows)


def _way_out(setup: TrainingSetup) -> Cell:
    """What a setup changes against full training with AdamW."""
    if setup.lora_rank is not None:
        bits = say("instead.wide") if setup.frozen_format is None else setup.frozen_format
        return say("instead.adapters", rank=str(setup.lora_rank), bits=bits)
    return say("instead.optimizer" if setup.offload == "none" else "instead.offload", name=setup.optimizer)


def verdict() -> Iterator[Cell]:
    made, h100 = asked(MODEL, STOCK.on, "full"), asked(MODEL, H100.on, "full")
    yield _memory_sentence("8x RTX 4090", made)
    yield _memory_sentence("8x H100", h100)
    if made.time is not None and h100.time is not None:
        yield say(
            "training_question.time",
            tokens=f"{made.time.tokens / 1e12:.2f}",
            mine=count(made.time.seconds / DAY),
            h100=count(h100.time.seconds / DAY),
        )
        yield _link_sentence(made, h100)
    runs = [f"{model} ({method})" for model, on, method in ASKED if on == STOCK.on and asked(model, on, method).fits]
    if runs:
        yield say("training_question.runs", names=Several(runs, "semicolon"))


def _memory_sentence(name: str, made: TrainingAnswer) -> Cell:
    held = sum(made.device_bytes)
    if made.fits:
        return say("training_question.fits", name=name)
    values: dict[str, Cell] = {
        "name": name,
        "states": f"{made.states_bytes / GIB:,.0f} GiB",
        "held": f"{held / GIB:,.0f} GiB",
    }
    if made.fewest_devices is None:
        return say("training_question.never", **values)
    return say("training_question.lacks", **values, fewest=count(made.fewest_devices))


def _link_sentence(made: TrainingAnswer, h100: TrainingAnswer) -> Cell:
    mine, theirs = (way_ratio(one, WAYS[0]) or 0.0 for one in (made, h100))
    zero, zero_h100 = (way_ratio(one, WAYS[1]) or 0.0 for one in (made, h100))
    key = "training_question.waits" if min(mine, zero) > 1 > max(theirs, zero_h100) else "training_question.links"
    return say(key, mine=times(mine), zero=times(zero), h100=times(theirs), zero_h100=times(zero_h100))


def notes() -> Iterator[Cell]:
    for model, on, method in ASKED[:2]:
        yield from (Note(text) for text in assumptions_of(asked(model, on, method)))
