"""Answers with drafts are those without, whatever is asked for; and when drafts are made at all."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from farthing import LLM, SamplingParams
from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.request import Completion, Request
from farthing.engine.speculation import FixedDrafts, PayingDrafts, draft_policy
from farthing.errors import RequestFailedError, UsageError
from farthing.kernels.vendor import VendorKernels
from farthing.sampling_params import Grammar
from farthing.scheduler.batch import Batch, BatchItem

from .accounts.measured_engine import calibration

REPEATING = "The cat sat on the mat. The dog sat on the rug. " * 4
GREEDY = SamplingParams(temperature=0.0, max_tokens=80, ignore_eos=True)
SAMPLED = replace(GREEDY, temperature=1.0, seed=3)
PENALIZED = replace(SAMPLED, repetition_penalty=1.05, frequency_penalty=0.02, presence_penalty=0.01)
ASKED = {
    "greedy": GREEDY,
    "until its own end": replace(GREEDY, ignore_eos=False, max_tokens=300),
    "sampled": SAMPLED,
    "cool": replace(SAMPLED, temperature=0.3, top_p=0.9, top_k=20),
    "penalties, greedy": replace(PENALIZED, temperature=0.0),
    "penalties, sampled": PENALIZED,
    "bias": replace(GREEDY, logit_bias={17: 3.0, 200: -5.0}),
    "stop string": replace(GREEDY, stop=("rug",)),
    "stop string in no token": replace(GREEDY, stop=("at. The d",)),
    "stop token": replace(GREEDY, stop_token_ids=(13, 14, 15)),
    "not before": replace(GREEDY, ignore_eos=False, min_tokens=40, stop_token_ids=(300,)),
    "samples": replace(SAMPLED, n=3),
    "one token": replace(GREEDY, max_tokens=1),
    "two tokens": replace(GREEDY, max_tokens=2),
}


def answers(llm: LLM, prompts: list[str], params: SamplingParams) -> list[list[Completion]]:
    return [output.completions for output in llm.generate(prompts, params)]


def num_accepted(llm: LLM) -> int:
    return llm.engine.scheduler.stats.num_accepted_tokens


@pytest.fixture(scope="module", params=["bf16", "int8", "fp32"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[LLM, LLM]]:
    """Without drafts, and with as many as there is room for."""
    config = EngineConfig(format=request.param, speculation="off", max_num_seqs=12)
    with LLM("bundled", config) as plain, LLM("bundled", replace(config, speculation="7")) as drafting:
        yield plain, drafting


@pytest.mark.parametrize("params", ASKED.values(), ids=ASKED.keys())
def test_an_answer_with_drafts_is_the_one_without(pair: tuple[LLM, LLM], params: SamplingParams) -> None:
    plain, drafting = pair
    prompts = [REPEATING, "Once upon a time", REPEATING + "The cat"]
    assert answers(drafting, prompts, params) == answers(plain, prompts, params)
    for prompt in prompts:
        assert answers(drafting, [prompt], params) == answers(plain, [prompt], params)


def test_drafts_of_a_text_that_repeats_itself_are_accepted(pair: tuple[LLM, LLM]) -> None:
    plain, drafting = pair
    for params in (GREEDY, ASKED["cool"], ASKED["penalties, greedy"]):
        before = num_accepted(drafting)
        drafting.generate(REPEATING, params)
        assert num_accepted(drafting) > before + 5
    plain.generate(REPEATING, GREEDY)
    assert plain.engine.scheduler.stats.num_draft_tokens == 0


def test_deltas_carry_one_token_each_and_join_to_the_whole(pair: tuple[LLM, LLM]) -> None:
    _, drafting = pair
    deltas = list(drafting.iterate(drafting.request(REPEATING, GREEDY)))
    assert [len(delta.token_ids) for delta in deltas] == [1] * GREEDY.max_tokens
    assert "".join(delta.text for delta in deltas) == drafting.generate(REPEATING, GREEDY).text


@pytest.mark.parametrize(
    "params",
    [
        replace(GREEDY, logprobs=2),
        replace(GREEDY, prompt_logprobs=0),
        replace(GREEDY, ignore_eos=False, grammar=Grammar("regex", "(The cat sat on the mat\\. ){9}")),
    ],
    ids=["logprobs", "prompt logprobs", "grammar"],
)
def test_whoever_asks_for_log_probabilities_or_a_grammar_gets_no_drafts(
    pair: tuple[LLM, LLM], params: SamplingParams
) -> None:
    plain, drafting = pair
    before = drafting.engine.scheduler.stats.num_draft_tokens
    assert answers(drafting, [REPEATING], params) == answers(plain, [REPEATING], params)
    assert drafting.engine.scheduler.stats.num_draft_tokens == before


def test_preempted_sequences_answer_the_same() -> None:
    plain = answers_of_a_tiny_pool("off")
    assert answers_of_a_tiny_pool("5") == plain


def answers_of_a_tiny_pool(speculation: str) -> list[list[int]]:
    plan = plan_engine("bundled", EngineConfig(speculation=speculation, block_size=4, max_num_seqs=8))
    engine = Engine(replace(plan, memory=replace(plan.memory, num_blocks=60)), with_template=False)
    prompt = tuple(engine.text.encode(REPEATING))
    found: dict[str, list[int]] = {str(number): [] for number in range(5)}
    for number in range(5):
        params = SAMPLED if number % 2 else GREEDY
        engine.add(Request(str(number), prompt[number:], replace(params, max_tokens=100), seed=number))
    while engine.has_unfinished:
        for delta in engine.step():
            found[delta.request_id] += delta.token_ids
    stats, pool = engine.scheduler.stats, engine.scheduler.block_pool
    assert stats.num_preemptions > 0 and pool.num_available == pool.num_blocks
    assert (stats.num_accepted_tokens > 0) == (speculation != "off")
    assert engine.accountant.ledger.total.num_outputs == sum(map(len, found.values())) == 500
    engine.close()
    return list(found.values())


def test_a_row_that_can_not_be_drawn_from_fails_where_it_would_have_without_drafts(
    pair: tuple[LLM, LLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens before it still come. Spoiled: every row whose likeliest token is one that comes late."""
    _, drafting = pair
    whole = drafting.generate(REPEATING, GREEDY).completions[0].token_ids
    bad = next(token for index, token in enumerate(whole) if index > 10 and token not in whole[:index])
    steps = drafting.engine.runner.steps
    logits = steps.logits

    def spoiled(x_RH: torch.Tensor) -> torch.Tensor:
        logits_RV = logits(x_RH)
        logits_RV[logits_RV.argmax(-1) == bad] = float("nan")
        return logits_RV

    monkeypatch.setattr(steps, "logits", spoiled)
    came: list[int] = []
    with pytest.raises(RequestFailedError):
        for delta in drafting.iterate(drafting.request(REPEATING, GREEDY)):
            came += delta.token_ids
            if delta.finish_reason == "error":
                raise RequestFailedError(str(delta.stop_reason))
    assert came == whole[: whole.index(bad)]


def test_a_step_with_drafts_is_a_decode_in_the_ledger(pair: tuple[LLM, LLM]) -> None:
    _, drafting = pair
    total = drafting.engine.accountant.ledger.total
    before = total.num_outputs, total.phases["decode"].num_steps, total.phases["prefill"].num_steps
    drafting.generate(REPEATING, GREEDY)
    total = drafting.engine.accountant.ledger.total
    assert total.num_outputs - before[0] == GREEDY.max_tokens
    assert total.phases["prefill"].num_steps - before[2] <= 1
    assert total.phases["decode"].num_steps - before[1] < GREEDY.max_tokens - 5


def test_guessing_is_off_or_fixed_as_it_is_asked_for() -> None:
    plan = plan_engine("bundled", EngineConfig(speculation="off"))
    assert draft_policy(plan) is None
    fixed = draft_policy(replace(plan, config=EngineConfig(speculation="3")))
    assert isinstance(fixed, FixedDrafts) and fixed.num_drafts(16, 0.01) == 3
    for wrong in ("yes", "0", "-1", "2.5", ""):
        with pytest.raises(UsageError, match="--speculation"):
            EngineConfig(speculation=wrong)


def test_auto_needs_a_measured_machine_and_rows_that_do_not_depend_on_their_batch() -> None:
    plan = replace(plan_engine("bundled", EngineConfig()), calibration=None)
    assert draft_policy(plan) is None
    assert isinstance(draft_policy(plan.with_calibration(calibration())), PayingDrafts)
    assert draft_policy(replace(plan.with_calibration(calibration()), kernels=VendorKernels())) is None


def test_nothing_is_guessed_where_rows_cost_what_they_bring() -> None:
    each_row_costs_a_step = PayingDrafts(lambda num_sequences, num_rows: num_sequences * num_rows)
    rows_are_free = PayingDrafts(lambda num_sequences, num_rows: 1.0)
    assert each_row_costs_a_step.num_drafts(1, 0.99) == 0
    assert rows_are_free.num_drafts(1, 0.9) == 8
    assert rows_are_free.num_drafts(1, 0.01) == 0, "below the margin"


def test_the_more_sequences_and_the_rarer_a_right_guess_the_fewer_drafts() -> None:
    policy = PayingDrafts(lambda num_sequences, num_rows: max(1.0, num_sequences * num_rows / 8))
    by_sequences = [policy.num_drafts(num_sequences, 0.8) for num_sequences in (1, 2, 4, 8, 16)]
    assert by_sequences == sorted(by_sequences, reverse=True) and by_sequences[0] >= 7 and by_sequences[-1] == 0
    by_acceptance = [policy.num_drafts(2, share) for share in (0.95, 0.6, 0.3, 0.01)]
    assert by_acceptance == sorted(by_acceptance, reverse=True)


def test_what_steps_take_corrects_the_forecast() -> None:
    policy = PayingDrafts(lambda num_sequences, num_rows: 1.0)
    assert policy.num_drafts(1, 0.5) == 8
    for _ in range(40):
        policy.observe(step_of(0), 0.010)
        for num_drafts in range(1, 9):
            policy.observe(step_of(num_drafts), 0.010 * (1 + num_drafts))
    assert policy.num_drafts(1, 0.5) == 0 and policy.num_drafts(2, 0.5) == 8


def test_a_step_in_which_one_of_four_guesses_tells_what_it_would_cost_if_all_did() -> None:
    policy = PayingDrafts(lambda num_sequences, num_rows: 1.0)
    for _ in range(200):
        policy.observe(step_of(0, 0, 0, 0), 0.010)
        for num_drafts in range(1, 9):
            policy.observe(step_of(num_drafts, 0, 0, 0), 0.010 * (1 + num_drafts / 4))
    assert policy.num_drafts(4, 0.5) == 0 and policy.num_drafts(1, 0.5) == 8


def step_of(*num_drafts: int) -> Batch:
    """A decode of as many sequences."""
    items = (BatchItem(i, 10, (1,) * (1 + n), (0, 1), True, 2, n) for i, n in enumerate(num_drafts))
    return Batch(0, tuple(items))
