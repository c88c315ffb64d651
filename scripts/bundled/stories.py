"""Whole short stories: a cast, an opening, one of the plots and a last sentence.

`story(rng)` returns the story and its hero, so that a chat can ask about the hero afterwards. Knows no tokens:
a length in characters keeps a story within about 170 of them.
"""

import random
from dataclasses import dataclass

from bundled import words
from bundled.cast import Character, Scene, with_article
from bundled.plots import PLOTS

MAX_STORY_CHARACTERS = 680


@dataclass(frozen=True, slots=True)
class Story:
    """A story's text and the character it is about."""

    text: str
    hero: Character


def _character(rng: random.Random, kind: str, taken: tuple[str, ...] = ()) -> Character:
    female = kind == "girl" or (kind != "boy" and rng.random() < 0.5)
    pool = words.GIRL_NAMES if female else words.BOY_NAMES
    name = rng.choice([candidate for candidate in pool if candidate not in taken])
    return Character(name, kind, *(("she", "her", "her") if female else ("he", "him", "his")))


def _opening(scene: Scene, adjective: str, where: str) -> str:
    h, p = scene.hero, scene.pick
    who = f"{with_article(f'{adjective} {h.kind}')} named {h.name}"
    return p(
        f"Once upon a time, there was {who} who lived {where}.",
        f"Once upon a time, there was {who}. {h.He} lived {where}.",
        f"Once upon a time, {who} lived {where}.",
        f"Once upon a time, {where}, there lived {who}.",
        f"There once was {who} who lived {where}.",
        f"Long ago, {who} lived {where}.",
        f"{h.name} was {with_article(f'{adjective} {h.kind}')} who lived {where}.",
    )


def story(rng: random.Random, kind: str | None = None, adjective: str | None = None) -> Story:
    """One story about a `kind` of hero (an animal, `girl` or `boy`) who is `adjective`, or about anyone."""
    while True:
        hero_kind = kind or rng.choice((*words.ANIMALS, *("girl", "boy") * 7))
        hero = _character(rng, hero_kind)
        friend_kind = rng.choice([other for other in (*words.ANIMALS, "girl", "boy") if other != hero_kind])
        friend = _character(rng, friend_kind, (hero.name,))
        where, place = rng.choice(words.PLACES)
        scene = Scene(rng, hero, friend, place, rng.choice(words.TIMES))
        sentences = [_opening(scene, adjective or rng.choice(words.ADJECTIVES), where), *rng.choice(PLOTS)(scene)]
        if rng.random() < 0.6:
            sentences.append(rng.choice(words.FRIENDLY_ENDS).format(name=hero.name))
        text = " ".join(sentences)
        if rng.random() < 0.3:  # some stories in two paragraphs
            cut = rng.randrange(2, len(sentences) - 2)
            text = " ".join(sentences[:cut]) + "\n\n" + " ".join(sentences[cut:])
        if len(text) <= MAX_STORY_CHARACTERS:
            return Story(text, hero)
