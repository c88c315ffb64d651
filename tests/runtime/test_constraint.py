"""Constraints and unsound rows in the sampler: only what is allowed is drawn, and a bad row leaves the others alone."""

import pytest
import torch

from farthing.errors import RequestError
from farthing.runtime.sampler import LEANING_START, RequestState, RowError, sample
from farthing.sampling_params import SamplingParams

VOCAB_SIZE = 50
END = 49
GREEDY = SamplingParams(temperature=0.0)


class Listed:
    """A constraint that allows the ids of a list, and leans to the last of them."""

    def __init__(self, *token_ids: int, broken: bool = False) -> None:
        self.token_ids = token_ids
        self.broken = broken
        self.accepted: list[int] = []
        self.end_ids = torch.tensor([END])

    def allowed(self) -> torch.Tensor:
        if self.broken:
            raise RequestError("out of fuel")
        allowed_V = torch.zeros(VOCAB_SIZE, dtype=torch.bool)
        allowed_V[list(self.token_ids)] = True
        return allowed_V

    def leanings(self) -> torch.Tensor:
        leanings_V = torch.zeros(VOCAB_SIZE)
        leanings_V[self.token_ids[-1]] = 1.0
        return leanings_V

    def accept(self, token_id: int) -> None:
        self.accepted.append(token_id)

    def copy(self) -> "Listed":
        return Listed(*self.token_ids, broken=self.broken)


def state_of(params: SamplingParams, constraint: Listed | None = None, room: int | None = None) -> RequestState:
    stop_ids = frozenset() if params.ignore_eos else frozenset([END])
    return RequestState(
        params, seed=3, sample_index=0, prompt_ids=[1], stop_ids=stop_ids, constraint=constraint, room=room
    )


def rising() -> torch.Tensor:
    """Logits of one row: the higher the id, the likelier."""
    return torch.arange(VOCAB_SIZE, dtype=torch.float32)[None]


@pytest.mark.parametrize("params", [
    GREEDY, SamplingParams(), SamplingParams(temperature=50.0), SamplingParams(top_k=1), SamplingParams(top_p=0.01),
    SamplingParams(min_p=1.0), SamplingParams(logit_bias={40: 100.0, 5: -100.0}),
    SamplingParams(repetition_penalty=50.0, presence_penalty=2.0, frequency_penalty=2.0),
])  # fmt: skip
def test_only_what_is_allowed_is_drawn_whatever_the_parameters_want(params: SamplingParams) -> None:
    state = state_of(params, Listed(3, 5, 7))
    drawn = [sample(rising(), [state], [index])[0] for index in range(30)]
    assert set(drawn) <= {3, 5, 7}
    if params == GREEDY:
        assert set(drawn) == {7}


def test_the_constraint_learns_what_was_drawn() -> None:
    constraint = Listed(3)
    state_of(GREEDY, constraint).saw(3)
    assert constraint.accepted == [3]


@pytest.mark.parametrize("params", [
    SamplingParams(temperature=0.0, min_tokens=5), SamplingParams(temperature=0.0, ignore_eos=True)
])  # fmt: skip
def test_an_end_that_is_not_wanted_waits_until_there_is_nothing_else(params: SamplingParams) -> None:
    assert sample(rising(), [state_of(params, Listed(3, END))], [0]) == [3]
    assert sample(rising(), [state_of(params, Listed(END))], [0]) == [END]


def test_an_end_is_free_once_min_tokens_is_reached() -> None:
    state = state_of(SamplingParams(temperature=0.0, min_tokens=5), Listed(3, END))
    assert sample(rising(), [state], [5]) == [END]


def test_as_the_room_runs_out_the_sampler_leans_to_the_end_and_not_before() -> None:
    early = int(100 * LEANING_START)
    for params, room in ((GREEDY, 100), (SamplingParams(temperature=0.0, max_tokens=100), 1000)):
        state = state_of(params, Listed(30, 5), room)
        assert sample(rising(), [state], [early]) == [30]
        assert sample(rising(), [state], [99]) == [5]
    assert sample(rising(), [state_of(GREEDY, Listed(30, 5))], [10**6]) == [30], "no room is known: no leaning"


@pytest.mark.parametrize("params", [GREEDY, SamplingParams(), SamplingParams(repetition_penalty=1.1)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_unsound_row_fails_alone_and_is_not_drawn_from(params: SamplingParams, value: float) -> None:
    logits_RV = torch.randn((3, VOCAB_SIZE), generator=torch.Generator().manual_seed(0))
    states = [state_of(params) for _ in range(3)]
    sound = sample(logits_RV, states, [0, 0, 0])
    logits_RV[1, 17] = value
    tokens = sample(logits_RV, states, [0, 0, 0])
    assert isinstance(tokens[1], RowError) and str(value) in tokens[1].reason
    assert [tokens[0], tokens[2]] == [sound[0], sound[2]]


def test_negative_infinity_is_a_legal_logit_unless_there_is_nothing_else() -> None:
    logits_RV = torch.full((2, VOCAB_SIZE), float("-inf"))
    logits_RV[0, 4] = -3.0
    for params in (GREEDY, SamplingParams()):
        token, error = sample(logits_RV, [state_of(params)] * 2, [0, 0])
        assert token == 4 and isinstance(error, RowError)


def test_a_constraint_that_allows_nothing_or_is_broken_fails_its_row_alone() -> None:
    constraints = [None, Listed(3, broken=True), Listed(3), None]
    states = [state_of(GREEDY, constraint) for constraint in constraints]
    states[3] = state_of(GREEDY, Listed(3, 5))
    nothing = rising().repeat(4, 1)
    nothing[2, 3] = float("-inf")
    tokens = sample(nothing, states, [0] * 4)
    assert tokens[0] == END and tokens[3] == 5
    assert isinstance(tokens[1], RowError) and "out of fuel" in tokens[1].reason
    assert isinstance(tokens[2], RowError) and "no token to draw" in tokens[2].reason
