"""BatchShape: what a step computes, as (new tokens, context tokens) per sequence.

Prefill, decode and mixed batches are one case. Every cost is a function of the sums kept here, so that pricing a
step does not depend on how many sequences there are. Knows no model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class BatchShape:
    """`sequences`: (new_tokens, context_tokens) each; the context is what the KV cache held before this step.

    `num_logits`: rows that leave through the head; by default one per sequence.
    """

    sequences: tuple[tuple[int, int], ...]
    num_logits: int

    @classmethod
    def of(cls, sequences: Iterable[tuple[int, int]], num_logits: int | None = None) -> "BatchShape":
        frozen = tuple(sequences)
        if any(new < 1 or context < 0 for new, context in frozen):
            raise ValueError(f"a sequence of a batch has at least one new token and no negative context: {frozen}")
        return cls(frozen, len(frozen) if num_logits is None else num_logits)

    @classmethod
    def prefill(cls, num_tokens: int, batch: int = 1) -> "BatchShape":
        return cls.of([(num_tokens, 0)] * batch)

    @classmethod
    def decode(cls, context_tokens: int, batch: int = 1) -> "BatchShape":
        return cls.of([(1, context_tokens)] * batch)

    @property
    def num_sequences(self) -> int:
        return len(self.sequences)

    @cached_property
    def num_tokens(self) -> int:
        return sum(new for new, _ in self.sequences)

    @cached_property
    def context_tokens(self) -> int:
        return sum(context for _, context in self.sequences)

    @cached_property
    def _attended(self) -> dict[int | None, tuple[int, int]]:
        return {}

    def attended_pairs(self, window: int | None = None) -> int:
        """(query, key) pairs under the causal mask: n*c + n(n+1)/2 per sequence; `window` keys at most per query."""
        return self._sums(window)[0]

    def attended_tokens(self, window: int | None = None) -> int:
        """Distinct cache positions that the queries of each sequence touch, summed over sequences."""
        return self._sums(window)[1]

    def _sums(self, window: int | None) -> tuple[int, int]:
        if window not in self._attended:
            pairs = sum(causal_pairs(new, context, window) for new, context in self.sequences)
            touched = sum(touched_tokens(new, context, window) for new, context in self.sequences)
            self._attended[window] = (pairs, touched)
        return self._attended[window]


def touched_tokens(new: int, context: int, window: int | None) -> int:
    """Distinct cache positions that the new tokens of one sequence attend to, themselves included."""
    return new + (context if window is None else min(context, window - 1))


def causal_pairs(new: int, context: int, window: int | None) -> int:
    """(query, key) pairs of one sequence: the sum over the new tokens of min(position + 1, window)."""
    if window is None or context + new <= window:
        return new * context + new * (new + 1) // 2
    growing = max(0, window - context)  # queries whose whole past still lies inside the window
    return growing * context + growing * (growing + 1) // 2 + (new - growing) * window
