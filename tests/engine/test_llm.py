"""The Python API on the bundled model: generate, chat, streams, n, stops, log-probabilities, cancellation, errors."""

import asyncio
import math
import subprocess
import sys
from collections.abc import Iterator

import pytest

from farthing import LLM, FarthingError, SamplingParams
from farthing.engine.config import EngineConfig, resolve_threads
from farthing.errors import EngineStoppedError, RequestError, UsageError

GREEDY = SamplingParams(temperature=0.0, max_tokens=24)
PROMPT = "Once upon a time, there was a little"


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("bundled", EngineConfig(format="fp32", context=256, max_num_seqs=8, block_size=4)) as loaded:
        yield loaded


def test_a_prompt_of_text_and_one_of_token_ids_give_the_same(llm: LLM) -> None:
    ids = llm.engine.text.encode(PROMPT)
    assert llm.generate(PROMPT, GREEDY).text == llm.generate(list(ids), GREEDY).text != ""


def test_a_list_of_prompts_is_answered_in_order_as_if_each_were_alone(llm: LLM) -> None:
    prompts = [PROMPT, "The king said", "One day, a fox", "It was a cold"]
    together = [output.text for output in llm.generate(prompts, GREEDY)]
    assert together == [llm.generate(prompt, GREEDY).text for prompt in prompts]


def test_more_prompts_than_run_at_a_time_all_end(llm: LLM) -> None:
    outputs = llm.generate([f"{number} birds sat" for number in range(30)], SamplingParams(max_tokens=5, seed=1))
    assert all(output.finished for output in outputs) and len(outputs) == 30


def test_the_same_seed_gives_the_same_answer_and_n_samples_differ(llm: LLM) -> None:
    params = SamplingParams(temperature=1.0, seed=5, n=4, max_tokens=20)
    first, second = llm.generate(PROMPT, params), llm.generate(PROMPT, params)
    texts = [completion.text for completion in first.completions]
    assert texts == [completion.text for completion in second.completions]
    assert len(set(texts)) > 1
    alone = llm.generate(PROMPT, SamplingParams(temperature=1.0, seed=5, max_tokens=20))
    assert alone.text == texts[0]


def test_without_a_seed_answers_differ(llm: LLM) -> None:
    params = SamplingParams(temperature=1.2, max_tokens=30)
    assert len({llm.generate(PROMPT, params).text for _ in range(4)}) > 1


def test_the_samples_of_a_request_share_the_blocks_of_its_prompt(llm: LLM) -> None:
    before = llm.engine.scheduler.stats.num_cached_tokens
    llm.generate("A long prompt about a bear, a wolf and three hens that nobody wrote before.", SamplingParams(n=3))
    assert llm.engine.scheduler.stats.num_cached_tokens >= before + 2 * 12


def test_deltas_join_to_the_whole_text(llm: LLM) -> None:
    deltas = list(llm.iterate(llm.request(PROMPT, GREEDY)))
    whole = llm.generate(PROMPT, GREEDY)
    assert "".join(delta.text for delta in deltas) == whole.text
    assert [token for delta in deltas for token in delta.token_ids] == whole.completions[0].token_ids
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish_reason in ("stop", "length")


def test_an_asynchronous_stream_gives_the_same_and_several_run_at_once(llm: LLM) -> None:
    async def collect(prompt: str) -> str:
        return "".join([delta.text async for delta in llm.stream(llm.request(prompt, GREEDY))])

    async def both() -> list[str]:
        return await asyncio.gather(collect(PROMPT), collect("The king said"))

    assert asyncio.run(both()) == [output.text for output in llm.generate([PROMPT, "The king said"], GREEDY)]


def test_leaving_a_stream_early_cancels_the_request(llm: LLM) -> None:
    stream = llm.iterate(llm.request(PROMPT, SamplingParams(ignore_eos=True, max_tokens=200)))
    next(stream)
    stream.close()
    llm.generate("after", SamplingParams(max_tokens=1))  # behind the cancellation in the queue
    assert not llm.engine.has_unfinished
    pool = llm.engine.scheduler.block_pool
    assert pool.num_available == llm.engine.plan.memory.num_blocks


def test_a_stop_string_is_found_across_tokens_and_is_not_part_of_the_text(llm: LLM) -> None:
    text = llm.generate(PROMPT, GREEDY).text
    stop = text[5:12]
    output = llm.generate(PROMPT, SamplingParams(temperature=0.0, max_tokens=24, stop=(stop,)))
    assert output.text == text[: text.index(stop)]
    assert output.completions[0].finish_reason == "stop" and output.completions[0].stop_reason == stop
    streamed = list(llm.iterate(llm.request(PROMPT, SamplingParams(temperature=0.0, max_tokens=24, stop=(stop,)))))
    assert "".join(delta.text for delta in streamed) == output.text


def test_a_stop_token_ends_the_answer_and_is_named(llm: LLM) -> None:
    tokens = llm.generate(PROMPT, GREEDY).completions[0].token_ids
    stop = next(token for index, token in enumerate(tokens) if index > 3 and token not in tokens[:index])
    output = llm.generate(PROMPT, SamplingParams(temperature=0.0, max_tokens=24, stop_token_ids=(stop,)))
    completion = output.completions[0]
    assert completion.token_ids == tokens[: tokens.index(stop)]
    assert (completion.finish_reason, completion.stop_reason) == ("stop", stop)


def test_ignore_eos_goes_on_to_max_tokens_and_min_tokens_forbids_an_early_end(llm: LLM) -> None:
    (eos,) = llm.engine.text.eos_ids
    bias = {eos: 100.0}
    early = llm.generate(PROMPT, SamplingParams(temperature=0.0, max_tokens=9, logit_bias=bias)).completions[0]
    assert (early.token_ids, early.finish_reason) == ([], "stop")
    later = SamplingParams(temperature=0.0, max_tokens=9, min_tokens=4, logit_bias=bias)
    assert len(llm.generate(PROMPT, later).completions[0].token_ids) == 4
    ignoring = SamplingParams(temperature=0.0, max_tokens=9, ignore_eos=True, logit_bias=bias)
    completion = llm.generate(PROMPT, ignoring).completions[0]
    assert (len(completion.token_ids), completion.finish_reason) == (9, "length")


def test_logprobs_come_with_each_token_and_prompt_logprobs_with_each_prompt_token_but_the_first(llm: LLM) -> None:
    params = SamplingParams(temperature=0.0, max_tokens=6, logprobs=3, prompt_logprobs=2)
    output = llm.generate(PROMPT, params)
    completion = output.completions[0]
    assert [told.token_id for told in completion.logprobs] == completion.token_ids
    assert all(told.rank == 1 and told.top[0] == (told.token_id, told.logprob) for told in completion.logprobs)
    assert all(
        len(told.top) == 3 and sum(math.exp(value) for _, value in told.top) <= 1.0001 for told in completion.logprobs
    )
    assert [told.token_id for told in output.prompt_logprobs] == list(output.prompt_ids[1:])
    # Continuing the prompt by its own next token has the probability that the prompt's logprobs tell.
    shorter = llm.generate(list(output.prompt_ids[:-1]), SamplingParams(temperature=0.0, max_tokens=1, logprobs=20))
    told = dict(shorter.completions[0].logprobs[0].top)
    last = output.prompt_logprobs[-1]
    assert told.get(last.token_id, last.logprob) == pytest.approx(last.logprob, abs=1e-4)


def test_prompt_logprobs_survive_chunks_and_samples(llm: LLM) -> None:
    with LLM("bundled", EngineConfig(format="fp32", context=128, max_num_seqs=2, max_batch_tokens=5)) as chunked:
        params = SamplingParams(temperature=0.0, max_tokens=2, prompt_logprobs=0, n=2)
        found = chunked.generate(PROMPT, params).prompt_logprobs
    expected = llm.generate(PROMPT, params).prompt_logprobs
    assert [told.token_id for told in found] == [told.token_id for told in expected]
    assert [told.logprob for told in found] == pytest.approx([told.logprob for told in expected], abs=1e-4)


def test_a_second_turn_finds_the_first_in_the_prefix_cache(llm: LLM) -> None:
    messages = [{"role": "user", "content": "Who are you, and what do you know about little stories?"}]
    answer = llm.chat(messages, GREEDY)
    messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "Thank you!"}]
    assert llm.chat(messages, GREEDY).num_cached_tokens >= len(answer.prompt_ids) - 4


def test_the_context_bounds_the_answer(llm: LLM) -> None:
    output = llm.generate(PROMPT, SamplingParams(temperature=0.0, ignore_eos=True))
    assert len(output.prompt_ids) + len(output.completions[0].token_ids) == 256
    assert output.completions[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "params", "named"),
    [
        ("", GREEDY, "empty"),
        ([[]], GREEDY, "empty"),
        ("word " * 400, GREEDY, "context length is 256"),
        ([5, 99999], GREEDY, "99999"),
        ([-1], GREEDY, "-1"),
        ([[1.5]], GREEDY, "1.5"),
        ([[True, False]], GREEDY, "True"),
        ("a", SamplingParams(stop_token_ids=(5000,)), "5000"),
        ("a", SamplingParams(logit_bias={5000: 1.0}), "5000"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_in_one_line_and_the_next_is_served(
    llm: LLM, prompt: str | list[int], params: SamplingParams, named: str
) -> None:
    with pytest.raises(RequestError) as caught:
        llm.generate(prompt, params)
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert llm.generate(PROMPT, GREEDY).text


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"context": 100_000}, "512"),
        ({"format": "int3"}, "int3"),
        ({"memory": "1KiB"}, "does not fit"),
        ({"memory": "lots"}, "lots"),
        ({"memory": "0%"}, "0%"),
        ({"device": "tpu"}, "tpu"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"kv_format": "fp8"}, "int8"),
        ({"kv_format": "int3"}, "int3"),
    ],
)
def test_an_impossible_choice_is_refused_in_one_line(config: dict[str, object], named: str) -> None:
    with pytest.raises(FarthingError) as caught:
        LLM("bundled", EngineConfig(**config))
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [{"max_num_seqs": 0}, {"context": -5}, {"max_batch_tokens": 3}, {"weights": "none"}])
def test_an_impossible_number_is_refused_by_the_flag_that_sets_it(config: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--"):
        EngineConfig(**config)


def test_a_broken_step_reaches_every_waiting_caller_and_later_requests_are_refused() -> None:
    with LLM("bundled", EngineConfig(format="fp32", context=64, max_num_seqs=2)) as broken:
        broken.engine.runner.steps = None  # type: ignore[assignment]  # an invariant breaks
        for _ in range(2):
            with pytest.raises(EngineStoppedError, match="broke"):
                broken.generate(PROMPT, GREEDY)


def test_the_ledger_counts_every_computed_token(llm: LLM) -> None:
    llm.engine.accountant.ledger.reset()
    output = llm.generate(
        "A new prompt that is in no cache", SamplingParams(temperature=0.0, max_tokens=7, ignore_eos=True)
    )
    ledger = llm.engine.accountant.ledger
    assert ledger.prefill.num_tokens == len(output.prompt_ids)
    assert ledger.decode.num_tokens == 6  # the first of the seven came out of the prefill
    assert ledger.decode.seconds > 0 and ledger.prefill.seconds > 0


def test_closing_tells_those_who_wait_and_refuses_who_comes_later() -> None:
    llm = LLM("bundled", EngineConfig(format="fp32", context=512, max_num_seqs=2))
    stream = llm.iterate(llm.request(PROMPT, SamplingParams(ignore_eos=True)))
    next(stream)
    llm.close()
    with pytest.raises(EngineStoppedError, match="closed"):
        list(stream)
    with pytest.raises(EngineStoppedError, match="closed"):
        llm.generate(PROMPT, GREEDY)


def test_a_listener_that_raises_loses_its_request_and_nobody_else_does(llm: LLM) -> None:
    def gone(delta: object) -> None:
        raise RuntimeError("the event loop is closed")

    llm._thread.submit(llm.request(PROMPT, SamplingParams(ignore_eos=True)), gone)
    assert llm.generate(PROMPT, GREEDY).text
    assert not llm.engine.has_unfinished


def test_a_small_model_takes_one_thread_a_large_one_all_and_a_flag_decides() -> None:
    assert resolve_threads(EngineConfig(), 7_000_000, 8) == 1
    assert resolve_threads(EngineConfig(), 2_200_000_000, 8) == 8
    assert resolve_threads(EngineConfig(threads=3), 7_000_000, 8) == 3


def test_one_request_can_not_run_twice_at_once(llm: LLM) -> None:
    request = llm.request(PROMPT, SamplingParams(max_tokens=60, ignore_eos=True))
    first = llm.iterate(request)
    next(first)
    with pytest.raises(RequestError, match="already running"):
        list(llm.iterate(request))


def test_calls_without_params_sample_as_the_model_wants(llm: LLM) -> None:
    assert llm.engine.text.generation_defaults.temperature == 0.7
    assert llm.request(PROMPT).params == llm.engine.text.generation_defaults


def test_a_script_that_ends_while_a_request_runs_ends_cleanly() -> None:
    script = (
        "from farthing import LLM, SamplingParams\n"
        "llm = LLM('bundled')\n"
        "stream = llm.iterate(llm.request('Once upon a time', SamplingParams(ignore_eos=True)))\n"
        "print(next(stream).text)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
