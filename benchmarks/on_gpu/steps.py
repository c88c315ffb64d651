"""Steps of chosen shapes through the runner of a loaded engine, handed over as its scheduler would: inputs filled,
graphs replayed, tokens drawn, and as many steps on their way as the runner allows. Knows no scheduler and no prices.
"""

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from farthing.engine.engine import Engine
from farthing.runtime.sampler import RequestState
from farthing.sampling_params import SamplingParams
from farthing.scheduler.batch import PENDING_TOKEN, Batch, BatchItem, Done
from on_gpu.timing import Timed, device_seconds, synchronize

WARM_STEPS = 4
_FEWEST_STEPS, _MOST_STEPS = 8, 64
_GREEDY = SamplingParams(temperature=0.0)

Table = tuple[int, ...]


class Steps:
    """`max_batch_tokens`: of one step; longer prompts are computed in chunks of it."""

    def __init__(self, engine: Engine, max_batch_tokens: int) -> None:
        self._runner, self._device = engine.runner, engine.plan.device
        self._max_batch_tokens = max_batch_tokens
        self._vocab_size, self._num_blocks = engine.plan.spec.vocab_size, engine.plan.memory.num_blocks
        self._block_size = engine.runner.block_size
        self._random = random.Random(0)

    def has_room(self, batch: int, context: int) -> bool:
        return batch * self._blocks_of(context + WARM_STEPS + _MOST_STEPS + 1) <= self._num_blocks

    def fill(self, num_sequences: int, num_tokens: int, seconds: float) -> int:
        """Keys and values of random prompts, so that no step reads zeros, which takes a GPU less power: of how many
        sequences in so many seconds."""
        tables, begin = self._tables(num_sequences, num_tokens), time.perf_counter()
        with self._knowing(num_sequences):
            for seq_id, table in enumerate(tables):
                if time.perf_counter() - begin > seconds:
                    return seq_id
                for start, count in self._chunks(num_tokens):
                    self._finish(Batch(0, (self._item(seq_id, start, count, table, samples=False),)))
        return num_sequences

    def decode(self, batch: int, context: int, seconds: float) -> tuple[Timed, int]:
        """A step that follows others; and how many were timed, which takes about so many seconds."""
        tables = self._tables(batch, context + WARM_STEPS + _MOST_STEPS + 1)
        with self._knowing(batch):
            warm = self._timed_steps(tables, context, range(WARM_STEPS)) / WARM_STEPS
            num_steps = min(_MOST_STEPS, max(_FEWEST_STEPS, int(seconds / warm)))
            wall = self._timed_steps(tables, context, range(WARM_STEPS, WARM_STEPS + num_steps)) / num_steps
            step = self._decodes(tables, context, 0, known={})
            alone = device_seconds(
                self._device,
                lambda: self._runner.submit(step),
                lambda: self._runner.collect(),
                host_seconds=min(0.05, 2 * wall + 2e-3),
            )
        return Timed(wall, min(alone, wall)), num_steps

    def prefill(self, num_tokens: int) -> float:
        """Seconds of one prompt, its first token included."""
        (table,) = self._tables(1, num_tokens)
        batches = [
            Batch(index, (self._item(0, start, count, table, samples=start + count == num_tokens),))
            for index, (start, count) in enumerate(self._chunks(num_tokens))
        ]
        with self._knowing(1):
            synchronize(self._device)
            begin = time.perf_counter()
            for batch in batches:
                self._finish(batch)
            synchronize(self._device)
            return time.perf_counter() - begin

    def _timed_steps(self, tables: Sequence[Table], context: int, steps: Iterable[int]) -> float:
        """Of all of them, one behind the other."""
        runner = self._runner
        known: dict[int, int] = {}
        synchronize(self._device)
        begin = time.perf_counter()
        for step in steps:
            if runner.in_flight == runner.depth:
                known = _tokens(runner.collect())
            runner.submit(self._decodes(tables, context, step, known, is_pending=runner.in_flight > 0))
        while runner.in_flight:
            _tokens(runner.collect())
        synchronize(self._device)
        return time.perf_counter() - begin

    def _decodes(
        self, tables: Sequence[Table], context: int, step: int, known: dict[int, int], *, is_pending: bool = False
    ) -> Batch:
        def token(seq_id: int) -> int:
            return PENDING_TOKEN if is_pending else known.get(seq_id, 1)

        return Batch(
            step,
            tuple(
                BatchItem(seq_id, context + step, (token(seq_id),), table, True, step)
                for seq_id, table in enumerate(tables)
            ),
        )

    def _item(self, seq_id: int, start: int, count: int, table: Table, *, samples: bool) -> BatchItem:
        ids = tuple(self._random.randrange(self._vocab_size) for _ in range(count))
        return BatchItem(seq_id, start, ids, table[: self._blocks_of(start + count)], samples, 0)

    def _finish(self, batch: Batch) -> None:
        self._runner.submit(batch)
        _tokens(self._runner.collect())

    @contextmanager
    def _knowing(self, num_sequences: int) -> Iterator[None]:
        for seq_id in range(num_sequences):
            state = RequestState(_GREEDY, seed=0, sample_index=0, prompt_ids=(1,), stop_ids=frozenset())
            self._runner.add(seq_id, state, (1,))
        try:
            yield
        finally:
            while self._runner.in_flight:
                self._runner.collect()
            for seq_id in range(num_sequences):
                self._runner.remove(seq_id)

    def _tables(self, num_sequences: int, num_tokens: int) -> list[Table]:
        """Blocks for so many tokens of each."""
        num_blocks = self._blocks_of(num_tokens)
        return [tuple(range(index * num_blocks, (index + 1) * num_blocks)) for index in range(num_sequences)]

    def _blocks_of(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_size)

    def _chunks(self, num_tokens: int) -> list[tuple[int, int]]:
        """(start, tokens) of each."""
        size = self._max_batch_tokens
        return [(start, min(size, num_tokens - start)) for start in range(0, num_tokens, size)]


def _tokens(done: Done) -> dict[int, int]:
    """RuntimeError if the model computed no number for one."""
    for reason in done.failed.values():
        raise RuntimeError(reason)
    return dict(done.token_ids)
