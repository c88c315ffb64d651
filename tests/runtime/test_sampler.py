"""Sampling against the logits processors of transformers, against formulas and against chance; rows that do not know
each other; log-probabilities."""

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from farthing.runtime.sampler import RequestState, _adjusted, _filtered, _tempered, sample, token_logprobs
from farthing.sampling_params import SamplingParams

GREEDY = SamplingParams(temperature=0.0)


def normal(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def state_of(
    params: SamplingParams,
    *,
    seed: int = 0,
    sample_index: int = 0,
    prompt: Sequence[int] = (),
    outputs: Sequence[int] = (),
    stop_ids: frozenset[int] = frozenset(),
) -> RequestState:
    state = RequestState(params, seed=seed, sample_index=sample_index, prompt_ids=prompt, stop_ids=stop_ids)
    for token_id in outputs:
        state.saw(token_id)
    return state


def draws(logits_V: torch.Tensor, state: RequestState, count: int) -> list[int]:
    """The tokens of one sequence at output indices 0..count-1, were the logits always these."""
    return sample(logits_V.expand(count, -1), [state] * count, range(count))


def probabilities(logits_V: torch.Tensor, state: RequestState, output_index: int = 0) -> torch.Tensor:
    return _filtered(_tempered(_adjusted(logits_V, state, output_index), state.params), state.params).softmax(-1)


# --- greedy


@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize("vocab_size", [1, 2, 7, 320, 100_003])
def test_of_equal_logits_the_lowest_id_wins(num_rows: int, vocab_size: int) -> None:
    chance = random.Random(vocab_size)
    for _ in range(10):
        tied = sorted(chance.sample(range(vocab_size), min(vocab_size, 5)))
        logits_RV = normal(num_rows, vocab_size)
        logits_RV[:, tied] = 100.0
        assert sample(logits_RV, [state_of(GREEDY)] * num_rows, [0] * num_rows) == [tied[0]] * num_rows
        biased = state_of(SamplingParams(temperature=0.0, logit_bias={tied[-1]: 0.0}))  # the other path
        assert sample(logits_RV, [biased] * num_rows, [0] * num_rows) == [tied[0]] * num_rows


def test_sampling_leaves_the_logits_as_they_were() -> None:
    logits_RV = normal(2, 50)
    before = logits_RV.clone()
    params = SamplingParams(top_k=5, top_p=0.5, min_p=0.1, repetition_penalty=2.0, logit_bias={3: 9.0}, min_tokens=9)
    state = state_of(params, prompt=[1, 2], outputs=[3], stop_ids=frozenset([4]))
    sample(logits_RV, [state, state], [0, 1])
    assert torch.equal(logits_RV, before)


# --- transformers

CHOICES = {
    "temperature": (0.3, 1.0, 1.7),
    "top_k": (None, 1, 2, 20, 1000),
    "top_p": (0.01, 0.3, 0.9, 1.0),
    "min_p": (0.0, 0.02, 0.5, 1.0),
    "repetition_penalty": (0.7, 1.0, 1.3),
}


def their_processors(params: SamplingParams) -> LogitsProcessorList:
    """In the order in which transformers' generate applies them."""
    processors = LogitsProcessorList()
    if params.repetition_penalty != 1.0:
        processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    processors.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k is not None:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1.0:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.min_p > 0.0:
        processors.append(MinPLogitsWarper(params.min_p))
    return processors


@pytest.mark.parametrize("seed", range(60))
def test_survivors_and_their_probabilities_are_those_of_transformers(seed: int) -> None:
    chance = random.Random(seed)
    params = SamplingParams(**{name: chance.choice(values) for name, values in CHOICES.items()})  # type: ignore[arg-type]
    vocab_size = chance.choice((2, 33, 500))
    history = [chance.randrange(vocab_size) for _ in range(12)]
    logits_V = normal(vocab_size, seed=seed)
    expected = their_processors(params)(torch.tensor([history]), logits_V[None].clone())[0].softmax(-1)
    found = probabilities(logits_V, state_of(params, prompt=history[:5], outputs=history[5:]))
    assert torch.equal(found > 0, expected > 0)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["top_k", "top_p", "min_p", "repetition_penalty"])
def test_each_filter_by_itself_is_that_of_transformers(name: str) -> None:
    for seed, value in enumerate(CHOICES[name]):
        params, logits_V, history = SamplingParams(**{name: value}), normal(200, seed=seed), [3, 5, 3]
        expected = their_processors(params)(torch.tensor([history]), logits_V[None].clone())[0].softmax(-1)
        found = probabilities(logits_V, state_of(params, prompt=history))
        assert torch.equal(found > 0, expected > 0) and torch.allclose(found, expected, rtol=1e-5, atol=1e-7)


# --- formulas


def test_presence_and_frequency_are_subtracted_for_the_tokens_of_the_output() -> None:
    logits_V = normal(10)
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=-0.25)
    found = _adjusted(logits_V, state_of(params, prompt=[1, 1, 2], outputs=[2, 7, 7, 7]), 4)
    expected = logits_V.clone()
    expected[2] -= 0.5 - 0.25 * 1
    expected[7] -= 0.5 - 0.25 * 3
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_repetition_divides_what_is_above_zero_and_multiplies_what_is_below_once_for_each_token() -> None:
    logits_V = torch.tensor([2.0, -2.0, 2.0, -2.0, 0.0])
    state = state_of(SamplingParams(repetition_penalty=2.0), prompt=[0, 0, 1], outputs=[1, 4, 4])
    assert _adjusted(logits_V, state, 3).tolist() == [1.0, -4.0, 2.0, -2.0, 0.0]


def test_a_bias_is_added_and_can_force_and_forbid() -> None:
    logits_V = normal(30)
    best = int(logits_V.argmax())
    state = state_of(SamplingParams(logit_bias={4: 1.5, 9: -2.0}))
    expected = logits_V.clone()
    expected[4] += 1.5
    expected[9] -= 2.0
    assert torch.equal(_adjusted(logits_V, state, 0), expected)
    assert set(draws(logits_V, state_of(SamplingParams(logit_bias={7: 100.0})), 50)) == {7}
    assert best not in draws(logits_V, state_of(SamplingParams(logit_bias={best: -100.0})), 200)
    assert sample(logits_V[None], [state_of(SamplingParams(temperature=0.0, logit_bias={7: 100.0}))], [0]) == [7]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_no_stop_token_is_drawn_before_min_tokens(temperature: float) -> None:
    logits_V = torch.zeros(8)
    logits_V[[2, 5]] = 50.0
    params = SamplingParams(temperature=temperature, min_tokens=30)
    tokens = draws(logits_V, state_of(params, stop_ids=frozenset([2, 5, 10**6])), 60)  # one beyond the vocabulary
    assert not {2, 5} & set(tokens[:30]) and set(tokens[30:]) <= {2, 5}


def test_min_tokens_is_masked_before_top_k_and_so_leaves_something_to_draw() -> None:
    logits_V = torch.tensor([1.0, 5.0, 3.0, 0.0])
    state = state_of(SamplingParams(top_k=1, min_tokens=1), stop_ids=frozenset([1]))
    assert draws(logits_V, state, 2) == [2, 1]


@given(st.floats(5e-324, 1e-4), st.integers(0, 1000))
def test_the_smallest_temperatures_draw_the_largest_logit(temperature: float, seed: int) -> None:
    logits_V = normal(50, seed=seed, scale=30.0)
    assert draws(logits_V, state_of(SamplingParams(temperature=temperature)), 3) == [int(logits_V.argmax())] * 3


@given(st.floats(1e-300, 1e-6), st.integers(1, 1000))
def test_the_smallest_top_p_and_the_largest_min_p_keep_the_largest_logit(top_p: float, seed: int) -> None:
    logits_V = normal(50, seed=seed)
    for params in (SamplingParams(top_p=top_p), SamplingParams(min_p=1.0), SamplingParams(top_k=1)):
        assert draws(logits_V, state_of(params), 3) == [int(logits_V.argmax())] * 3


# --- chance


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, 43.8),  # 19 degrees of freedom, the 0.1 % point of chi-square
        ({"temperature": 2.5}, 43.8),
        ({"top_k": 5}, 18.5),
        ({"top_p": 0.6, "temperature": 1.5}, 43.8),
        ({"min_p": 0.2}, 43.8),
    ],
    ids=str,
)
def test_many_draws_are_distributed_as_the_softmax_says(options: dict[str, float], limit: float) -> None:
    count, logits_V = 2500, normal(20, seed=3, scale=1.0)
    state = state_of(SamplingParams(**options), seed=1234)  # type: ignore[arg-type]
    expected = probabilities(logits_V, state).double() * count
    found = torch.bincount(torch.tensor(draws(logits_V, state, count)), minlength=20)
    possible = expected > 0
    assert not found[~possible].any()
    assert float(((found - expected)[possible] ** 2 / expected[possible]).sum()) < limit


def test_a_token_of_probability_zero_is_never_drawn_at_either_end() -> None:
    logits_V = torch.full((6,), float("-inf"))
    logits_V[[2, 3]] = 0.0
    assert set(draws(logits_V, state_of(SamplingParams()), 300)) == {2, 3}


# --- rows


def test_a_rows_token_depends_neither_on_its_batch_nor_on_its_place() -> None:
    chance = random.Random(0)
    logits_RV = normal(24, 101)
    states, indices = [], []
    for row in range(24):
        choices = {name: chance.choice(values) for name, values in CHOICES.items()}
        choices["temperature"] = chance.choice((0.0, 0.7, 1.0))
        params = SamplingParams(**choices, min_tokens=row % 3, logit_bias={row: 2.0} if row % 2 else {})  # type: ignore[arg-type]
        states.append(state_of(params, seed=row * 2**40, prompt=[row, 3], outputs=[7], stop_ids=frozenset([1])))
        indices.append(row % 5)
    together = sample(logits_RV, states, indices)
    alone = [sample(logits_RV[row : row + 1], [states[row]], [indices[row]])[0] for row in range(24)]
    assert together == alone
    order = chance.sample(range(24), 24)
    turned = sample(logits_RV[order], [states[row] for row in order], [indices[row] for row in order])
    assert turned == [together[row] for row in order]


def test_seed_sample_and_index_decide_and_nothing_else() -> None:
    logits_V, params = torch.zeros(1000), SamplingParams()
    first = draws(logits_V, state_of(params, seed=5), 8)
    assert draws(logits_V, state_of(params, seed=5), 8) == first
    assert first[3:] == sample(logits_V.expand(5, -1), [state_of(params, seed=5)] * 5, range(3, 8))
    others = [state_of(params, seed=6), state_of(params, seed=5 + 2**32), state_of(params, seed=5, sample_index=1)]
    assert len({tuple(draws(logits_V, state, 8)) for state in others} | {tuple(first)}) == 4


@pytest.mark.parametrize("seed", [2**64 - 1, -(2**63), 2**63, -1])
def test_every_seed_that_is_accepted_draws(seed: int) -> None:
    params = SamplingParams(seed=seed)
    assert len(set(draws(torch.zeros(1000), state_of(params, seed=seed), 5))) > 1


# --- log-probabilities


def test_logprobs_are_the_log_softmax_with_rank_and_the_most_likely_tokens() -> None:
    logits_V = normal(100)
    expected = logits_V.double().log_softmax(-1)
    order = expected.argsort(descending=True).tolist()
    for rank in (1, 2, 57, 100):
        found = token_logprobs(logits_V, order[rank - 1], 5)
        assert (found.token_id, found.rank) == (order[rank - 1], rank)
        assert found.logprob == pytest.approx(float(expected[order[rank - 1]]), rel=1e-5)
        assert [token_id for token_id, _ in found.top] == order[:5]
        assert [value for _, value in found.top] == pytest.approx(expected[order[:5]].tolist(), rel=1e-5)


def test_equally_likely_tokens_share_a_rank_and_are_listed_by_id() -> None:
    logits_V = torch.tensor([0.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    assert [token_id for token_id, _ in token_logprobs(logits_V, 3, 6).top] == [1, 3, 5, 2, 4, 0]
    assert [token_logprobs(logits_V, token_id, 0).rank for token_id in range(6)] == [6, 1, 4, 1, 4, 1]


def test_no_alternatives_and_more_than_there_are_tokens_are_both_fine() -> None:
    assert token_logprobs(normal(4), 2, 0).top == ()
    assert len(token_logprobs(normal(4), 2, 20).top) == 4
