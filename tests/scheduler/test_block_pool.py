"""The block pool by itself: states of a block, finding by value, eviction in order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from farthing.scheduler.block_pool import BlockPool

from .invariants import check_pool


def publish_chain(pool: BlockPool, token_ids: list[int], salt: str = "") -> list[int]:
    """Allocates and publishes the full blocks of a text; the caller holds them."""
    table = pool.allocate(len(token_ids) // pool.block_size)
    for index in range(len(table)):
        part = token_ids[index * pool.block_size : (index + 1) * pool.block_size]
        assert pool.publish(table[index], table[index - 1] if index else None, part, salt) == table[index]
    return table


def test_blocks_are_given_once_and_come_back() -> None:
    pool = BlockPool(4, 2)
    table = pool.allocate(3)
    assert sorted(table + pool.allocate(1)) == [0, 1, 2, 3] and pool.num_available == 0
    pool.release(table)
    assert pool.num_available == 3


def test_more_blocks_than_available_or_a_second_release_is_our_own_bug() -> None:
    pool = BlockPool(2, 2)
    with pytest.raises(AssertionError):
        pool.allocate(3)
    table = pool.allocate(1)
    pool.release(table)
    with pytest.raises(AssertionError):
        pool.release(table)


def test_a_published_prefix_is_found_up_to_the_first_difference() -> None:
    pool = BlockPool(4, 2)
    table = publish_chain(pool, [1, 2, 3, 4, 5, 6])
    assert pool.find_prefix([1, 2, 3, 4, 5, 6, 7], "", 3) == table
    assert pool.find_prefix([1, 2, 3, 4, 5, 0, 7], "", 3) == table[:2]
    assert pool.find_prefix([0, 2, 3, 4, 5, 6, 7], "", 3) == []
    assert pool.find_prefix([1, 2, 3, 4, 5, 6, 7], "", 2) == table[:2]


def test_the_same_tokens_after_another_parent_are_another_block() -> None:
    pool = BlockPool(4, 2)
    publish_chain(pool, [1, 1, 5, 5])
    other = publish_chain(pool, [2, 2, 5, 5])
    assert pool.find_prefix([2, 2, 5, 5], "", 2) == other


def test_another_salt_finds_nothing() -> None:
    pool = BlockPool(4, 2)
    publish_chain(pool, [1, 2], salt="mine")
    assert pool.find_prefix([1, 2], "yours", 1) == []
    assert pool.find_prefix([1, 2], "mine", 1) != []


def test_keys_whose_hashes_collide_do_not_match() -> None:
    assert hash(-1) == hash(-2), "CPython's own collision; token ids are never negative, but a hash could be anything"
    pool = BlockPool(4, 2)
    publish_chain(pool, [-1, -1])
    assert hash((-1, -1)) == hash((-2, -2)) and pool.find_prefix([-2, -2], "", 1) == []


def test_a_recycled_block_does_not_lead_to_the_children_of_what_it_held_before() -> None:
    pool = BlockPool(2, 2)
    first, second = publish_chain(pool, [1, 2, 3, 4])
    pool.release([first, second])
    recycled = pool.allocate(2)  # evicts both
    pool.publish(recycled[0], None, [1, 2], "")
    assert pool.find_prefix([1, 2, 3, 4], "", 2) == recycled[:1]


def test_the_identity_of_a_block_is_never_used_again() -> None:
    pool = BlockPool(1, 2)
    identities = set()
    for token in range(5):
        table = publish_chain(pool, [token, token])
        identities.add(pool._serial_of[table[0]])
        pool.release(table)
    pool.forget()
    identities.add(pool._serial_of[publish_chain(pool, [0, 0])[0]])
    assert len(identities) == 6


def test_free_blocks_go_first_then_the_kept_ones_least_recently_used_and_children_before_parents() -> None:
    pool = BlockPool(5, 2)
    old = publish_chain(pool, [1, 1, 2, 2])
    new = publish_chain(pool, [3, 3, 4, 4])
    pool.release(old)
    pool.release(new)
    pool.acquire(old)
    pool.release(old)  # used again, so that it is the newer one now
    assert pool.allocate(1) == [4]
    assert pool.allocate(4) == [new[1], new[0], old[1], old[0]]


def test_a_held_block_is_never_evicted() -> None:
    pool = BlockPool(2, 2)
    held, kept = publish_chain(pool, [1, 1]), publish_chain(pool, [2, 2])
    pool.release(kept)
    assert pool.num_available == 1 and pool.allocate(1) == kept
    assert pool.find_prefix([1, 1], "", 1) == held


def test_publishing_a_value_that_is_there_gives_the_block_that_has_it() -> None:
    pool = BlockPool(4, 2)
    first = publish_chain(pool, [1, 2])
    own = pool.allocate(1)
    assert pool.publish(own[0], None, [1, 2], "") == first[0]
    assert pool.num_references(first[0]) == 2 and pool.num_cached == 1


def test_after_forget_nothing_is_found_and_held_blocks_become_free_when_released() -> None:
    pool = BlockPool(4, 2)
    held, kept = publish_chain(pool, [1, 1]), publish_chain(pool, [2, 2])
    pool.release(kept)
    pool.forget()
    assert pool.find_prefix([1, 1], "", 1) == pool.find_prefix([2, 2], "", 1) == [] and pool.num_cached == 0
    check_pool(pool, [held])
    pool.release(held)
    check_pool(pool, [])


class Tables(RuleBasedStateMachine):
    """Holders that share, publish and leave; the model is the text that each block was published for."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(8, 2)
        self.tables: list[list[int]] = []
        self.value_of: dict[int, tuple[str, tuple[int, ...]]] = {}  # block id -> salt, whole prefix

    @rule(token_ids=st.lists(st.integers(0, 1), min_size=2, max_size=10), salt=st.sampled_from(["", "s"]))
    def enter(self, token_ids: list[int], salt: str) -> None:
        num_blocks = len(token_ids) // 2
        shared = self.pool.find_prefix(token_ids, salt, num_blocks)
        for index, block_id in enumerate(shared):
            assert self.value_of[block_id] == (salt, tuple(token_ids[: 2 * index + 2]))
        if num_blocks - sum(self.pool.num_references(block_id) > 0 for block_id in shared) > self.pool.num_available:
            return
        self.pool.acquire(shared)
        table = shared + self.pool.allocate(num_blocks - len(shared))
        for index in range(len(shared), num_blocks):
            end = 2 * index + 2
            own = table[index]
            table[index] = self.pool.publish(own, table[index - 1] if index else None, token_ids[end - 2 : end], salt)
            if table[index] != own:
                self.pool.release([own])
                assert self.value_of[table[index]] == (salt, tuple(token_ids[:end]))
            self.value_of[table[index]] = (salt, tuple(token_ids[:end]))
        self.tables.append(table)

    @rule(count=st.integers(1, 4))
    def take_unpublished(self, count: int) -> None:
        if count <= self.pool.num_available:
            self.tables.append(self.pool.allocate(count))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.pool.release(self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1))))

    @invariant()
    def every_block_is_accounted_for(self) -> None:
        check_pool(self.pool, self.tables)

    def teardown(self) -> None:
        for table in self.tables:
            self.pool.release(table)
        assert self.pool.num_available == 8


def test_no_order_of_sharing_publishing_and_leaving_loses_a_block_or_finds_a_wrong_one() -> None:
    run_state_machine_as_test(Tables, settings=settings(max_examples=100, stateful_step_count=40))
