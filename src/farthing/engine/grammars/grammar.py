"""Answers that keep to a grammar: the tokens that may come next, one mask a step, by llguidance.

A grammar is compiled once per source and engine and followed once per sample. Knows tokens as bytes and text as what
they spell; special tokens spell nothing, and only a Lark grammar that names them (`<|name|>`, `<[id]>`) lets them in.
What may be asked of a grammar is in grammar_source.py; server processes try one before they send it (grammar_check.py).
"""

import threading
from collections import OrderedDict

import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from farthing.engine.grammars.grammar_leaning import JsonPlace, JsonTokens
from farthing.engine.grammars.grammar_source import cannot_compile, llguidance_grammar, parser_limits
from farthing.engine.tokenization.tokenizer import Tokenizer
from farthing.errors import RequestError
from farthing.sampling_params import Grammar

MAX_KEPT_GRAMMARS = 64


class GrammarCompiler:
    """Compiles grammars for one model; safe from several threads. `eos_ids` end an answer, `vocab_size` is the number
    of logits, which may be above the tokenizer's: ids beyond are never allowed."""

    def __init__(self, tokenizer: Tokenizer, *, eos_ids: frozenset[int], vocab_size: int) -> None:
        self._vocabulary = _Vocabulary(tokenizer, eos_ids, vocab_size)
        self._limits = parser_limits()
        self._lock = threading.Lock()
        self._kept: OrderedDict[Grammar, GrammarMatcher] = OrderedDict()

    def compile(self, grammar: Grammar) -> "GrammarMatcher":
        """A matcher at the start of an answer. RequestError if the grammar is broken, too large or can't be enforced.
        Takes up to about 0.1 s, without the interpreter's lock; a grammar that was used lately takes nothing."""
        with self._lock:
            matcher = self._kept.get(grammar)
            if matcher is not None:
                self._kept.move_to_end(grammar)
                return matcher.copy()
        matcher = self._compile(grammar)
        with self._lock:
            self._kept[grammar] = matcher
            if len(self._kept) > MAX_KEPT_GRAMMARS:
                self._kept.popitem(last=False)
        return matcher.copy()

    def _compile(self, grammar: Grammar) -> "GrammarMatcher":
        if not self._vocabulary.end_ids.numel():
            raise RequestError(
                "this model has no token that ends a text, so no grammar can be completed", fix="leave the grammar out"
            )
        source = llguidance_grammar(grammar)
        matcher = LLMatcher(self._vocabulary.tokenizer, source, log_level=0, limits=self._limits)
        if matcher.is_error():
            raise cannot_compile(grammar, matcher.get_error())
        return GrammarMatcher(matcher, self._vocabulary, JsonPlace() if grammar.kind.startswith("json") else None)


class GrammarMatcher:
    """One answer on its way through a grammar: a Constraint of runtime/sampler.py. Not thread-safe.

    In JSON, a number with a fraction or an exponent gets no more digits than a double holds, unless the grammar asks
    for them: beyond, a bound that the digits keep is one that whoever reads the number finds broken.
    """

    def __init__(self, matcher: LLMatcher, vocabulary: "_Vocabulary", place: JsonPlace | None) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._place = place
        self._ended = False
        self._allowed_V = torch.zeros(0, dtype=torch.bool)  # as found last

    @property
    def end_ids(self) -> torch.Tensor:
        return self._vocabulary.end_ids

    def allowed(self) -> torch.Tensor:
        """bool [V]. RequestError if the grammar has become too expensive to follow, or nothing can come any more."""
        vocabulary = self._vocabulary
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        found = np.unpackbits(bits, count=vocabulary.num_tokens + 1, bitorder="little")
        allowed_V = torch.zeros(vocabulary.vocab_size, dtype=torch.bool)
        num_tokens = min(vocabulary.num_tokens, vocabulary.vocab_size)
        allowed_V[:num_tokens] = torch.from_numpy(found[:num_tokens]).bool()
        if self._ended or found[vocabulary.num_tokens]:
            allowed_V[vocabulary.end_ids] = True
        too_long_V = None if self._place is None else vocabulary.json.too_long(self._place)
        if too_long_V is not None:
            shorter_V = allowed_V & ~too_long_V
            allowed_V = shorter_V if shorter_V.any() else allowed_V
        self._allowed_V = allowed_V
        return allowed_V

    def leanings(self) -> torch.Tensor:
        """float32 [V], for the place at which `allowed` was asked for."""
        vocabulary = self._vocabulary
        return vocabulary.ends if self._place is None else vocabulary.json.leanings(self._place, self._allowed_V)

    def accept(self, token_id: int) -> None:
        """The token that came. RequestError if it breaks the grammar or can't be followed within the limits."""
        if self._ended or (token_id in self._vocabulary.eos_ids and self._matcher.is_accepting()):
            self._ended = True
            return
        self._matcher.consume_token(token_id)
        self._check()
        if self._place is not None:
            self._place.push(self._vocabulary.token_bytes[token_id])

    def copy(self) -> "GrammarMatcher":
        place = None if self._place is None else self._place.copy()
        other = GrammarMatcher(self._matcher.deep_copy(), self._vocabulary, place)
        other._ended = self._ended
        return other

    def _check(self) -> None:
        if self._matcher.is_error():
            cause = self._matcher.get_error().partition("\n")[0]
            raise RequestError(f"the grammar can't be followed any further ({cause:.200})", fix="simplify it")


class _Vocabulary:
    """What all matchers of a model share. Behind the tokens stands one that no model has: llguidance allows it where
    the text may end, and it stands for all of `eos_ids`."""

    def __init__(self, tokenizer: Tokenizer, eos_ids: frozenset[int], vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self.num_tokens = tokenizer.vocab_size
        self.eos_ids = eos_ids
        self.end_ids = torch.tensor(sorted(i for i in eos_ids if i < vocab_size), dtype=torch.int64)
        self.token_bytes = [tokenizer.token_bytes(token_id) for token_id in range(self.num_tokens)]
        spellings = {token_id: text.encode() for text, token_id in tokenizer.special_tokens.items()}
        hidden = tokenizer.special_ids | {i for i in eos_ids if i < self.num_tokens}
        tokens = [
            spellings.get(token_id, data) if token_id in hidden else data
            for token_id, data in enumerate(self.token_bytes)
        ]
        wrapper = TokenizerWrapper(_Tokens([*tokens, b"<end of text>"], sorted(hidden), tokenizer))
        self.tokenizer = LLTokenizer(wrapper, slices=LLTokenizer.json_slices())
        text = [b"" if token_id in hidden else data for token_id, data in enumerate(self.token_bytes)]
        self.json = JsonTokens(text, end_ids=self.end_ids, vocab_size=vocab_size)
        self.ends = torch.zeros(vocab_size)
        self.ends[self.end_ids] = 1.0


class _Tokens:
    """A vocabulary in the form that llguidance's TokenizerWrapper reads."""

    def __init__(self, tokens: list[bytes], special_ids: list[int], tokenizer: Tokenizer) -> None:
        self.tokens = tokens
        self.eos_token_id = len(tokens) - 1
        self.bos_token_id = None
        self.special_token_ids = [*special_ids, self.eos_token_id]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        """For hints of tokens that are sure to come; their bytes are what counts, so any spelling does."""
        return self._tokenizer.encode(text.decode("utf-8", "replace"), add_special=False)
