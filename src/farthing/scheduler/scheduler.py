"""Which tokens are computed in the next step: continuous batching, chunked prefill, prefix caching, preemption.

One order rules everything, the rank (smaller first): priority + arrival / aging_seconds, then arrival, then id. It is
constant, and still it ages: a request of priority p ranks as one of priority 0 that came p * aging_seconds later, so
whoever comes after that stands behind it. Waiting requests are admitted in this order, none past another.
Blocks for the whole prefix (prompt, output so far and one more token) are taken at admission; after that only a decode
asks for one. If there is none, the last in rank is preempted, perhaps the asker itself. So the first in rank always
gets on, and every request ends. Idle requests (IDLE_PRIORITY) rank behind all others and join only every few batches
of theirs, with no more tokens than those have; whoever needs their slots or blocks takes them.
Knows neither tensors nor prices, and not what a token means.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass
from math import inf
from operator import attrgetter
from typing import Literal

from farthing.errors import RequestError, UsageError
from farthing.scheduler.batch import Batch, BatchItem, Done, TokenOutput
from farthing.scheduler.block_pool import BlockPool
from farthing.scheduler.drafts import DraftPolicy
from farthing.scheduler.flight import Flight
from farthing.scheduler.sequence import FinishReason, Sequence, SequenceStatus
from farthing.scheduler.speculation import add_drafts

_rank = attrgetter("rank")
_new = tuple.__new__  # of a named tuple: its own constructor takes twice the time, and there are millions
_IDLE_TURN = 8  # of so many batches of others, idle sequences join one

WaitingFor = Literal["slots", "blocks", "tokens", ""]
"""What the first of the queue lacks: a place among those that run, KV blocks, or tokens of the step's budget."""


@dataclass(slots=True)
class SchedulerStats:
    """Counts since the start."""

    num_scheduled_tokens: int = 0
    num_cached_tokens: int = 0  # prompt tokens that were not scheduled, since the prefix cache had them
    num_dropped_tokens: int = 0  # sampled past a stop, a cancel or a finish; drafts that were wrong are not
    num_preemptions: int = 0
    num_failed: int = 0  # sequences ended because no token could be drawn
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0  # drafts that were right


class Scheduler:
    """Owns the sequences from `add` to their end, and the block pool. The same calls give the same batches.

    `max_num_seqs`: running at a time. `max_batch_tokens`: new tokens of one step; at least max_num_seqs, so that no
    decode or prefill ever stands still for want of budget. `max_model_len`: tokens of a sequence, prompt and output;
    the pool's size bounds it too. `max_tokens_in_flight`: tokens of one sequence that may still be in flight when it
    is scheduled again; 0 unless the executor can fill in PENDING_TOKEN. `aging_seconds`: the wait that makes up for
    one step of priority; infinity for strict priorities. `draft_policy`: how many drafts a decode gets; None: none.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        max_num_seqs: int,
        max_batch_tokens: int,
        max_model_len: int,
        max_tokens_in_flight: int = 0,
        enable_prefix_caching: bool = True,
        aging_seconds: float = 30.0,
        draft_policy: DraftPolicy | None = None,
    ) -> None:
        assert max_num_seqs > 0 and max_tokens_in_flight >= 0 and aging_seconds > 0
        if max_batch_tokens < max_num_seqs:
            raise UsageError(
                f"max_batch_tokens {max_batch_tokens} is below max_num_seqs {max_num_seqs}: a step could not hold one "
                "token of each running sequence",
                fix="raise the one or lower the other",
            )
        assert draft_policy is None or not max_tokens_in_flight, "what comes after a token in flight can't be guessed"
        self.block_pool = BlockPool(num_blocks, block_size)
        self.stats = SchedulerStats()
        self.waiting_for: WaitingFor = ""  # as of the last `schedule`
        self._max_num_seqs = max_num_seqs
        self._max_batch_tokens = max_batch_tokens
        self._max_sequence_tokens = min(max_model_len, num_blocks * block_size)
        self._max_tokens_in_flight = max_tokens_in_flight
        self._enable_prefix_caching = enable_prefix_caching
        self._aging_seconds = aging_seconds
        self._draft_policy = draft_policy
        self._sequences: dict[int, Sequence] = {}
        self._waiting: list[Sequence] = []  # in rank order, as is _running
        self._running: list[Sequence] = []
        self._in_flight: dict[int, Flight] = {}  # by batch id, oldest first
        self._num_batches = 0
        self._refused = (-1, 0)  # head of the queue that did not fit, and how many available blocks it needs

    @property
    def has_unfinished(self) -> bool:
        return bool(self._sequences)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def add(self, sequence: Sequence) -> None:
        """Queues a new sequence; its id is never used again. Raises RequestError if it could never yield a token."""
        assert sequence.seq_id not in self._sequences and sequence.status is SequenceStatus.WAITING
        assert sequence.max_output_tokens >= 1, "sampling parameters have been checked before"
        if not sequence.num_prompt_tokens:
            raise RequestError("the prompt is empty", fix="give at least one token")
        room = self._max_sequence_tokens - sequence.num_prompt_tokens
        if room < 1:
            raise RequestError(
                f"the prompt has {sequence.num_prompt_tokens} tokens, and there is room for "
                f"{self._max_sequence_tokens}, output included",
                fix="shorten the prompt, or serve with a longer context",
            )
        sequence.max_output_tokens = min(sequence.max_output_tokens, room)
        age = sequence.arrival_time / self._aging_seconds
        urgency = inf if sequence.is_idle else sequence.priority + age
        sequence.rank = (urgency, sequence.arrival_time, sequence.seq_id)
        self._sequences[sequence.seq_id] = sequence
        insort(self._waiting, sequence, key=_rank)

    def cancel(self, seq_id: int) -> bool:
        """Ends a sequence wherever it is. False if there is none (any more)."""
        return self.finish(seq_id, "cancelled")

    def finish(self, seq_id: int, reason: FinishReason = "stop") -> bool:
        """Ends a sequence for a reason that only the caller sees, like a stop string. False if there is none."""
        sequence = self._sequences.get(seq_id)
        if sequence is None:
            return False
        self._end(sequence, reason)
        return True

    def reset_prefix_cache(self) -> None:
        """Nothing computed until now is shared any more; running sequences keep what they have to themselves."""
        self.block_pool.forget()
        for sequence in self._running:
            sequence.publishes = False

    def schedule(self, now: float) -> Batch | None:
        """The next batch: decodes first, then running prefills, then new ones; None if nothing can be computed now.
        Only what is left then is for drafts."""
        draft = Flight(self._num_batches, self._max_batch_tokens)
        self._take_running(draft)
        self.waiting_for = self._admit(draft, now)
        if not draft.items:
            return None
        if self._draft_policy is not None:
            room, num_running = self._max_num_seqs - len(draft.items), len(self._running)
            self.stats.num_draft_tokens += add_drafts(draft, self.block_pool, self._draft_policy, room, num_running)
        self._num_batches += 1
        self._in_flight[draft.batch_id] = draft
        self.stats.num_scheduled_tokens += self._max_batch_tokens - draft.budget
        return Batch(draft.batch_id, tuple(draft.items))

    def update(self, done: Done) -> tuple[TokenOutput, ...]:
        """Takes back the oldest batch in flight: appends its tokens, publishes full blocks, releases what it was last
        to touch."""
        assert done.batch.batch_id == min(self._in_flight), "batches are collected in order"
        flight = self._in_flight.pop(done.batch.batch_id)
        drawn, failed, block_size = done.token_ids, done.failed, self.block_pool.block_size
        finished = SequenceStatus.FINISHED
        outputs = []
        for item, (sequence, num_preemptions) in zip(flight.items, flight.members, strict=True):
            seq_id, start, token_ids, _, samples, _, num_drafts = item
            if samples:
                sequence.num_pending_tokens -= 1
            if sequence.status is finished:
                if samples and seq_id not in failed:
                    self.stats.num_dropped_tokens += 1 + done.num_accepted.get(seq_id, 0)
                continue
            if failed and seq_id in failed:
                outputs.append(self._fail(item, sequence, failed[seq_id]))
                continue
            if num_drafts:
                drafts = token_ids[1 : 1 + done.num_accepted.get(seq_id, 0)]
                is_current = sequence.num_preemptions == num_preemptions
                outputs += self._accept(sequence, drafts, drawn[seq_id], is_current=is_current)
                continue
            num_new = len(token_ids)
            if sequence.num_preemptions == num_preemptions:
                sequence.num_computed_tokens = end = start + num_new
                if end >= (sequence.num_published_blocks + 1) * block_size:
                    self._publish(sequence)
            if samples:  # a preempted sequence keeps its token too
                token_id, known, reason = drawn[seq_id], sequence.token_ids, None
                num_output = len(known) - sequence.num_prompt_tokens + 1
                if num_output >= sequence.max_output_tokens or token_id in sequence.ending_token_ids:
                    reason = sequence.append(token_id)
                    if reason is not None:
                        self._end(sequence, reason)
                else:
                    known.append(token_id)
                outputs.append(_new(TokenOutput, (seq_id, token_id, reason, "")))
            if num_new > 1:
                self._refused = (-1, 0)  # what a prefill has published may be just what the head of the queue needs
        for block_ids in flight.tables:
            self.block_pool.release(block_ids)
        return tuple(outputs)

    def _accept(
        self, sequence: Sequence, drafts: tuple[int, ...], token_id: int, *, is_current: bool
    ) -> list[TokenOutput]:
        """Appends the drafts that were right and the token that comes after them, up to an end. The KV of the others
        is overwritten by the next step. `is_current`: whether the sequence has kept its blocks."""
        self.stats.num_accepted_tokens += len(drafts)
        outputs: list[TokenOutput] = []
        reason: FinishReason | None = None
        for new in (*drafts, token_id):
            if reason is None:
                reason = sequence.append(new)
                outputs.append(TokenOutput(sequence.seq_id, new, reason))
            else:
                self.stats.num_dropped_tokens += 1
        if is_current:
            sequence.num_scheduled_tokens += len(drafts)
            sequence.num_computed_tokens = min(sequence.num_scheduled_tokens, len(sequence.token_ids))
            self._publish(sequence)
        if reason is not None:
            self._end(sequence, reason)
        return outputs

    def _fail(self, item: BatchItem, sequence: Sequence, error: str) -> TokenOutput:
        """Ends a sequence for which no token could be drawn; the blocks of this step are released, never published.

        Each decode is drawn from as soon as it is computed, but of a prompt only the last chunk is. What failed there
        may stem from an earlier chunk or from a cached prefix, and would fail all who share it: the cache starts anew.
        """
        self.stats.num_failed += 1
        if item.output_index == 0 or len(item.token_ids) - item.num_drafts > 1:
            self.reset_prefix_cache()
        self._end(sequence, "error")
        return TokenOutput(item.seq_id, None, "error", error)

    def _take_running(self, draft: Flight) -> None:
        """Decodes, then prefills, each in rank order."""
        block_size, max_tokens_in_flight = self.block_pool.block_size, self._max_tokens_in_flight
        prefills = []
        for sequence in self._running:  # preemption shortens the list, at its end
            if sequence.is_idle and not self._idle_room(draft):
                break  # idle ones stand last
            num_known, num_pending = len(sequence.token_ids), sequence.num_pending_tokens
            num_scheduled = sequence.num_scheduled_tokens
            if num_known + num_pending - num_scheduled > 1:
                prefills.append(sequence)
                continue
            num_output = num_known - sequence.num_prompt_tokens + num_pending
            if num_pending > max_tokens_in_flight or num_output >= sequence.max_output_tokens:
                continue  # its newest token must be known first, or its last one is in flight
            if num_scheduled < len(sequence.block_ids) * block_size or self._find_room(sequence):
                draft.take(sequence, 1, block_size)
        for sequence in prefills:
            room = self._idle_room(draft) if sequence.is_idle else draft.budget
            if room:
                draft.take(sequence, min(sequence.num_tokens_to_schedule, room), block_size)

    def _idle_room(self, draft: Flight) -> int:
        """Tokens that idle sequences may have in this batch: all of it while they are alone, else now and then as many
        as the others have."""
        first = self._running[:1] + self._waiting[:1]
        if all(sequence.is_idle for sequence in first):
            return draft.budget
        if draft.batch_id % _IDLE_TURN:
            return 0
        members = zip(draft.items, draft.members, strict=True)
        num_idle = sum(len(item.token_ids) for item, (sequence, _) in members if sequence.is_idle)
        num_others = self._max_batch_tokens - draft.budget - num_idle
        return min(draft.budget, num_others - num_idle)

    def _find_room(self, sequence: Sequence) -> bool:
        """Whether a decode gets a block for its token. Preempts from the end of the ranks for it, itself if need be."""
        while not self.block_pool.num_available:
            if any(flight.tables for flight in self._in_flight.values()):
                return False  # blocks are about to come back: nobody else needs to go
            victim = self._running.pop()
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.block_ids += self.block_pool.allocate(1)
        sequence.block_table = None
        return True

    def _admit(self, draft: Flight, now: float) -> WaitingFor:
        """What keeps the first of those that are left from running."""
        while self._waiting:
            sequence = self._waiting[0]
            room = self._idle_room(draft) if sequence.is_idle else draft.budget
            if room <= 0:
                return "" if sequence.is_idle and draft.budget else "tokens"
            if len(self._running) >= self._max_num_seqs and not self._make_way(sequence, draft):
                return "slots"
            if sequence.num_pending_tokens:
                return "slots"  # nobody passes it, or big requests would wait for ever
            while not self._allocate_prefix(sequence):
                if not self._make_way(sequence, draft):
                    return "blocks"
            del self._waiting[0]
            insort(self._running, sequence, key=_rank)
            sequence.status = SequenceStatus.RUNNING
            if sequence.first_scheduled_time is None:
                sequence.first_scheduled_time = now
                sequence.num_cached_tokens = sequence.num_computed_tokens
                self.stats.num_cached_tokens += sequence.num_cached_tokens
            draft.take(sequence, min(sequence.num_tokens_to_schedule, room), self.block_pool.block_size)
        return ""

    def _make_way(self, sequence: Sequence, draft: Flight) -> bool:
        """Whether an idle sequence was preempted for one that is not. Not while blocks are about to come back, and not
        if it is in this very batch."""
        if sequence.is_idle or not self._running or not self._running[-1].is_idle:
            return False
        if self._running[-1].last_batch_id == draft.batch_id:
            return False
        if any(flight.tables for flight in self._in_flight.values()):
            return False
        self._preempt(self._running.pop())
        return True

    def _allocate_prefix(self, sequence: Sequence) -> bool:
        """Blocks for all tokens of a waiting sequence and the next one, shared as far as they are cached; or none."""
        pool = self.block_pool
        if sequence.seq_id == self._refused[0] and pool.num_available < self._refused[1]:
            return False  # the search below costs as much as the prompt is long: not at every step
        shared: list[int] = []
        if self._enable_prefix_caching and sequence.use_prefix_cache:
            # At least one token is computed: its logits are what the sequence is here for.
            max_blocks = (len(sequence.token_ids) - 1) // pool.block_size
            shared = pool.find_prefix(sequence.token_ids, sequence.salt, max_blocks)
        num_blocks = pool.blocks_for(len(sequence.token_ids) + 1)
        num_needed = num_blocks - sum(pool.num_references(block_id) > 0 for block_id in shared)
        if num_needed > pool.num_available:
            self._refused = (sequence.seq_id, num_needed)
            return False
        pool.acquire(shared)
        sequence.block_ids = shared + pool.allocate(num_blocks - len(shared))
        sequence.block_table = None
        sequence.num_published_blocks = len(shared)
        sequence.num_scheduled_tokens = sequence.num_computed_tokens = len(shared) * pool.block_size
        sequence.publishes = self._enable_prefix_caching
        return True

    def _publish(self, sequence: Sequence) -> None:
        """Puts blocks that have become full into the prefix cache; where an equal one is there, uses that one."""
        block_size = self.block_pool.block_size
        num_full = sequence.num_computed_tokens // block_size
        while sequence.publishes and sequence.num_published_blocks < num_full:
            index = sequence.num_published_blocks
            own = sequence.block_ids[index]
            parent = sequence.block_ids[index - 1] if index else None
            token_ids = sequence.token_ids[index * block_size : (index + 1) * block_size]
            published = self.block_pool.publish(own, parent, token_ids, sequence.salt)
            if published != own:
                sequence.block_ids[index] = published
                sequence.block_table = None
                self._release(sequence, [own])
            sequence.num_published_blocks += 1

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the queue, at its rank; all is computed again, except what the prefix cache still has by then."""
        self._give_up_blocks(sequence)
        sequence.num_scheduled_tokens = sequence.num_computed_tokens = sequence.num_published_blocks = 0
        sequence.num_preemptions += 1
        self.stats.num_preemptions += 1
        sequence.status = SequenceStatus.WAITING
        insort(self._waiting, sequence, key=_rank)

    def _end(self, sequence: Sequence, reason: FinishReason) -> None:
        queue = self._running if sequence.status is SequenceStatus.RUNNING else self._waiting
        del queue[bisect_left(queue, sequence.rank, key=_rank)]
        del self._sequences[sequence.seq_id]
        self._give_up_blocks(sequence)
        sequence.status = SequenceStatus.FINISHED
        sequence.finish_reason = reason

    def _give_up_blocks(self, sequence: Sequence) -> None:
        block_ids, sequence.block_ids, sequence.block_table = sequence.block_ids, [], None
        self._release(sequence, block_ids)

    def _release(self, sequence: Sequence, block_ids: list[int]) -> None:
        """At once, or with the last batch in flight that touches the sequence's blocks."""
        flight = self._in_flight.get(sequence.last_batch_id)
        if flight is None:
            self.block_pool.release(block_ids)
        else:
            flight.tables.append(block_ids)
