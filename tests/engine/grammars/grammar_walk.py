"""Walks through a grammar with the vocabulary of the bundled model: any token that is allowed, at random."""

import random

from farthing.engine.grammars.grammar import GrammarMatcher
from farthing.engine.tokenization.tokenizer import Tokenizer


def walk(matcher: GrammarMatcher, tokenizer: Tokenizer, chance: random.Random, max_tokens: int = 400) -> str | None:
    """The text, where the walk ends by itself; as it gets longer it leans more towards an end."""
    token_ids: list[int] = []
    for turn in range(max_tokens):
        allowed = matcher.allowed().nonzero()[:, 0].tolist()
        assert allowed, "something can always come"
        leanings = matcher.leanings()
        urge = turn / max_tokens * 4
        token = max(allowed, key=lambda token_id: chance.random() + urge * float(leanings[token_id]))
        matcher.accept(token)
        if token in tokenizer.eos_ids:
            return tokenizer.decode(token_ids)
        token_ids.append(token)
    return None
