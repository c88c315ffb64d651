"""When a sequence ends, by token id and by count."""

from farthing.scheduler.sequence import Sequence


def test_an_end_token_ends_a_sequence_and_stays_in_its_output() -> None:
    sequence = Sequence(0, [1, 2], max_output_tokens=9, eos_token_ids=frozenset({7}))
    assert sequence.append(3) is None
    assert sequence.append(7) == "stop"
    assert sequence.stop_token == 7
    assert sequence.output_ids == [3, 7]


def test_ignore_eos_leaves_the_stop_tokens_of_the_request_in_force() -> None:
    sequence = Sequence(
        0, [1], max_output_tokens=9, eos_token_ids=frozenset({7}), stop_token_ids=frozenset({5}), ignore_eos=True
    )
    assert sequence.append(7) is None
    assert sequence.append(5) == "stop"


def test_an_end_token_before_the_minimum_is_a_token_like_any_other() -> None:
    sequence = Sequence(0, [1], max_output_tokens=9, eos_token_ids=frozenset({7}), min_output_tokens=2)
    assert [sequence.append(7), sequence.append(7)] == [None, None]
    assert sequence.stop_token is None
    assert sequence.append(7) == "stop"


def test_the_last_allowed_token_ends_by_length_unless_it_is_an_end_token() -> None:
    by_length = Sequence(0, [1], max_output_tokens=1, eos_token_ids=frozenset({7}))
    by_stop = Sequence(1, [1], max_output_tokens=1, eos_token_ids=frozenset({7}))
    assert by_length.append(3) == "length" and by_length.stop_token is None
    assert by_stop.append(7) == "stop"


def test_end_tokens_of_the_prompt_do_not_count() -> None:
    sequence = Sequence(0, iter([7, 7]), max_output_tokens=9, eos_token_ids=frozenset({7}))
    assert sequence.num_prompt_tokens == 2 and sequence.output_ids == []
    assert sequence.append(1) is None
