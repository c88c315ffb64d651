"""What a plan costs to own and to rent: the plan's speed, the box's prices, and the load that is asked of it.

Knows no flags; planner/money/cost.py has the arithmetic.
"""

from farthing.planner.hardware import Hardware
from farthing.planner.money.characters import vocabulary_of
from farthing.planner.money.cost import Cost, Load, costs_of
from farthing.planner.money.law import NOT_ADVICE, legal_notes
from farthing.planner.money.price import BoxPrice, box_price
from farthing.planner.money.price_book import PriceBook
from farthing.planner.plan import Plan


def price_of_plan(hardware: Hardware, book: PriceBook, said_per_hour: float | None) -> BoxPrice | None:
    """None for a device that the catalogue does not have, unless its price is said."""
    accelerators = [device.accelerator for device in hardware.devices if device.accelerator is not None]
    if said_per_hour is None and len(accelerators) < len(hardware.devices):
        return None
    return box_price(accelerators, len(set(hardware.nodes)), book, said_per_hour)


def costs_of_plan(plan: Plan, hardware: Hardware, book: PriceBook) -> tuple[Cost, ...]:
    """Of every way that has a price, for the batch that the plan was asked for, all of the time that is stated."""
    price = price_of_plan(hardware, book, plan.request.price_per_hour)
    if price is None or not plan.choices:
        return ()
    speed, full = plan.best.speed, plan.most_tokens.full
    asked = speed.output_tokens_per_second * book.utilisation
    prompts = asked * plan.request.prompt_tokens / plan.request.answer_tokens
    most = max(full.output_tokens_per_second, speed.output_tokens_per_second)
    load = Load(prompts, asked, most)
    return costs_of(price, load, vocabulary=vocabulary_of(plan.spec), api=book.api)


def law_lines(plan: Plan, market: str) -> tuple[str, ...]:
    """What law and licences say of each part in that market, with dates and sources; nothing of parts that are free."""
    notes = [note.line for accelerator in plan.accelerators for note in legal_notes(accelerator, market)]
    return (*dict.fromkeys(notes), NOT_ADVICE) if notes else ()
