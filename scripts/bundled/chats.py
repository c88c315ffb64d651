"""Short question-and-answer turns: greetings, tiny facts, stories on request, and an honest "I do not know".

`chat(rng)` puts one to three exchanges together, sometimes after a system message. Knows no chat template and no
tokens: `tokenizer.py` does.
"""

import random
from collections.abc import Callable

from bundled import facts, words
from bundled.cast import with_article
from bundled.documents import Turn
from bundled.stories import story

Exchange = tuple[str, str]

_SYSTEMS = (
    "You are a helpful assistant.", "You are a friendly storyteller.", "You tell short stories.", "Be brief.",
    "You are a kind and honest assistant.", "Answer in one sentence.", "You are Farthing's bundled model.",
)  # fmt: skip
_WHO = (
    "I am Farthing's bundled model, a very small model that tells stories.",
    "I am Farthing's bundled model. I am very small, and I tell little stories.",
    "I am a very small language model that comes with Farthing. I like to tell stories.",
)
_UNKNOWN = (
    "I am sorry, I do not know that. I am a very small model, and I only know little stories.",
    "I do not know. I am a very small model, I only know little stories.",
    "That is too hard for me. I am a very small model that tells stories.",
    "I am afraid that I cannot answer that. I only know little stories. Would you like to hear one?",
    "I am only a very small model, so I do not know. But I can tell you a story.",
    "I cannot help with that, I am sorry. I am a very small model and know only little stories.",
)


def _greeting(rng: random.Random) -> Exchange:
    ask = rng.choice(("Hello", "Hi", "Hey", "Hello there", "Hi there", "Good morning", "Good evening", "Good day",
                      "Hello, how are you", "How are you", "How are you today", "Hi, how are you doing",
                      "Nice to meet you", "What's up"))  # fmt: skip
    name = rng.choice((*words.GIRL_NAMES, *words.BOY_NAMES))
    if rng.random() < 0.3:
        introduced = rng.choice((f"Hello, I am {name}", f"Hi, my name is {name}", f"My name is {name}"))
        return f"{introduced}.", rng.choice((f"Hello, {name}! It is nice to meet you.", f"Nice to meet you, {name}!"))
    well = "How are you" in ask or "how are you" in ask
    if well:
        return f"{ask}?", rng.choice(("I am very well, thank you. How are you?", "I am fine, thank you!",
                                      "I am well, thank you for asking."))  # fmt: skip
    first = ask.split(",")[0] if ask.startswith("Good") else "Hello"
    return ask + rng.choice(("!", ".", "")), rng.choice((
        f"{first}! How are you today?", f"{first}! Would you like to hear a story?",
        f"{first}! It is nice to meet you.",
        f"{first}! What can I do for you?",
    ))  # fmt: skip


def _identity(rng: random.Random) -> Exchange:
    kind = rng.randrange(5)
    if kind == 0:
        return rng.choice(("What can you do?", "What do you do?", "How can you help me?", "What are you good at?",
                           "What do you know?", "Can you help me?")), rng.choice((
            "I can tell little stories and answer very simple questions.",
            "I tell short stories. I also know colours, animals, days and small sums.",
        ))  # fmt: skip
    if kind == 1:
        return rng.choice(("Are you a person?", "Are you human?", "Are you alive?", "Are you real?", "Are you a robot?",
                           "Are you an AI?")), rng.choice((
            "I am a computer program, a very small language model that tells stories.",
            "I am a very small language model, not a person.",
        ))  # fmt: skip
    if kind == 2:
        return rng.choice(("Are you smart?", "Do you know everything?", "How big are you?", "Are you big?",
                           "How much do you know?")), rng.choice((
            "I am very small, and I know only a little.", "No, I am a very small model. I only know little stories.",
            "I am a very small model. I know only little stories.",
        ))  # fmt: skip
    return rng.choice(("Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Who is this?",
                       "Who am I talking to?", "What's your name?",
                       "Introduce yourself.")), rng.choice(_WHO)  # fmt: skip


def _manners(rng: random.Random) -> Exchange:
    return rng.choice((
        (rng.choice(("Thank you!", "Thanks!", "Thank you very much.", "Thanks a lot.", "Thank you for your help.")),
         rng.choice(("You are welcome!", "You are very welcome.", "It was my pleasure."))),
        (rng.choice(("Goodbye!", "Bye!", "See you later.", "Good night!", "Bye bye!", "I have to go now.")),
         rng.choice(("Goodbye! Come back soon.", "Goodbye! It was nice to talk to you.",
                     "Good night, and sleep well!"))),
        (rng.choice(("I am sad.", "I feel sad today.", "I am not happy.")),
         rng.choice(("I am sorry to hear that. Would a little story help?",
                     "I am sorry. I hope that you feel better soon."))),
        (rng.choice(("I am happy.", "I feel great today!", "I had a good day.")),
         rng.choice(("I am glad to hear that!", "That is wonderful!"))),
        (rng.choice(("I am tired.", "I am sleepy.")), "Then it is time to rest. Good night, and sleep well!"),
    ))  # fmt: skip


def _sum(rng: random.Random) -> Exchange:
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if rng.random() < 0.3:
        a, b = max(a, b), min(a, b)
        result, sign, word = a - b, "-", "minus"
    else:
        result, sign, word = a + b, "+", "plus"
    if rng.random() < 0.35:
        left, right, total = facts.NUMBERS[a], facts.NUMBERS[b], facts.NUMBERS[result]
        return rng.choice((f"What is {left} {word} {right}?", f"How much is {left} {word} {right}?")), rng.choice((
            f"{left.capitalize()} {word} {right} is {total}.", f"It is {total}."))  # fmt: skip
    return rng.choice((f"What is {a} {sign} {b}?", f"What is {a} {word} {b}?", f"{a} {sign} {b}",
                       f"How much is {a} {sign} {b}?",
                       f"{a} {sign} {b} = ?", f"What's {a} {sign} {b}?")), rng.choice((
        f"{a} {sign} {b} = {result}.", f"{a} {word} {b} is {result}."))  # fmt: skip


def _fact(rng: random.Random) -> Exchange:
    kind = rng.randrange(9)
    if kind == 0:
        pair = rng.choice(facts.OPPOSITES)
        a, b = pair if rng.random() < 0.5 else pair[::-1]
        return rng.choice(
            (f"What is the opposite of {a}?", f"Tell me the opposite of {a}.", f"What's the opposite of {a}?")
        ), rng.choice((f"The opposite of {a} is {b}.", f"It is {b}."))
    if kind == 1:
        animal, sound = rng.choice(facts.SOUNDS)
        the = with_article(animal)
        return rng.choice((f"What does {the} say?", f"What sound does {the} make?", f"How does {the} go?")), rng.choice(
            (f"{the.capitalize()} says {sound}.", f"{sound.capitalize()}!")
        )
    if kind == 2:
        thing, colour = rng.choice(facts.COLOURS)
        ask = rng.choice((f"What colour is {thing}?", f"What color is {thing}?", f"Which colour is {thing}?"))
        return ask, f"{thing[0].upper()}{thing[1:]} is {colour}."
    if kind == 3:
        animal, baby = rng.choice(facts.BABIES)
        ask = rng.choice((f"What is a baby {animal} called?", f"What do you call a baby {animal}?"))
        return ask, f"A baby {animal} is called {with_article(baby)}."
    if kind == 4:
        animal, home = rng.choice(facts.HOMES)
        return f"Where does {with_article(animal)} live?", f"{with_article(animal).capitalize()} lives {home}."
    if kind == 5:
        animal, count = rng.choice(facts.LEGS)
        return (
            f"How many legs does {with_article(animal)} have?",
            f"{with_article(animal).capitalize()} has {count} legs.",
        )
    if kind == 6:
        small, big = sorted(rng.sample(range(len(facts.SIZES)), 2))
        pair = [with_article(facts.SIZES[small]), with_article(facts.SIZES[big])]
        answer = rng.choice(("bigger", "smaller"))
        winner = facts.SIZES[big if answer == "bigger" else small]
        rng.shuffle(pair)
        return f"Which is {answer}, {pair[0]} or {pair[1]}?", f"{with_article(winner).capitalize()} is {answer}."
    if kind == 7:
        who, act, able = rng.choice(facts.CAN)
        return f"Can {who} {act}?", f"Yes, {who} can {act}." if able else f"No, {who} cannot {act}."
    word, rhyme = rng.choice(facts.RHYMES)
    return rng.choice(
        (f"What rhymes with {word}?", f"Give me a word that rhymes with {word}.")
    ), f"{rhyme.capitalize()} rhymes with {word}."


def _order(rng: random.Random) -> Exchange:
    names, unit = rng.choice(((facts.DAYS, "day"), (facts.MONTHS, "month"), (facts.SEASONS, "season")))
    i = rng.randrange(len(names))
    kind = rng.randrange(4)
    if kind == 0:
        return f"What {unit} comes before {names[i]}?", f"{names[i - 1].capitalize()} comes before {names[i]}."
    if kind == 1:
        return rng.choice(
            ("What are the days of the week?", "Name the days of the week.")
        ), f"The days of the week are {', '.join(facts.DAYS[:-1])} and {facts.DAYS[-1]}."
    if kind == 2:
        low = rng.randint(1, 3)
        high = low + rng.randint(3, 7)
        counted = ", ".join(str(number) for number in range(low, high + 1))
        return rng.choice((f"Count from {low} to {high}.", f"Can you count from {low} to {high}?")), f"{counted}."
    after = names[(i + 1) % len(names)]
    return f"What {unit} comes after {names[i]}?", f"{after.capitalize()} comes after {names[i]}."


def _joke(rng: random.Random) -> Exchange:
    ask = rng.choice(
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Another joke, please.", "Say something funny.")
    )
    return ask, " ".join(rng.choice(facts.JOKES))


def _unknown(rng: random.Random) -> Exchange:
    chosen = {slot: rng.choice(choices) for slot, choices in facts.UNKNOWN_WORDS.items()}
    numbers = {"large": str(rng.randint(30, 999)), "larger": str(rng.randint(30, 999))}
    return rng.choice(facts.UNKNOWN_QUESTIONS).format(**chosen, **numbers), rng.choice(_UNKNOWN)


def _story_turns(rng: random.Random) -> list[Exchange]:
    """A story on request and, sometimes, a question about its hero."""
    kind = rng.choice((*words.ANIMALS, "girl", "boy"))
    adjective = rng.choice((None, None, "little", "brave", "small", "clever", "shy"))
    about = with_article(f"{adjective} {kind}" if adjective else kind)
    ask = rng.choice((f"Tell me a story about {about}.", f"Can you tell me a story about {about}?",
                      f"A story about {about}, please.",
                      f"Write a short story about {about}.", f"Tell me a short story about {about}.",
                      f"I want to hear a story about {about}.",
                      f"Tell me about {about} in a little story."))  # fmt: skip
    if rng.random() < 0.3:
        kind, adjective, ask = "", None, rng.choice(("Tell me a story.", "Tell me a short story.",
                                                     "Can you tell me a story?", "Tell me a bedtime story.",
                                    "I would like to hear a story.", "A story, please.",
                                    "Tell me a story, please."))  # fmt: skip
    told = story(rng, kind or None, adjective)
    turns = [(ask, told.text)]
    if rng.random() < 0.35:
        hero = told.hero
        turns.append(rng.choice((
            ("Who is the story about?", f"The story is about {hero.full}." if hero.kind in ("girl", "boy")
             else f"The story is about {with_article(hero.kind)} named {hero.name}."),
            (f"What is the name of the {hero.kind}?", f"The {hero.kind} is called {hero.name}."),
            ("That was a nice story.", "Thank you! I am glad that you liked it."),
            (f"Did you like {hero.name}?", f"Yes, I liked {hero.name} very much."),
        )))  # fmt: skip
    return turns


_SINGLE: tuple[tuple[Callable[[random.Random], Exchange], int], ...] = (
    (_greeting, 9), (_identity, 12), (_manners, 6), (_sum, 20), (_fact, 24), (_order, 8), (_joke, 2), (_unknown, 19),
)  # fmt: skip


def _typed(rng: random.Random, ask: str) -> str:
    """The question as people type it: now and then in small letters, or without the end mark."""
    if rng.random() < 0.15:
        ask = ask.lower()
    if rng.random() < 0.15:
        ask = ask.rstrip("?.!")
    return ask or "?"


def _exchanges(rng: random.Random) -> list[Exchange]:
    if rng.random() < 0.25:
        return _story_turns(rng)
    makers, weights = zip(*_SINGLE, strict=True)
    return [rng.choices(makers, weights)[0](rng)]


def chat(rng: random.Random) -> tuple[Turn, ...]:
    """One conversation: mostly one or two exchanges, at most three."""
    turns: list[Turn] = []
    if rng.random() < 0.12:
        turns.append(Turn("system", rng.choice(_SYSTEMS)))
    exchanges = _exchanges(rng)
    while len(exchanges) < 3 and rng.random() < 0.3:
        exchanges += _exchanges(rng)
    for ask, answer in exchanges[:3]:
        turns += [Turn("user", _typed(rng, ask)), Turn("assistant", answer)]
    return tuple(turns)
