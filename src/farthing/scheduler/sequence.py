"""A sequence: the tokens of one request, how far they are computed, and when it ends.

The engine creates it, the scheduler alone changes it afterwards. Knows the ends that a token id or a count can tell;
stop strings are text and belong to engine/tokenization/detokenizer.py. Knows no sampling, no blocks beyond their
numbers, no time beyond the arrival it was given.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Literal

from farthing.scheduler.drafts import Drafter

IDLE_PRIORITY = 1000
"""This and above: computed where it disturbs nobody. It ranks behind everyone else, however long it waits."""

FinishReason = Literal["stop", "length", "cancelled", "error"]


class SequenceStatus(Enum):
    WAITING = "waiting"  # never admitted yet, or preempted
    RUNNING = "running"  # holds blocks for all of its tokens
    FINISHED = "finished"


class Sequence:
    """One prompt and its growing output.

    `token_ids`: prompt, then output; ids are >= 0 (the caller has checked them against the vocabulary).
    `max_output_tokens` is lowered by `Scheduler.add` to what context and pool can hold.
    `ending_token_ids`: every id that ends the sequence; it counts from output index `min_output_tokens` on.
    `priority`: smaller is more urgent; it may be negative.
    `salt`: only sequences with equal salts share cached blocks.
    `use_prefix_cache=False`: the whole prefix is computed, because somebody reads it (prompt logprobs).
    `drafter`: guesses its next tokens, where its owner lets it be speculated on.
    `num_cached_tokens`: prompt tokens taken from the prefix cache when the sequence was first admitted.
    `stop_token`: the id that ended it, which is also the last of `token_ids`; None where none did.
    """

    __slots__ = (
        "arrival_time",
        "block_ids",
        "block_table",
        "drafter",
        "ending_token_ids",
        "finish_reason",
        "first_scheduled_time",
        "is_idle",
        "last_batch_id",
        "max_output_tokens",
        "min_output_tokens",
        "num_cached_tokens",
        "num_computed_tokens",
        "num_pending_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "num_published_blocks",
        "num_scheduled_tokens",
        "priority",
        "publishes",
        "rank",
        "salt",
        "seq_id",
        "status",
        "stop_token",
        "token_ids",
        "use_prefix_cache",
    )

    def __init__(
        self,
        seq_id: int,
        prompt_ids: Iterable[int],
        *,
        max_output_tokens: int,
        eos_token_ids: frozenset[int] = frozenset(),
        stop_token_ids: frozenset[int] = frozenset(),
        min_output_tokens: int = 0,
        ignore_eos: bool = False,
        priority: int = 0,
        salt: str = "",
        arrival_time: float = 0.0,
        use_prefix_cache: bool = True,
        may_draft: bool = False,
    ) -> None:
        self.seq_id = seq_id
        self.token_ids = list(prompt_ids)
        self.num_prompt_tokens = len(self.token_ids)
        self.max_output_tokens = max_output_tokens
        self.min_output_tokens = min_output_tokens
        self.ending_token_ids = stop_token_ids if ignore_eos else stop_token_ids | eos_token_ids
        self.priority = priority
        self.is_idle = priority >= IDLE_PRIORITY
        self.salt = salt
        self.arrival_time = arrival_time
        self.use_prefix_cache = use_prefix_cache
        self.drafter = Drafter(self.token_ids) if may_draft else None

        self.status = SequenceStatus.WAITING
        self.finish_reason: FinishReason | None = None
        self.stop_token: int | None = None
        self.num_cached_tokens = 0
        self.num_preemptions = 0
        self.first_scheduled_time: float | None = None

        # The scheduler's bookkeeping. All but the first and the last two start anew when the sequence is preempted.
        self.rank: tuple[float, float, int] = (0.0, 0.0, 0)  # smaller goes first, for as long as the sequence lives
        self.block_ids: list[int] = []
        self.block_table: tuple[int, ...] | None = None  # the same, kept for the batches until it changes
        self.num_scheduled_tokens = 0  # tokens whose KV is there or will be when the batches in flight are done
        self.num_computed_tokens = 0  # of these, what has been collected
        self.num_published_blocks = 0  # leading blocks that are in the prefix cache
        self.publishes = True
        self.num_pending_tokens = 0  # sampled by batches in flight, ids not known yet
        self.last_batch_id = -1  # the newest batch that touches `block_ids`

    @property
    def output_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_tokens_to_schedule(self) -> int:
        """Tokens, pending ones included, that no batch has taken yet: 1 for a decode, never 0."""
        return len(self.token_ids) + self.num_pending_tokens - self.num_scheduled_tokens

    def append(self, token_id: int) -> FinishReason | None:
        """Adds a sampled token. Returns why it is the last one, or None."""
        output_index = len(self.token_ids) - self.num_prompt_tokens
        self.token_ids.append(token_id)
        if token_id in self.ending_token_ids and output_index >= self.min_output_tokens:
            self.stop_token = token_id
            return "stop"
        return "length" if output_index + 1 >= self.max_output_tokens else None
