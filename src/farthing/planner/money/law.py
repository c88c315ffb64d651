"""What seller's export law, buyer's import law and the maker's licence say of a part.

From prices/law.toml and the catalogue: every note has its date and source, what nobody looked up is "unknown", and
none of it is legal advice. Knows no price.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from farthing.hardware.accelerator import Accelerator
from farthing.hardware.figure import TomlTable
from farthing.planner.money.price_data import read_prices

NOT_ADVICE = "not legal advice"
Kind = Literal["export", "import", "licence"]


@dataclass(frozen=True, slots=True)
class Note:
    """What a law or licence says, or "unknown". `barred`: it stands in the way of having the part; None: unknown."""

    kind: Kind
    text: str
    date: str | None = None
    sources: tuple[str, ...] = ()
    barred: bool | None = None

    @property
    def line(self) -> str:
        """ "export: ... (SEC8K, 2023-10-17)"."""
        where = f" ({', '.join(self.sources)}, {self.date})" if self.date else ""
        return f"{self.kind}: {self.text}{where}"


@dataclass(frozen=True, slots=True)
class _Laws:
    """`export` towards China by the catalogue's word; `imports` by (market, id); `licences` by (vendor, start of the
    name)."""

    export: Mapping[str, Note]
    imports: Mapping[tuple[str, str], Note]
    licences: Mapping[tuple[str, str], Note]


def legal_notes(accelerator: Accelerator, market: str) -> tuple[Note, ...]:
    """Seller's export law, buyer's import law, maker's licence: what is known of each, in this order."""
    laws = _laws()
    imported = laws.imports.get((market, accelerator.id), Note("import", "unknown"))
    return _export(accelerator, market), imported, *_licences(accelerator)


def is_lawful(accelerator: Accelerator, market: str) -> bool | None:
    """False: a rule that is known stands in the way of having it there; None: nobody knows of the seller's law."""
    barred = {note.kind: note.barred for note in legal_notes(accelerator, market)}
    return False if barred["import"] else None if barred["export"] is None else not barred["export"]


def _export(accelerator: Accelerator, market: str) -> Note:
    word = accelerator.export_china
    if market == "us" and (word is None or word.value != "domestic"):
        return Note("export", "none: a sale within the US", barred=False)
    if market != "cn" or word is None:
        return Note("export", "unknown")
    known = _laws().export.get(word.value, Note("export", "unknown", word.date, ()))
    return replace(known, text=f"{known.text}; {word.note}") if word.note else known


def _licences(accelerator: Accelerator) -> Iterator[Note]:
    found = [
        note
        for (vendor, name), note in _laws().licences.items()
        if accelerator.vendor == vendor and accelerator.name.startswith(name)
    ]
    yield from found or [Note("licence", "unknown")]


@cache
def _laws() -> _Laws:
    table = read_prices("law.toml")
    export = table.table("export")
    by_word = {word: _note("export", export.table(word)) for word in export}
    imports: dict[tuple[str, str], Note] = {}
    for entry in table.tables("import"):
        market, ids = entry.text("market"), entry.texts("ids")
        imports |= dict.fromkeys(((market, id) for id in ids), _note("import", entry))
    licences: dict[tuple[str, str], Note] = {}
    for entry in table.tables("licence"):
        key = entry.text("vendor"), entry.text("name")
        licences[key] = _note("licence", entry)
    table.close()
    return _Laws(by_word, imports, licences)


def _note(kind: Kind, entry: TomlTable) -> Note:
    barred = entry.switch("barred") if "barred" in entry else None
    note = Note(kind, entry.text("text"), entry.date("date"), entry.sources(), barred)
    entry.close()
    return note
