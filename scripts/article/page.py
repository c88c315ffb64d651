"""The whole page as blocks: claims, the question, 2026's hardware, Maia and Ascend, training, what it rests on."""

from collections.abc import Iterator
from functools import cache

from article import (
    claims_memory,
    claims_money,
    claims_speed,
    hardware_2026,
    questions,
    training_question,
    unsold,
)
from article.blocks import Block, Bullets, Cell, Code, Heading, Note, Paragraph, say
from article.claim import Claim, table_of
from article.plans import ARTICLE, H100, STOCK, box_plan
from article.prices import price_notes

SECTIONS = {
    "memory": claims_memory.claims,
    "speed": claims_speed.claims,
    "money": claims_money.claims,
    "law": claims_money.law_claims,
    "training": claims_money.training_claims,
}


def all_claims() -> dict[str, Claim]:
    return {claim.id: claim for claims in SECTIONS.values() for claim in claims()}


def blocks() -> Iterator[Block]:
    yield Heading(say("page.title"), 1)
    yield Paragraph(say("page.other"))
    yield Paragraph(say("page.lead"))
    yield Paragraph(say("page.claims"))
    yield Code(["python scripts/write_article.py --claim kv-cache"])
    for name, claims in SECTIONS.items():
        yield Heading(say(f"section.{name}"))
        yield table_of(claims())
        if name == "memory":
            yield from claims_memory.pipeline_table()
    yield Paragraph(say("page.unchecked"))
    yield from questions.section()
    yield from hardware_2026.section()
    yield from unsold.section()
    yield from training_question.section()
    yield Heading(say("basis_section.title"))
    yield Paragraph(say("basis_section.warning"))
    yield Bullets(list(dict.fromkeys(notes())))


@cache
def page_blocks() -> tuple[Block, ...]:
    return tuple(blocks())


def notes() -> Iterator[Cell]:
    """What the two boxes' figures rest on, in the planner's own words."""
    for box in questions.BOXES:
        yield from (Note(text) for text in box_plan(ARTICLE, box).assumptions)
    yield from map(Note, price_notes((STOCK, H100)))
    yield from training_question.notes()
