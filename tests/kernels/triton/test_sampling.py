"""Sampling on the device draws the tokens that runtime/sampler.py draws, for any mix of wishes."""

import random
from collections.abc import Sequence

import pytest
import torch
from triton_kernels import launcher

from farthing.kernels.histories import NO_HISTORY, History
from farthing.kernels.philox import uniform
from farthing.kernels.triton.adjusting import adjusted, count_drawn, largest
from farthing.kernels.triton.sampling import sample
from farthing.kernels.wishes import Wishes
from farthing.runtime import sampler
from farthing.runtime.sampler import RequestState
from farthing.sampling_params import SamplingParams

CHOICES = {
    "temperature": (0.0, 0.3, 1.0, 1.7),
    "top_k": (None, 1, 2, 20, 10_000),
    "top_p": (0.01, 0.31, 0.9, 1.0),  # no p that equal shares of equal tokens could reach exactly
    "min_p": (0.0, 0.0, 0.02, 0.5),
}


def normal(*shape: int, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def state_of(params: SamplingParams, seed: int = 0, sample_index: int = 0) -> RequestState:
    return RequestState(params, seed=seed, sample_index=sample_index, prompt_ids=(), stop_ids=frozenset())


def wishes_of(states: Sequence[RequestState], indices: Sequence[int], vocabulary: int, device: str) -> Wishes:
    params = [state.params for state in states]
    columns = (
        torch.tensor([each.temperature for each in params], dtype=torch.float64),
        torch.tensor([min(each.top_k or vocabulary, vocabulary) for each in params], dtype=torch.int64),
        torch.tensor([each.top_p for each in params], dtype=torch.float64),
        torch.tensor([each.min_p for each in params], dtype=torch.float64),
        torch.tensor([state.seed for state in states]),
        torch.tensor(list(indices)),
        torch.tensor([state.sample_index for state in states]),
    )
    return Wishes(*(column.to(device) for column in columns))


def drawn(logits_RV: torch.Tensor, states: Sequence[RequestState], indices: Sequence[int], device: str) -> list[int]:
    wishes = wishes_of(states, indices, logits_RV.shape[1], device)
    token_R, _ = sample(launcher(device), logits_RV.to(device), wishes, None)
    return token_R.tolist()


def random_states(seed: int, count: int) -> list[RequestState]:
    chance = random.Random(seed)
    return [
        state_of(
            SamplingParams(**{name: chance.choice(values) for name, values in CHOICES.items()}),  # type: ignore[arg-type]
            seed=chance.randrange(-(2**63), 2**63),
            sample_index=chance.randrange(3),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(18))
def test_the_token_is_the_samplers(seed: int, device: str) -> None:
    chance = random.Random(seed)
    vocabulary = chance.choice((1, 2, 33, 700, 5000))
    logits_RV = normal(4, vocabulary, seed=seed, scale=chance.choice((0.3, 3.0, 10.0)))
    if seed % 3 == 0:
        logits_RV = logits_RV.round()  # ties
    if seed % 4 == 0:
        logits_RV[:, 1::2] = float("-inf")
    states, indices = random_states(seed, 4), [chance.randrange(5000) for _ in range(4)]
    assert drawn(logits_RV, states, indices, device) == sampler.sample(logits_RV, states, indices)


@pytest.mark.parametrize(
    "wish",
    [{"top_k": 3}, {"top_p": 0.55}, {"min_p": 0.4}, {"top_k": 5, "top_p": 0.8}, {"top_p": 0.9, "min_p": 0.2}],
    ids=str,
)
@pytest.mark.parametrize("tied", [False, True])
def test_what_is_kept_is_what_the_sampler_keeps(wish: dict[str, float], tied: bool, device: str) -> None:
    """At numbers near 0 and near 1 the first and the last of the kept are drawn; others between them."""
    logits_V = normal(60, seed=7, scale=1.5)
    logits_V = (logits_V * 2).round() / 2 if tied else logits_V
    params = SamplingParams(**wish)  # type: ignore[arg-type]
    numbers = uniform(*(torch.full((50_000,), 5), torch.arange(50_000), torch.zeros(50_000, dtype=torch.int64)))
    indices = [int(numbers.argmin()), int(numbers.argmax()), *range(4)]
    states, logits_RV = [state_of(params, seed=5)] * len(indices), logits_V.expand(len(indices), -1).contiguous()
    kept = sampler._filtered(sampler._tempered(logits_V, params), params).isfinite().nonzero().flatten().tolist()
    tokens = drawn(logits_RV, states, indices, device)
    assert tokens[:2] == [kept[0], kept[-1]] and set(tokens) <= set(kept)
    assert tokens == sampler.sample(logits_RV, states, indices)


def test_of_equal_tokens_the_number_alone_decides(device: str) -> None:
    """All bits of seed, token and sample count: the token is the number times the vocabulary."""
    seeds = [0, 1, -1, 2**32, 2**62, -(2**63), 2**63 - 1]
    states = [state_of(SamplingParams(), seed, index % 3) for index, seed in enumerate(seeds)]
    indices = [0, 1, 2, 3, 4, 5, 2**31 - 1]
    logits_RV = torch.zeros(7, 4096)
    expected = uniform(torch.tensor(seeds), torch.tensor(indices), torch.tensor([0, 1, 2, 0, 1, 2, 0])) * 4096
    assert drawn(logits_RV, states, indices, device) == expected.long().tolist()


def test_a_token_does_not_depend_on_the_rows_beside_it(device: str) -> None:
    logits_RV, states, indices = normal(5, 300), random_states(3, 5), [3, 1, 4, 1, 5]
    together = drawn(logits_RV, states, indices, device)
    for row in range(5):
        assert drawn(logits_RV[row : row + 1], states[row : row + 1], indices[row : row + 1], device) == [together[row]]


@pytest.mark.parametrize("vocabulary", [1, 2, 320, 5000])
def test_of_equal_logits_the_lowest_id_is_the_largest(vocabulary: int, device: str) -> None:
    logits_RV = normal(3, vocabulary)
    tied = sorted(random.Random(vocabulary).sample(range(vocabulary), min(vocabulary, 4)))
    logits_RV[:, tied] = 100.0
    logits_RV[1, tied[-1]] = float("nan")  # larger than all
    launch = launcher(device)
    value_R, token_R = largest(launch, adjusted(launch, logits_RV.to(device), None)[1])
    assert token_R.tolist() == [tied[0], tied[-1], tied[0]]
    assert value_R[[0, 2]].tolist() == [100.0, 100.0] and bool(value_R[1].isnan())


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_cannot_be_drawn_from_tells_so_and_leaves_the_others_alone(broken: float, device: str) -> None:
    logits_RV, states = normal(3, 40), [state_of(SamplingParams(top_k=5, top_p=0.9), seed) for seed in range(3)]
    expected = drawn(logits_RV, states, [0, 0, 0], device)
    logits_RV[1] = broken
    wishes = wishes_of(states, [0, 0, 0], 40, device)
    token_R, value_R = sample(launcher(device), logits_RV.to(device), wishes, None)
    assert value_R.isfinite().tolist() == [True, False, True]
    assert [token_R[0].item(), token_R[2].item()] == [expected[0], expected[2]]
    assert 0 <= token_R[1].item() < 40, "the next step may be on its way with it"


def history_of(states: Sequence[RequestState], vocabulary: int, device: str) -> History:
    """Slots in another order than the rows; those of rows without a wish are as nobody left them."""
    rows = len(states)
    sizes = (rows, vocabulary)
    prompt_SV, counts_SV, bias_SV = (torch.zeros(sizes, dtype=d) for d in (torch.int8, torch.int32, torch.float32))
    for row, state in enumerate(states):
        slot = rows - 1 - row
        prompt_SV[slot, state.prompt_ids] = 1
        for token, count in state.output_counts.items():
            counts_SV[slot, token] = count
        bias_SV[slot, state.bias_ids] = state.biases
        bias_SV[slot, state.stop_ids] = float("-inf")
        if not state.adjusts(0):
            bias_SV[slot] = float("nan")
    of_slot = [
        torch.tensor([getattr(state.params, name) for state in reversed(states)], dtype=torch.float32)
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")
    ]
    slots = [rows - 1 - row if state.adjusts(0) else NO_HISTORY for row, state in enumerate(states)]
    columns = (torch.tensor(slots), *of_slot, prompt_SV, counts_SV, bias_SV)
    return History(*(column.to(device) for column in columns))


def test_penalties_bias_and_masks_are_the_samplers_to_the_bit(device: str) -> None:
    wishes: list[dict[str, object]] = [
        {}, {"repetition_penalty": 1.3}, {"presence_penalty": 0.7}, {"frequency_penalty": -0.45},
        {"repetition_penalty": 0.7, "presence_penalty": 0.3, "frequency_penalty": 0.2, "logit_bias": {3: 9.0, 9: -2.5}},
        {"min_tokens": 9, "max_tokens": 20}, {"logit_bias": {7: 100.0}},
    ]  # fmt: skip
    chance, states = random.Random(2), []
    for wish in wishes:
        stops = frozenset([11, 13]) if "min_tokens" in wish else frozenset[int]()
        params = SamplingParams(temperature=0.8, **wish)  # type: ignore[arg-type]
        prompt = [chance.randrange(100) for _ in range(20)]
        state = RequestState(params, seed=1, sample_index=0, prompt_ids=prompt, stop_ids=stops)
        for _ in range(30):
            state.saw(chance.randrange(100))
        states.append(state)
    logits_RV, launch = normal(len(states), 100), launcher(device)
    history = history_of(states, 100, device)
    found_RV, tops = adjusted(launch, logits_RV.to(device), history)
    expected_RV = torch.stack([sampler._adjusted(row, state, 0) for row, state in zip(logits_RV, states, strict=True)])
    assert torch.equal(found_RV.cpu(), expected_RV)
    assert largest(launch, tops)[1].tolist() == expected_RV.argmax(-1).tolist()
    token_R, _ = sample(launch, logits_RV.to(device), wishes_of(states, [0] * 7, 100, device), history)
    assert token_R.tolist() == sampler.sample(logits_RV, states, [0] * 7)


def test_a_token_is_counted_where_its_row_has_a_history(device: str) -> None:
    states = [state_of(SamplingParams(frequency_penalty=wish)) for wish in (0.5, 0.0, 0.5)]
    history = history_of(states, 70, device)
    history.counts_SV[0, 69] = 4
    before = history.counts_SV.clone()
    for _ in range(2):
        count_drawn(launcher(device), history, torch.tensor([3, 5, 69], device=device))
    changed = (history.counts_SV - before).nonzero().tolist()
    assert changed == [[0, 69], [2, 3]]
    assert history.counts_SV[0, 69] == 6 and history.counts_SV[2, 3] == 2


@pytest.mark.parametrize("adjusts", [False, True])
def test_the_logits_stay_as_they_were(adjusts: bool, device: str) -> None:
    logits_RV = normal(2, 50).to(device)
    before, states = logits_RV.clone(), [state_of(SamplingParams(frequency_penalty=0.5))] * 2
    history = history_of(states, 50, device) if adjusts else None
    sample(launcher(device), logits_RV, wishes_of(random_states(1, 2), [0, 0], 50, device), history)
    assert torch.equal(logits_RV, before)
