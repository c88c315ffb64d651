"""BatchShape: its sums against counting one query and one key at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.ops.batch import BatchShape

SEQUENCES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=5)
WINDOWS = st.none() | st.integers(1, 70)


def seen_by(position: int, window: int | None) -> range:
    """The positions that the query at `position` attends to."""
    return range(0 if window is None else max(0, position + 1 - window), position + 1)


@given(SEQUENCES, WINDOWS)
def test_pairs_and_touched_positions_are_those_that_one_counts(
    sequences: list[tuple[int, int]], window: int | None
) -> None:
    batch = BatchShape.of(sequences)
    seen = [[seen_by(context + row, window) for row in range(new)] for new, context in sequences]
    assert batch.attended_pairs(window) == sum(len(keys) for rows in seen for keys in rows)
    assert batch.attended_tokens(window) == sum(len(set().union(*rows)) for rows in seen)


@given(SEQUENCES, st.integers(1, 70))
def test_a_window_as_long_as_every_sequence_is_no_window(sequences: list[tuple[int, int]], longer: int) -> None:
    batch = BatchShape.of(sequences)
    window = max(new + context for new, context in sequences) + longer - 1
    assert batch.attended_pairs(window) == batch.attended_pairs()
    assert batch.attended_tokens(window) == batch.attended_tokens()


@given(SEQUENCES, st.integers(1, 39), WINDOWS)
def test_a_chunked_prefill_attends_to_the_pairs_of_a_whole_one(
    sequences: list[tuple[int, int]], cut: int, window: int | None
) -> None:
    whole = BatchShape.of(sequences).attended_pairs(window)
    chunks = [
        part
        for new, context in sequences
        for part in ([(cut, context), (new - cut, context + cut)] if cut < new else [(new, context)])
    ]
    assert BatchShape.of(chunks).attended_pairs(window) == whole


@given(SEQUENCES)
def test_the_sums_do_not_depend_on_the_order(sequences: list[tuple[int, int]]) -> None:
    batch, turned = BatchShape.of(sequences), BatchShape.of(sequences[::-1])
    for sums in ("num_sequences", "num_tokens", "context_tokens", "num_logits"):
        assert getattr(batch, sums) == getattr(turned, sums)
    assert batch.attended_pairs(7) == turned.attended_pairs(7)


def test_prefill_and_decode_are_batches_like_any_other() -> None:
    assert BatchShape.prefill(7, batch=2) == BatchShape.of([(7, 0), (7, 0)])
    assert BatchShape.decode(9, batch=3) == BatchShape.of([(1, 9)] * 3)
    assert BatchShape.prefill(4).attended_pairs() == 10 and BatchShape.decode(9).attended_pairs() == 10


def test_one_row_a_sequence_leaves_through_the_head_unless_told_otherwise() -> None:
    assert BatchShape.of([(5, 0), (1, 8)]).num_logits == 2
    assert BatchShape.of([(5, 0), (1, 8)], num_logits=6).num_logits == 6
    assert BatchShape.of([(5, 0)], num_logits=0).num_logits == 0


@pytest.mark.parametrize("sequence", [(0, 5), (-1, 5), (3, -1)])
def test_a_sequence_without_new_tokens_or_with_negative_context_is_no_part_of_a_batch(
    sequence: tuple[int, int],
) -> None:
    with pytest.raises(ValueError, match="at least one new token"):
        BatchShape.of([(1, 0), sequence])
