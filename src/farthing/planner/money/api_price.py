"""What an API that charges by the token asks: dollars per million input and output tokens, as the user says them.

Knows no API by name, no bill and no plan.
"""

import math
import re
from dataclasses import dataclass
from typing import Protocol

from farthing.errors import UsageError

_AGAINST = re.compile(r"api:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)/([0-9]+(?:\.[0-9]+)?|\.[0-9]+)")
MAX_DOLLARS = 1e6  # per million tokens: a dollar for each


class Tokens(Protocol):
    """Anything that was charged for: a line of a bill."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def output_tokens(self) -> int: ...


@dataclass(frozen=True, slots=True)
class ApiPrice:
    """Dollars per million tokens of the prompt, and of the answer."""

    input_dollars: float
    output_dollars: float

    def of(self, tokens: Tokens) -> float:
        """Dollars for these tokens."""
        return self.dollars(tokens.prompt_tokens, tokens.output_tokens)

    def dollars(self, input_tokens: float, output_tokens: float) -> float:
        """Dollars for so many tokens, or per second of so many per second."""
        return (input_tokens * self.input_dollars + output_tokens * self.output_dollars) / 1e6


def parse_api_price(text: str) -> ApiPrice:
    """ "api:2.5/10": dollars per million input and output tokens. UsageError for anything else."""
    found = _AGAINST.fullmatch(text.strip())
    prices = [float(value) for value in found.groups()] if found else [math.inf]
    if max(prices) > MAX_DOLLARS:
        raise UsageError(
            f"--against {text!r:.60} is no price of an API",
            fix="write dollars per million input and output tokens: --against api:2.5/10",
        )
    return ApiPrice(*prices)
