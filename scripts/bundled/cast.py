"""Who is in a story and where: characters with their pronouns, and the scene that a plot is told in.

Knows no plot and no list of words.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Character:
    """Someone in a story, with the pronouns that go with the name."""

    name: str
    kind: str
    he: str
    him: str
    his: str

    @property
    def full(self) -> str:
        """How others first hear of this character: `Pip the mouse`, or just `Anna` for a child."""
        return self.name if self.kind in ("girl", "boy") else f"{self.name} the {self.kind}"

    @property
    def He(self) -> str:
        """The pronoun at the beginning of a sentence."""
        return self.he.capitalize()

    @property
    def His(self) -> str:
        """The possessive at the beginning of a sentence."""
        return self.his.capitalize()


@dataclass(frozen=True, slots=True)
class Scene:
    """One hero, one friend, one place and one time; `pick` is the only source of chance."""

    rng: random.Random
    hero: Character
    friend: Character
    place: str
    time: str

    def pick(self, *choices: str) -> str:
        """One of the ways to say it."""
        return self.rng.choice(choices)


def with_article(noun: str) -> str:
    """`a fox`, `an owl`."""
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
