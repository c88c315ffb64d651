"""Any order of adds, steps, cancels, finishes and failing rows, with drafts right and wrong, in pools so small that
preemption and eviction are the rule."""

from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farthing.scheduler.sequence import IDLE_PRIORITY, Sequence

from .invariants import check_idle, check_scheduler
from .virtual_executor import EOS, World, reference_output

BLOCK_SIZE = 4
PREFIXES = [[], [1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6, 1, 2, 3]]
tokens = st.integers(0, EOS)


class Requests(RuleBasedStateMachine):
    def __init__(self, depth: int, max_tokens_in_flight: int) -> None:
        super().__init__()
        self.depth = depth
        self.max_tokens_in_flight = max_tokens_in_flight
        self.world: World | None = None

    @initialize(
        num_blocks=st.integers(5, 10),
        max_num_seqs=st.integers(2, 6),
        spare_tokens=st.integers(0, 16),
        caching=st.sampled_from([True, True, True, False]),
        max_drafts=st.sampled_from([0, 1, 2, 5, 9]),
    )
    def start(self, num_blocks: int, max_num_seqs: int, spare_tokens: int, caching: bool, max_drafts: int) -> None:
        self.world = World(
            num_blocks=num_blocks,
            block_size=BLOCK_SIZE,
            max_num_seqs=max_num_seqs,
            max_batch_tokens=max_num_seqs + spare_tokens,
            depth=self.depth,
            max_tokens_in_flight=self.max_tokens_in_flight,
            enable_prefix_caching=caching,
            max_drafts=0 if self.max_tokens_in_flight else max_drafts,
        )

    @rule(
        prefix=st.sampled_from(PREFIXES),
        tail=st.lists(tokens, min_size=1, max_size=4),
        max_output_tokens=st.sampled_from([1, 2, 9, 16, 24]),
        min_output_tokens=st.integers(0, 2),
        ignore_eos=st.sampled_from([True, True, False]),
        priority=st.sampled_from([0, 0, 1, 2, IDLE_PRIORITY]),
        salt=st.sampled_from(["", "", "other"]),
        use_prefix_cache=st.sampled_from([True, True, False]),
    )
    def add(
        self,
        prefix: list[int],
        tail: list[int],
        max_output_tokens: int,
        min_output_tokens: int,
        ignore_eos: bool,
        priority: int,
        salt: str,
        use_prefix_cache: bool,
    ) -> None:
        prompt = (prefix + tail)[: self.world.scheduler.block_pool.num_blocks * BLOCK_SIZE - 1]
        self.world.add(
            prompt,
            max_output_tokens=max_output_tokens,
            eos_token_ids=frozenset({EOS}),
            min_output_tokens=min_output_tokens,
            ignore_eos=ignore_eos,
            priority=priority,
            salt=salt,
            use_prefix_cache=use_prefix_cache,
        )

    @rule(times=st.sampled_from([1, 2, 8]))
    def step(self, times: int) -> None:
        for _ in range(times):
            self.world.step()
            check_scheduler(self.world)

    @rule()
    def submit_without_collecting(self) -> None:
        executor = self.world.executor
        if executor.in_flight < executor.depth and (batch := self.world.scheduler.schedule(self.world.clock.now())):
            executor.submit(batch)

    @rule(seconds=st.floats(0.0, 60.0))
    def let_time_pass(self, seconds: float) -> None:
        self.world.clock.advance_to(self.world.clock.now() + seconds)

    @precondition(lambda self: self.world and self.world.scheduler.has_unfinished)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self._end(data.draw(st.sampled_from(self._unfinished())), "cancelled")

    @precondition(lambda self: self.world and self.world.scheduler.has_unfinished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self._end(data.draw(st.sampled_from(self._unfinished())), "stop")

    @precondition(lambda self: self.world and self.world.scheduler.has_unfinished)
    @rule(data=st.data())
    def let_the_next_row_of_one_fail(self, data: st.DataObject) -> None:
        self.world.executor.failing.add(data.draw(st.sampled_from(self._unfinished())))

    @rule()
    def reset_prefix_cache(self) -> None:
        self.world.scheduler.reset_prefix_cache()

    @invariant()
    def all_is_sound(self) -> None:
        if self.world:
            check_scheduler(self.world)

    def teardown(self) -> None:
        if self.world is None:
            return
        unfinished = [self.world.sequences[seq_id] for seq_id in self._unfinished()]
        work = sum(sequence.num_prompt_tokens + sequence.max_output_tokens for sequence in unfinished)
        self.world.run(max_steps=self.depth + 1 + work * (1 + len(unfinished)))
        check_scheduler(self.world)
        check_idle(self.world)
        for sequence in self.world.sequences.values():
            self._check_output(sequence)
        num_failed = sum(sequence.finish_reason == "error" for sequence in self.world.sequences.values())
        assert self.world.scheduler.stats.num_failed == num_failed

    def _unfinished(self) -> list[int]:
        return [seq_id for seq_id, sequence in self.world.sequences.items() if sequence.finish_reason is None]

    def _end(self, seq_id: int, reason: str) -> None:
        scheduler = self.world.scheduler
        assert scheduler.cancel(seq_id) if reason == "cancelled" else scheduler.finish(seq_id)
        assert not scheduler.cancel(seq_id) and not scheduler.finish(seq_id)
        assert self.world.sequences[seq_id].finish_reason == reason

    def _check_output(self, sequence: Sequence) -> None:
        alone = reference_output(
            sequence.token_ids[: sequence.num_prompt_tokens],
            sequence.max_output_tokens,
            sequence.ending_token_ids,
            sequence.min_output_tokens,
        )
        ended_by_itself = sequence.finish_reason == "length" or sequence.stop_token is not None
        assert sequence.output_ids == (alone if ended_by_itself else alone[: sequence.num_output_tokens])


@pytest.mark.parametrize("max_tokens_in_flight", [0, 1])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_whatever_happens_no_block_is_lost_every_request_ends_and_its_output_is_its_own(
    depth: int, max_tokens_in_flight: int
) -> None:
    run_state_machine_as_test(
        partial(Requests, depth, max_tokens_in_flight),
        settings=settings(max_examples=150, stateful_step_count=50),
    )
