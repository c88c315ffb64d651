"""A page's words in one language: words.en.toml and words.zh.toml, which have the same keys and the same gaps.

Gaps stand in the same order in both, so that the figures do. Sentences of the planner are translated by its own
patterns (planner/page) and those of notes.zh.toml, for prices and training. Knows no figure.
"""

import re
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from article.blocks import Block, Bullets, Cell, Code, Heading, Note, Paragraph, Say, Several, Table
from farthing.planner.page.words import words_of

LANGUAGES = ("en", "zh")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Words:
    language: str
    texts: Mapping[str, str]
    notes: tuple[tuple[re.Pattern[str], str], ...] = ()

    def text(self, cell: Cell) -> str:
        match cell:
            case str():
                return cell
            case Several(items, between):
                return self.texts[f"join.{between}"].join(self.text(item) for item in items)
            case Note(sentence):
                return self._note(sentence)
            case Say(key, values):
                return self.texts[key].format_map({name: self.text(value) for name, value in values.items()})

    def _note(self, sentence: str) -> str:
        """By the planner's patterns, then by the pages' own; what neither knows stays English."""
        known = words_of(self.language).note(sentence)
        if known == sentence:
            for pattern, translated in self.notes:
                if found := pattern.fullmatch(sentence):
                    return found.expand(translated)
        return known

    def page(self, blocks: Iterable[Block]) -> str:
        """As Markdown."""
        return "\n\n".join(self._block(block) for block in blocks) + "\n"

    def _block(self, block: Block) -> str:
        match block:
            case Heading(text, level):
                return f"{'#' * level} {self.text(text)}"
            case Paragraph(text):
                return self.text(text)
            case Bullets(items):
                return "\n".join(f"- {self.text(item)}" for item in items)
            case Code(commands):
                return "\n".join(("```sh", *commands, "```"))
            case Table(columns, rows):
                lines: list[Sequence[Cell]] = [columns, ["---"] * len(columns), *rows]
                return "\n".join(f"| {' | '.join(self.text(cell) for cell in row)} |" for row in lines)


def load_words(language: str) -> Words:
    table = tomllib.loads((_FOLDER / f"words.{language}.toml").read_text(encoding="utf-8"))
    notes: list[dict[str, str]] = []
    if language != "en":
        notes = tomllib.loads((_FOLDER / f"notes.{language}.toml").read_text(encoding="utf-8"))["note"]
    return Words(language, dict(_flat(table)), tuple((re.compile(note["en"]), note[language]) for note in notes))


def gaps(text: str) -> list[str]:
    """The names of a text's gaps, in order."""
    return [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)
