"""What an API that charges by the token would have asked for the same tokens, and the load at which both cost the same.

Cached prompt tokens are counted as any other: many APIs give a discount for theirs, and none for ours. The API's price
is planner/money/api_price.py's.
"""

from dataclasses import dataclass

from farthing.engine.accounts.statement import Bill
from farthing.planner.money.api_price import ApiPrice


@dataclass(frozen=True, slots=True)
class Comparison:
    """`load_ratio`: how many times the month's load it takes until the box costs no more than the API; below 1 it is
    the cheaper one already. None, as the fields after it, without tokens or as long as seconds have no price.

    `output_tokens_per_second`: on average over the hours of the bill, now and at break-even. `busy_ratio`: the part of
    the hours that requests took, and what it would be at break-even if more load took proportionally more; above 1 the
    box can't get there, unless larger batches compute faster.
    """

    price: ApiPrice
    dollars: float
    output_tokens_per_second: float | None
    busy_ratio: float | None
    load_ratio: float | None
    break_even_output_tokens_per_second: float | None
    break_even_busy_ratio: float | None


def compare(bill: Bill, price: ApiPrice) -> Comparison:
    """The bill beside that price."""
    dollars, up_seconds = price.of(bill.requests), bill.total.seconds
    pace = bill.requests.output_tokens / up_seconds if up_seconds else None
    busy = bill.requests.amount.seconds / up_seconds if up_seconds else None
    if pace is None or busy is None or not dollars or bill.total.unpriced_seconds:
        return Comparison(price, dollars, pace, busy, None, None, None)
    ratio = bill.total.dollars / dollars
    return Comparison(price, dollars, pace, busy, ratio, pace * ratio, busy * ratio)
