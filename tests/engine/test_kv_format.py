"""The KV cache in int8 through the whole engine: shared prefixes and preemption answer as one request alone does."""

from dataclasses import replace

from farthing import LLM, SamplingParams
from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.request import Request

GREEDY = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True)
SAMPLED = replace(GREEDY, temperature=1.0, seed=3)
CONFIG = EngineConfig(kv_format="int8", format="fp32", context=256, max_num_seqs=8, block_size=4)
PROMPTS = ["Once upon a time, there was a little fox", "Once upon a time, there was a little owl who", "It was cold"]


def answers(llm: LLM, params: SamplingParams) -> list[list[int]]:
    return [output.completions[0].token_ids for output in llm.generate(PROMPTS, params)]


def test_answers_from_shared_prefixes_are_those_without() -> None:
    with LLM("bundled", replace(CONFIG, prefix_caching=False)) as plain, LLM("bundled", CONFIG) as sharing:
        for params in (GREEDY, SAMPLED):
            expected = [plain.generate(prompt, params).completions[0].token_ids for prompt in PROMPTS]
            assert answers(sharing, params) == answers(sharing, params) == expected
        assert sharing.engine.scheduler.stats.num_cached_tokens > 0


def test_preempted_sequences_answer_as_those_that_never_had_to_wait() -> None:
    expected, preemptions = answers_with_blocks(400)
    assert preemptions == 0
    found, preemptions = answers_with_blocks(60)
    assert preemptions > 0 and found == expected


def answers_with_blocks(num_blocks: int) -> tuple[list[list[int]], int]:
    plan = plan_engine("bundled", CONFIG)
    engine = Engine(replace(plan, memory=replace(plan.memory, num_blocks=num_blocks)), with_template=False)
    prompt = tuple(engine.text.encode(PROMPTS[0]))
    found: dict[str, list[int]] = {str(number): [] for number in range(5)}
    for number in range(5):
        engine.add(Request(str(number), prompt[number:], SAMPLED if number % 2 else GREEDY, seed=number))
    while engine.has_unfinished:
        for delta in engine.step():
            found[delta.request_id] += delta.token_ids
    preemptions = engine.scheduler.stats.num_preemptions
    engine.close()
    return list(found.values()), preemptions


def test_the_cache_holds_almost_twice_the_tokens_of_16_bits_in_the_same_memory() -> None:
    narrow, plain = (
        plan_engine("bundled", replace(CONFIG, format="bf16", kv_format=name)).spec for name in ("int8", "auto")
    )
    row = plain.layers[0].attention.head_dim
    assert narrow.kv_bytes_per_token * 2 * row == plain.kv_bytes_per_token * (row + 4)
