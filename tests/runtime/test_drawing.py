"""What the device draws and what the host: the tokens of the host's sampler, whatever shares a batch or leaves it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from device_draws import DrawingKernels
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import CASES, Loaded, load, make_reference, save_reference
from triton_kernels import launcher

from farthing.errors import RequestError
from farthing.kernels.histories import History
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.triton.backend import TritonKernels
from farthing.kernels.wishes import Wishes
from farthing.runtime import drawing
from farthing.runtime.histories import Histories
from farthing.runtime.sampler import RequestState
from farthing.sampling_params import SamplingParams, TokenLogprobs
from farthing.scheduler.loop import RealClock, step
from farthing.scheduler.sequence import Sequence as ScheduledSequence

VOCABULARY = 320
STOPS = frozenset((*range(0, VOCABULARY, 7), VOCABULARY + 5))  # a tokenizer may have more than the model
MAX_TOKENS = 9


class Apart:
    """A constraint: no token leaves the remainder by 5 that the one before it left; so it must know all of them."""

    end_ids = torch.tensor([VOCABULARY - 1])

    def __init__(self) -> None:
        self.last = 0

    def allowed(self) -> torch.Tensor:
        return torch.arange(VOCABULARY) % 5 != self.last % 5

    def leanings(self) -> torch.Tensor:
        return torch.zeros(VOCABULARY)

    def accept(self, token_id: int) -> None:
        if token_id % 5 == self.last % 5:
            raise RequestError("it was told of another token")
        self.last = token_id

    def copy(self) -> "Apart":
        return Apart()


@dataclass(frozen=True)
class Asked:
    """`arrives`: before this step. `leaves`: after so many tokens, as with a stop string. `ends`: at STOPS."""

    wishes: dict[str, Any] = field(default_factory=dict)
    num_prompt: int = 5
    arrives: int = 0
    leaves: int | None = None
    ends: bool = False
    constrained: bool = False


@dataclass
class Answer:
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    of_prompt: list[TokenLogprobs] = field(default_factory=list)
    error: str = ""


PLAIN, GREEDY = Asked(), Asked({"temperature": 0.0})
PENALIZED = Asked({"repetition_penalty": 1.7, "frequency_penalty": 0.4, "presence_penalty": -0.3})
GREEDY_PENALIZED = Asked({"temperature": 0.0, "repetition_penalty": 1.4})
TURNING = Asked({"temperature": 0.0, "frequency_penalty": 2.0, "logit_bias": dict.fromkeys((10, 11, 12), 60.0)})
BIASED = Asked({"temperature": 0.5, "logit_bias": {11: 4.0, 14: 5.0, 200: -3.0}})
LATE = Asked({"min_tokens": 4, "logit_bias": {14: 6.0, 15: 5.0}}, ends=True)
SHORT = Asked({"min_tokens": 3, "top_k": 40}, ends=True)
TOLD = Asked({"logprobs": 2, "presence_penalty": 0.8})
GRAMMAR = Asked({"temperature": 0.7, "repetition_penalty": 1.3}, constrained=True)
PROMPT_TOLD = Asked({"prompt_logprobs": 1, "top_p": 0.8})
BY_DEVICE = (PLAIN, GREEDY, PENALIZED, GREEDY_PENALIZED, TURNING, BIASED, LATE, SHORT)
ALL = (*BY_DEVICE, TOLD, GRAMMAR, PROMPT_TOLD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    case = next(case for case in CASES if case.name == "llama-2-one-layer")
    return save_reference(make_reference(case), tmp_path_factory.mktemp("model"))


def add(loaded: Loaded, seq_id: int, asked: Asked) -> RequestState:
    params = SamplingParams(**{"max_tokens": MAX_TOKENS, **asked.wishes})
    prompt = [3 + (7 * seq_id + 5 * index) % 60 for index in range(asked.num_prompt)]
    stop_ids = STOPS if asked.ends else frozenset[int]()
    constraint = Apart() if asked.constrained else None
    state = RequestState(
        params, seed=seq_id, sample_index=1, prompt_ids=prompt, stop_ids=stop_ids, constraint=constraint
    )
    loaded.runner.add(seq_id, state, prompt)
    sequence = ScheduledSequence(
        seq_id,
        prompt,
        max_output_tokens=params.max_tokens or MAX_TOKENS,
        stop_token_ids=stop_ids,
        min_output_tokens=params.min_tokens,
        use_prefix_cache=params.prompt_logprobs is None,
    )
    loaded.scheduler.add(sequence)
    return state


def serve(loaded: Loaded, asked: Sequence[Asked]) -> Iterator[tuple[int, Answer]]:
    """Step after step until all have ended: after each, sequences with what is new of their answers."""
    clock, number, waiting = RealClock(), 0, dict(enumerate(asked))
    counts = dict.fromkeys(waiting, 0)
    while waiting or loaded.scheduler.has_unfinished or loaded.runner.in_flight:
        for seq_id in [seq_id for seq_id, one in waiting.items() if one.arrives <= number]:
            add(loaded, seq_id, waiting.pop(seq_id))
        for output in step(loaded.scheduler, loaded.runner, clock):
            seq_id, ended = output.seq_id, output.finish_reason is not None
            counts[seq_id] += 1
            news = Answer(error=output.error)
            if output.token_id is not None:
                news.tokens.append(output.token_id)
            if seq_id in loaded.runner.logprobs:
                news.logprobs.append(loaded.runner.logprobs[seq_id])
            news.of_prompt += loaded.runner.prompt_logprobs(seq_id)
            if not ended and counts[seq_id] == asked[seq_id].leaves:
                ended = loaded.scheduler.finish(seq_id)
            yield seq_id, news
            if ended:
                loaded.runner.remove(seq_id)
        number += 1


def answers(loaded: Loaded, asked: Sequence[Asked]) -> list[Answer]:
    found = [Answer() for _ in asked]
    for seq_id, news in serve(loaded, asked):
        found[seq_id].tokens += news.tokens
        found[seq_id].logprobs += news.logprobs
        found[seq_id].of_prompt, found[seq_id].error = news.of_prompt, news.error
    return found


def histories(loaded: Loaded) -> Histories:
    assert loaded.runner._drawing is not None and loaded.runner._drawing._histories is not None
    return loaded.runner._drawing._histories


def slots_of(loaded: Loaded) -> list[torch.Tensor]:
    """All that histories keep, but for which of them the rows of a step have."""
    kept = histories(loaded)._kept
    return [getattr(kept, one.name).clone() for one in fields(kept) if one.name != "slots_R"]


@settings(max_examples=60)
@given(
    st.lists(
        st.builds(
            lambda kind, *rest: Asked(kind.wishes, *rest, ends=kind.ends, constrained=kind.constrained),
            st.sampled_from(ALL),
            st.integers(1, 20),
            st.integers(0, 15),
            st.one_of(st.none(), st.integers(1, MAX_TOKENS - 1)),
        ),
        min_size=2,
        max_size=9,
    ),
    st.integers(8, 12),
    st.integers(0, 3),
    st.sampled_from([DrawingKernels, DrawingKernels, ReferenceKernels]),
)
def test_tokens_are_those_of_the_hosts_sampler_whatever_comes_and_goes(
    folder: Path, asked: list[Asked], num_blocks: int, num_slots: int, kernels: type[ReferenceKernels]
) -> None:
    """Few blocks, so that sequences are preempted, and fewer slots than may want one."""
    tight = load(
        folder, kernels=kernels(), depth=2, num_blocks=num_blocks, block_size=4, max_num_seqs=3, max_batch_tokens=8
    )
    if kernels.draws:
        del histories(tight)._free[num_slots:]
    assert answers(tight, asked) == answers(load(folder), asked)
    if kernels.draws:
        assert len(histories(tight)._free) == num_slots and not histories(tight)._taken
    assert tight.scheduler.block_pool.num_available == num_blocks


class DrawnByTriton(ReferenceKernels):
    draws = True
    triton = TritonKernels(launcher("cpu"), batch_invariant=True)

    def draw(
        self, logits_RV: torch.Tensor, wishes: Wishes, history: History | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.triton.draw(logits_RV, wishes, history)


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels run on the GPU alone")
def test_tokens_drawn_by_triton_are_those_of_the_hosts_sampler(folder: Path) -> None:
    asked = [*ALL, Asked(PENALIZED.wishes, arrives=4)]
    found = load(folder, kernels=DrawnByTriton(), depth=2, max_num_seqs=8)
    assert answers(found, asked) == answers(load(folder), asked)


def test_what_is_drawn_for_nobody_before_the_first_request_goes_through_all_that_draws_and_leaves_nothing(
    folder: Path,
) -> None:
    kernels = DrawingKernels()
    loaded = load(folder, kernels=kernels, depth=2)
    before = slots_of(loaded)
    with_history: list[bool] = []

    def draw(logits_RV: torch.Tensor, wishes: Wishes, history: History | None) -> tuple[torch.Tensor, torch.Tensor]:
        with_history.append(history is not None)
        return DrawingKernels.draw(kernels, logits_RV, wishes, history)

    kernels.draw = draw  # type: ignore[method-assign]
    assert loaded.runner._drawing is not None
    loaded.runner._drawing.warm(torch.zeros(1, VOCABULARY))
    assert with_history == [False, True]
    assert all(torch.equal(*pair) for pair in zip(slots_of(loaded), before, strict=True))


def test_one_batch_at_a_time_is_drawn_by_the_host(folder: Path) -> None:
    kernels = DrawingKernels()
    assert answers(load(folder, kernels=kernels), ALL) == answers(load(folder), ALL)
    assert not kernels.slots


def test_penalties_bias_and_min_tokens_never_wait_for_the_host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answers(load(folder), BY_DEVICE)
    monkeypatch.setattr(drawing, "sample", None)
    loaded = load(folder, kernels=DrawingKernels(), depth=2)
    found = [Answer() for _ in BY_DEVICE]
    for seq_id, news in serve(loaded, BY_DEVICE):
        found[seq_id].tokens += news.tokens
        assert all(flight._done is None for flight in loaded.runner.flights)
    assert found == expected


def test_of_a_batch_the_host_draws_only_what_it_has_to(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampled: list[set[int]] = []

    def recorded(logits_RV: torch.Tensor, states: Sequence[RequestState], *rest: Any) -> Any:
        sampled.append({state.seed for state in states})
        return sample(logits_RV, states, *rest)

    expected, sample = answers(load(folder), ALL), drawing.sample
    monkeypatch.setattr(drawing, "sample", recorded)
    assert answers(load(folder, kernels=DrawingKernels(), depth=2), ALL) == expected
    hosts = {seq_id for seq_id, asked in enumerate(ALL) if asked in (TOLD, GRAMMAR)}
    assert len(sampled) >= MAX_TOKENS and all(seeds <= hosts for seeds in sampled)


def test_a_batch_of_greedy_sequences_is_not_drawn_but_for_histories(folder: Path) -> None:
    kernels = DrawingKernels()
    loaded = load(folder, kernels=kernels, depth=2)
    asked = [GREEDY, Asked(GREEDY.wishes, num_prompt=9), Asked(GREEDY_PENALIZED.wishes, arrives=5, leaves=2)]
    assert answers(loaded, asked) == answers(load(folder), asked)
    assert len(kernels.slots) == 3


def test_who_finds_no_slot_is_drawn_by_the_host_until_one_is_free(folder: Path) -> None:
    """Slots of sequences that have ended, but were not removed, are taken."""
    kernels = DrawingKernels()
    loaded = load(folder, kernels=kernels, depth=2, max_num_seqs=2)
    asked = [PENALIZED, BIASED, TURNING]
    expected = answers(load(folder), asked)
    states = [add(loaded, seq_id, one) for seq_id, one in enumerate(asked)]
    found: list[list[int]] = [[], [], []]
    clock = RealClock()
    while loaded.scheduler.has_unfinished:
        for output in step(loaded.scheduler, loaded.runner, clock):
            assert output.token_id is not None
            found[output.seq_id].append(output.token_id)
            if output.seq_id == 2:
                assert (2 in histories(loaded)._taken) == (len(found[2]) >= 4)
            if len(found[2]) == 3:
                loaded.runner.remove(0)
    assert found == [answer.tokens for answer in expected]
    for state, tokens in ((states[0], found[0]), (states[2], found[2])):
        assert state.output_counts == {token: tokens.count(token) for token in tokens}


@pytest.mark.parametrize("asked", [PENALIZED, SHORT, PLAIN, TOLD])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_fails_alone_and_says_what_the_host_says(
    asked: Asked, value: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def served(**options: Any) -> list[Answer]:
        loaded = load(folder, **options)
        logits = loaded.runner.steps.logits

        def spoiled(x_RH: torch.Tensor) -> torch.Tensor:
            logits_RV = logits(x_RH)
            if len(logits_RV) == 2 and next(calls) == 2:
                logits_RV[1, 7] = value
            return logits_RV

        calls = iter(range(100))
        monkeypatch.setattr(loaded.runner.steps, "logits", spoiled)
        return answers(loaded, [PENALIZED, asked])

    expected, found = served(), served(kernels=DrawingKernels(), depth=2)
    assert found == expected
    assert not found[0].error and f"computed {value}" in found[1].error


def test_where_a_mask_leaves_nothing_the_sequence_fails_as_by_the_host(folder: Path) -> None:
    wishes = {"logit_bias": dict.fromkeys(range(VOCABULARY), 1.0), "repetition_penalty": 1e-42, "temperature": 0.0}
    asked = [PENALIZED, Asked(wishes)]
    expected, found = (answers(load(folder, **how), asked) for how in ({}, {"kernels": DrawingKernels(), "depth": 2}))
    assert found == expected
    assert "leave no token to draw" in found[1].error
