"""Characters per token by vocabulary and language, so that a price per token can be read as one per character.

Measured once by scripts/characters_per_token.py; the texts are not part of Farthing. Knows no tokenizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from farthing.models.spec import ModelSpec
from farthing.planner.money.price_data import read_prices

LANGUAGES = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`characters_per_token` by language, as LANGUAGES has them."""

    name: str
    families: tuple[str, ...]
    vocab_sizes: tuple[int, ...]
    characters_per_token: Mapping[str, float]

    def per_million_characters(self, dollars_per_million_tokens: float) -> dict[str, float]:
        """Dollars by language."""
        return {language: dollars_per_million_tokens / ratio for language, ratio in self.characters_per_token.items()}


@cache
def vocabularies() -> tuple[Vocabulary, ...]:
    table = read_prices("characters.toml")
    found = []
    for name in table:
        entry = table.table(name)
        families, sizes = entry.texts("families"), entry.counts("vocab_sizes")
        found.append(Vocabulary(name, families, sizes, {language: entry.positive(language) for language in LANGUAGES}))
        entry.close()
    return tuple(found)


def vocabulary_of(spec: ModelSpec) -> Vocabulary | None:
    """The vocabulary of a model, by its family and size; None where it was not measured."""
    matching = (one for one in vocabularies() if spec.family in one.families and spec.vocab_size in one.vocab_sizes)
    return next(matching, None)
