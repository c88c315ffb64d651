"""An executor without a model: it writes into a KV cache what a model's would depend on, and reads all of it back.

A slot holds (salt, the whole prefix up to its position) by value, and each step reads the context of each item through
its block table. So a block that was shared, recycled, swapped or released wrongly is an assertion at once. The next
token is a pure function of the context, so outputs must not depend on batching, caching or preemption.
A sequence in `failing` fails when it is next drawn from, and what its step wrote must never be read by another.
"""

import zlib
from collections import deque

from farthing.scheduler.batch import PENDING_TOKEN, Batch, BatchItem, Done
from farthing.scheduler.drafts import Drafter
from farthing.scheduler.loop import VirtualClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence

VOCABULARY = 8
EOS = 7


def next_token(context: list[int]) -> int:
    return zlib.crc32(bytes(context)) % VOCABULARY


def reference_output(prompt: list[int], max_tokens: int, ending: frozenset[int], min_tokens: int = 0) -> list[int]:
    """What a request yields when it is alone in the world: one token after the other, no cache, no batch."""
    output: list[int] = []
    while len(output) < max_tokens:
        output.append(next_token(prompt + output))
        if output[-1] in ending and len(output) > min_tokens:
            break
    return output


class Guesser(Drafter):
    """Knows what comes next, and is wrong about every third token."""

    def acceptance(self) -> float:
        return 1.0

    def drafts(self, num_tokens: int) -> tuple[int, ...]:
        context = list(self._token_ids)
        for _ in range(num_tokens):
            is_wrong = zlib.crc32(bytes([1, *context])) % 3 == 0
            context.append((next_token(context) + is_wrong) % VOCABULARY)
        return tuple(context[len(self._token_ids) :])


class Always:
    """So many drafts, whatever they bring."""

    def __init__(self, num_drafts: int) -> None:
        self._num_drafts = num_drafts

    def num_drafts(self, num_sequences: int, acceptance: float) -> int:
        return self._num_drafts


class VirtualExecutor:
    def __init__(self, *, num_blocks: int, block_size: int, depth: int, clock: VirtualClock) -> None:
        self.depth = depth
        self.batches: list[Batch] = []  # every batch ever submitted
        self.num_sampled_tokens = 0
        self.failing: set[int] = set()  # sequences that fail when they are drawn from
        self._failed: set[int] = set()
        self._poison = 0
        self._block_size = block_size
        self._clock = clock
        self._finished_at = 0.0
        self._kv: list[list[object]] = [[None] * block_size for _ in range(num_blocks)]
        self._texts: dict[int, tuple[str, int, list[int]]] = {}  # salt, prompt tokens, all tokens, drawn ones included
        self._flying: deque[Done] = deque()

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    @property
    def batches_in_flight(self) -> list[Batch]:
        return [done.batch for done in self._flying]

    def know(self, sequence: Sequence) -> None:
        """The text that this executor will hold all items of the sequence against."""
        self._texts[sequence.seq_id] = (sequence.salt, sequence.num_prompt_tokens, list(sequence.token_ids))

    def submit(self, batch: Batch) -> None:
        """Executes at once, in order; tokens and finish time are handed out by `collect`."""
        assert self.in_flight < self.depth and batch.items
        assert len({item.seq_id for item in batch.items}) == len(batch.items)
        self.batches.append(batch)
        self._check_that_nobody_else_touches_what_is_written(batch)
        tokens: dict[int, int] = {}
        failed: dict[int, str] = {}
        num_accepted: dict[int, int] = {}
        for item in batch.items:
            salt, num_prompt_tokens, known = self._texts[item.seq_id]
            text = known + _drafts(item)
            end = item.start + len(item.token_ids)
            assert len(item.block_ids) == -(-end // self._block_size) == len(set(item.block_ids))
            assert item.samples == (end == len(text))
            assert item.samples or not item.num_drafts
            assert item.output_index == len(known) - num_prompt_tokens
            if item.token_ids == (PENDING_TOKEN,):
                flying = [item.seq_id in done.token_ids or item.seq_id in done.failed for done in self._flying]
                assert any(flying), "a token is called pending though it has been collected"
            else:
                assert list(item.token_ids) == text[item.start : end]
            for position in range(item.start, end):
                slot = item.block_ids[position // self._block_size], position % self._block_size
                self._kv[slot[0]][slot[1]] = (salt, tuple(text[: position + 1]))
        for item in batch.items:  # like a kernel: all rows are written, then attention reads
            salt, _, known = self._texts[item.seq_id]
            text = known + _drafts(item)
            num_read = 0 if item.seq_id in self._failed else item.start + len(item.token_ids)
            for position in range(num_read):
                block_id, offset = item.block_ids[position // self._block_size], position % self._block_size
                assert self._kv[block_id][offset] == (salt, tuple(text[: position + 1]))
            if item.samples and item.seq_id in self.failing:
                failed[item.seq_id] = f"sequence {item.seq_id} failed"
                self._failed.add(item.seq_id)
                self._spoil(item)
            elif item.samples:
                drawn = _drawn(known, _drafts(item))
                tokens[item.seq_id], num_accepted[item.seq_id] = drawn[-1], len(drawn) - 1
                self.num_sampled_tokens += len(drawn)
                known += drawn
        for seq_id in failed:
            self._texts[seq_id][2].append(EOS)  # it goes on with anything, if it was scheduled again meanwhile
        self._finished_at = max(self._finished_at, self._clock.now()) + 0.01 + 0.001 * batch.shape.num_tokens
        self._flying.append(Done(batch, tokens, self._finished_at, failed, num_accepted))

    def collect(self) -> Done:
        return self._flying.popleft()

    def _spoil(self, item: BatchItem) -> None:
        """What the failing step wrote is what no text says; each value once, so that equality finds it."""
        for position in range(item.start, item.start + len(item.token_ids)):
            self._poison += 1
            self._kv[item.block_ids[position // self._block_size]][position % self._block_size] = self._poison

    def _check_that_nobody_else_touches_what_is_written(self, batch: Batch) -> None:
        touched = [(item.seq_id, item.block_ids) for b in (*self.batches_in_flight, batch) for item in b.items]
        for item in batch.items:
            written = set(item.block_ids[item.start // self._block_size :])
            for seq_id, block_ids in touched:
                assert seq_id == item.seq_id or written.isdisjoint(block_ids)


def _drafts(item: BatchItem) -> list[int]:
    return list(item.token_ids[len(item.token_ids) - item.num_drafts :])


def _drawn(known: list[int], drafts: list[int]) -> list[int]:
    """What is drawn behind a text, and behind every draft as long as it is what was drawn."""
    drawn = [next_token(known)]
    for draft in drafts:
        if draft != drawn[-1]:
            break
        drawn.append(next_token(known + drawn))
    return drawn


class World:
    """A scheduler, its executor and its clock, as the tests drive them."""

    def __init__(
        self,
        *,
        num_blocks: int = 64,
        block_size: int = 4,
        max_num_seqs: int = 8,
        max_batch_tokens: int = 64,
        max_model_len: int = 1000,
        depth: int = 1,
        max_tokens_in_flight: int = 0,
        enable_prefix_caching: bool = True,
        aging_seconds: float = 30.0,
        max_drafts: int = 0,
    ) -> None:
        self.clock = VirtualClock()
        self.executor = VirtualExecutor(num_blocks=num_blocks, block_size=block_size, depth=depth, clock=self.clock)
        self.scheduler = Scheduler(
            num_blocks=num_blocks,
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            max_batch_tokens=max_batch_tokens,
            max_model_len=max_model_len,
            max_tokens_in_flight=max_tokens_in_flight,
            enable_prefix_caching=enable_prefix_caching,
            aging_seconds=aging_seconds,
            draft_policy=Always(max_drafts) if max_drafts else None,
        )
        self.sequences: dict[int, Sequence] = {}
        self.outputs: dict[int, list[int]] = {}  # what `step` returned

    def add(
        self,
        prompt: list[int],
        *,
        max_output_tokens: int = 4,
        eos_token_ids: frozenset[int] = frozenset(),
        stop_token_ids: frozenset[int] = frozenset(),
        min_output_tokens: int = 0,
        ignore_eos: bool = False,
        priority: int = 0,
        salt: str = "",
        use_prefix_cache: bool = True,
    ) -> Sequence:
        """A request that arrives now."""
        sequence = Sequence(
            len(self.sequences),
            prompt,
            max_output_tokens=max_output_tokens,
            eos_token_ids=eos_token_ids,
            stop_token_ids=stop_token_ids,
            min_output_tokens=min_output_tokens,
            ignore_eos=ignore_eos,
            priority=priority,
            salt=salt,
            arrival_time=self.clock.now(),
            use_prefix_cache=use_prefix_cache,
        )
        sequence.drafter = Guesser(sequence.token_ids)
        self.scheduler.add(sequence)
        self.executor.know(sequence)
        self.sequences[sequence.seq_id] = sequence
        self.outputs[sequence.seq_id] = []
        return sequence

    def step(self) -> None:
        reasons: dict[int, str | None] = {}
        for output in step(self.scheduler, self.executor, self.clock):
            assert reasons.get(output.seq_id) is None, "nothing comes behind the end"
            assert (output.token_id is None) == (output.finish_reason == "error") == bool(output.error)
            if output.token_id is not None:
                self.outputs[output.seq_id].append(output.token_id)
            reasons[output.seq_id] = output.finish_reason
        for seq_id, reason in reasons.items():
            assert self.sequences[seq_id].finish_reason == reason

    def run(self, max_steps: int = 1000) -> None:
        """Until all is done and nothing is in flight; fails if that takes too long."""
        for _ in range(max_steps):
            if not self.scheduler.has_unfinished and not self.executor.in_flight:
                return
            self.step()
        raise AssertionError(f"not done after {max_steps} steps")

    def last_items(self) -> list[tuple[int, int, int]]:
        """(seq_id, start, number of tokens) of the newest batch."""
        return [(item.seq_id, item.start, len(item.token_ids)) for item in self.executor.batches[-1].items]
