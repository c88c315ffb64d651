"""Tokens/s with and without speculation, on texts that repeat themselves and on one that does not; a Markdown table.

Usage: python benchmarks/cpu/speculation.py [MODEL] [--format F] [--weights random] [--rounds N]
Both engines live in one process and answer in turn; figures are medians of the rounds, and the answers must be equal.
The machine is measured first if it never was: `auto` needs the forecast.
"""

import argparse
import statistics
import time
from dataclasses import replace

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.llm import LLM
from farthing.engine.plan import plan_engine
from farthing.engine.plan_line import measured
from farthing.sampling_params import SamplingParams

GREEDY = SamplingParams(temperature=0.0, max_tokens=240, ignore_eos=True)
SAMPLED = replace(GREEDY, temperature=1.0, seed=3)
REPEATING = "The cat sat on the mat. The dog sat on the rug. " * 4
STORY = "Once upon a time, there was a little"
WORK = (
    ("repeating prompt, greedy", [REPEATING], GREEDY),
    ("repeating prompt, greedy, batch 4", [REPEATING] * 4, GREEDY),
    ("repeating prompt, greedy, batch 16", [REPEATING] * 16, GREEDY),
    ("story, greedy", [STORY], GREEDY),
    ("story, temperature 1 (hardly repeats)", [STORY], SAMPLED),
    ("story, temperature 1, batch 4", [STORY] * 4, SAMPLED),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", default="bundled")
    parser.add_argument("--format", default="auto")
    parser.add_argument("--weights", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    config = EngineConfig(format=asked.format, weights=asked.weights, speculation="off")
    plain_plan = measured(plan_engine(asked.model, config))
    plan = replace(plain_plan, config=replace(plain_plan.config, speculation="auto"))
    print(f"{plan.name}, {plan.spec.precision.format.name}, {plan.kernels.name}, {plan.num_threads} threads\n")
    print("| text | off | auto | auto / off | drafted | of these right |\n|---|--:|--:|--:|--:|--:|")
    with LLM(engine=Engine(plain_plan)) as plain, LLM(engine=Engine(plan)) as drafting:
        for name, prompts, params in WORK:
            if asked.weights == "random":  # no tokenizer: any ids will do
                prompts = [list(prompt.encode()) for prompt in prompts]
            print(row(name, plain, drafting, prompts, params, asked.rounds), flush=True)


def row(name: str, plain: LLM, drafting: LLM, prompts: list, params: SamplingParams, num_rounds: int) -> str:
    stats = drafting.engine.scheduler.stats
    timed(plain, prompts, params), timed(drafting, prompts, params)  # warm, and the prompts are cached
    before, pairs = (stats.num_draft_tokens, stats.num_accepted_tokens), []
    for _ in range(num_rounds):
        (off, answers), (auto, same) = timed(plain, prompts, params), timed(drafting, prompts, params)
        assert answers == same, "speculation changed an answer"
        pairs.append((off, auto, auto / off))
    off, auto, ratio = (statistics.median(values) for values in zip(*pairs, strict=True))
    drafted, right = stats.num_draft_tokens - before[0], stats.num_accepted_tokens - before[1]
    share = drafted / (num_rounds * len(prompts) * (params.max_tokens or 1))
    right_share = f"{right / drafted:.0%}" if drafted else "-"
    return f"| {name} | {off:,.0f} | {auto:,.0f} | {ratio:.2f}x | {share:.2f} a token | {right_share} |"


def timed(llm: LLM, prompts: list, params: SamplingParams) -> tuple[float, list[list[int]]]:
    """Tokens/s, and the answers."""
    started = time.perf_counter()
    answers = [output.completions[0].token_ids for output in llm.generate(prompts, params)]
    return sum(map(len, answers)) / (time.perf_counter() - started), answers


if __name__ == "__main__":
    main()
