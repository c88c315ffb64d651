"""What a weight format costs in answers: the change of a published score, of the models nearest in size.

From quality.toml, each with its source. Formats and sizes that nobody scored are unknown; so is what a KV cache in 8
bits costs. Knows no speed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from farthing.hardware.figure import read_toml
from farthing.models.spec import Precision

_FILE = Path(__file__).with_name("quality.toml")


@dataclass(frozen=True, slots=True)
class Scored:
    """A model in a format, before and after, on average of a suite."""

    formats: tuple[str, ...]
    model: str
    parameters: float
    base: float
    score: float
    suite: str
    date: str
    sources: tuple[str, ...]

    @property
    def change(self) -> float:
        """Relative: -0.01 is one percent of the score lost."""
        return self.score / self.base - 1


@dataclass(frozen=True, slots=True)
class Quality:
    """`worst` and `best` change of a score, relative; None is unknown. `note`: of which models, and whose figures."""

    worst: float | None
    best: float | None
    note: str

    @property
    def text(self) -> str:
        if self.worst is None or self.best is None:
            return "unknown"
        if self.worst == self.best == 0:
            return "full"
        low, high = f"{self.worst:+.1%}", f"{self.best:+.1%}"
        return low if low == high else f"{low} to {high}"

    def is_at_least(self, share: float) -> bool:
        """Whether at least that share of the score is known to be left."""
        return self.worst is not None and 1 + self.worst >= share - 1e-12


FULL = Quality(0.0, 0.0, "16 bits: nothing is lost")


@cache
def scored() -> tuple[Scored, ...]:
    table = read_toml(_FILE)
    found = []
    for entry in table.tables("scored"):
        found.append(
            Scored(
                formats=entry.texts("formats"),
                model=entry.text("model"),
                parameters=entry.positive("parameters"),
                base=entry.positive("base"),
                score=entry.positive("score"),
                suite=entry.text("suite"),
                date=entry.date("date"),
                sources=entry.sources(),
            )
        )
        entry.close()
    return tuple(sorted(found, key=lambda one: one.parameters))


def quality_of(precision: Precision, num_parameters: int) -> Quality:
    """Of a model of that size: no better than the next larger that was scored, no worse than the next smaller."""
    weights = precision.format
    if precision.kv_dtype not in ("fp32", "bf16", "fp16"):
        return Quality(None, None, f"nobody's score of a KV cache in {precision.kv_dtype} is known to this program")
    if not weights.quantized:
        return FULL
    known = [one for one in scored() if weights.name in one.formats]
    around = _around(known, num_parameters)
    if not around:
        return Quality(None, None, f"nobody's score of a model of this size in {weights.name} is known to this program")
    changes = [min(0.0, one.change) for one in around]
    note = "; ".join(
        f"{one.model} {one.base:g} to {one.score:g} in {weights.name} ({one.suite}; "
        f"{', '.join(one.sources)}, {one.date})"
        for one in around
    )
    return Quality(min(changes), max(changes), f"as of {note}")


def _around(known: Sequence[Scored], num_parameters: int) -> list[Scored]:
    """The next smaller and the next larger; what lies below the smallest is unknown, above the largest as that."""
    smaller = [one for one in known if one.parameters <= num_parameters * 1.1]
    larger = [one for one in known if one.parameters > num_parameters * 1.1]
    if not smaller:
        return []
    return [smaller[-1], *larger[:1]]
