"""The page's words in each language: words.en.toml and words.zh.toml, which have the same keys.

Sentences that the planner writes in English are translated by patterns (notes.zh.toml). Numbers, units, flags and names
are the same in both. Knows no HTML.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from farthing.errors import UsageError

LANGUAGES = ("en", "zh")
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, eq=False)
class Words:
    """`language`: en or zh. `texts` by key: "memory.title"."""

    language: str
    texts: Mapping[str, str]
    notes: tuple[tuple[re.Pattern[str], str], ...]

    def __getitem__(self, key: str) -> str:
        return self.texts[key]

    def say(self, key: str, values: Mapping[str, object]) -> str:
        """The text with its gaps filled: {name} of `values`."""
        return self.texts[key].format_map(values)

    def named(self, group: str, name: str) -> str:
        """The word for one of the program's own names (a bound, a math); the name itself where there is none."""
        return self.texts.get(f"{group}.{name}", name)

    def note(self, text: str) -> str:
        """A sentence that the planner wrote in English, in this language where a pattern knows it; else as it is."""
        for pattern, translated in self.notes:
            if found := pattern.fullmatch(text):
                return found.expand(translated)
        return text


@cache
def words_of(language: str) -> Words:
    """UsageError for a language that the page does not have."""
    if language not in LANGUAGES:
        raise UsageError(f"--lang {language!r:.20} is not known", fix=f"use {' or '.join(LANGUAGES)}")
    content = tomllib.loads((_FOLDER / f"words.{language}.toml").read_text(encoding="utf-8"))
    notes: list[dict[str, str]] = []
    if language != "en":
        notes = tomllib.loads((_FOLDER / f"notes.{language}.toml").read_text(encoding="utf-8"))["note"]
    patterns = tuple((re.compile(note["en"]), note[language]) for note in notes)
    return Words(language, dict(_flat(content)), patterns)


def _flat(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)
