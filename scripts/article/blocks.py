"""What a page says, without its words: sayings by key with figures in them, put into headings, lists and tables.

Both languages are rendered from the same blocks, so they can't differ in a figure. Knows no model and no language.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Say:
    """The text that the words have under `key`, with `values` in its gaps: figures as text, or other sayings."""

    key: str
    values: Mapping[str, "Cell"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Several:
    """Sayings in a row, with the language's own comma or semicolon between them."""

    items: Sequence["Cell"]
    between: str = "comma"


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that the planner wrote in English."""

    text: str


Cell = str | Say | Several | Note


@dataclass(frozen=True, slots=True)
class Heading:
    text: Cell
    level: int = 2


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: Cell


@dataclass(frozen=True, slots=True)
class Bullets:
    items: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines of a shell."""

    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Table:
    columns: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]


Block = Heading | Paragraph | Bullets | Code | Table


def say(key: str, **values: Cell) -> Say:
    return Say(key, values)
