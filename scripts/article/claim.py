"""A claim of the article beside what Farthing computes, and how both are written: as a row, and alone."""

from collections.abc import Sequence
from dataclasses import dataclass

from article.blocks import Block, Cell, Say, Several, Table, say
from article.words import Words


@dataclass(frozen=True, slots=True)
class Claim:
    """`commands` print figures of `computed`: each of `shows`. Without one, the script's own --claim does."""

    id: str
    claim: Cell
    computed: Cell
    verdict: Say
    commands: Sequence[str] = ()
    shows: Sequence[str] = ()

    @property
    def spans(self) -> Cell:
        return (
            Several([f"`{command}`" for command in self.commands])
            if self.commands
            else f"`scripts/write_article.py --claim {self.id}`"
        )

    def lines(self, words: Words) -> str:
        """Alone, for a terminal."""
        parts = (
            ("claim.claim", self.claim),
            ("claim.computed", self.computed),
            ("claim.verdict", self.verdict),
            *(("claim.command", command) for command in self.commands),
        )
        return "\n".join(f"{words.text(say(key))}: {words.text(cell)}" for key, cell in parts)


def table_of(claims: Sequence[Claim]) -> Block:
    columns = [say(f"claim.{name}") for name in ("claim", "computed", "verdict", "command")]
    return Table(columns, [(one.claim, one.computed, one.verdict, one.spans) for one in claims])
