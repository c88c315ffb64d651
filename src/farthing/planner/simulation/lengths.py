"""How many tokens a request has: a number, an even range or a lognormal, as a flag says it and as a seed draws it.

Knows no requests and no arrivals. Garbage in a flag is a UsageError.
"""

import math
import random
import re
from dataclasses import dataclass

from farthing.errors import UsageError

MAX_TOKENS = 10_000_000
_MAX_SIGMA = 4.0
_FORMS = re.compile(r"(\d{1,8})|u\((\d{1,8}),(\d{1,8})\)|lognormal\((\d{1,8}),(\d{1,4}(?:\.\d{1,6})?)\)")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Whole numbers of tokens from `low` to `high`, all alike; with a `sigma`, lognormal of mean `mean`, cut there."""

    low: int
    high: int
    mean: float
    sigma: float | None = None

    @classmethod
    def parse(cls, text: str, flag: str) -> "Lengths":
        """128, U(32,512) or lognormal(MEAN,SIGMA); SIGMA is that of the logarithm: 0.5 mild, 1 strong, 2 extreme."""
        found = _FORMS.fullmatch(text.lower().replace(" ", "").replace("_", ""))
        if found is None:
            raise UsageError(
                f"{flag} is {text!r:.40}",
                fix=f"write a number, a range or a lognormal of a mean: {flag} 1000, 'U(32,512)', 'lognormal(800,1.0)'",
            )
        number, low, high, mean, sigma = found.groups()
        if mean is not None:
            made = cls(1, MAX_TOKENS, float(mean), float(sigma))
        else:
            first, last = int(number or low), int(number or high)
            made = cls(first, last, (first + last) / 2)
        if not 1 <= made.low <= made.high <= MAX_TOKENS or made.mean < 1:
            raise UsageError(
                f"{flag} is {text!r:.40}", fix="lengths are at least 1, and a range goes from the smaller to the larger"
            )
        if made.sigma is not None and not 0 < made.sigma <= _MAX_SIGMA:
            raise UsageError(f"{flag} has the sigma {made.sigma:g}", fix=f"it lies above 0 and up to {_MAX_SIGMA:g}")
        return made

    def draw(self, rng: random.Random) -> int:
        if self.sigma is None:
            return rng.randint(self.low, self.high)
        value = rng.lognormvariate(math.log(self.mean) - self.sigma**2 / 2, self.sigma)
        return min(self.high, max(self.low, round(value)))

    def __str__(self) -> str:
        if self.sigma is not None:
            return f"lognormal({self.mean:g},{self.sigma:g})"
        return str(self.low) if self.low == self.high else f"U({self.low},{self.high})"
