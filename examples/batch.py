"""Many prompts, each continued twice, against the same prompts one by one: python examples/batch.py"""

import time

from farthing import LLM, SamplingParams

PROMPTS = [f"{start} {who}" for start in ("Once upon a time", "One day,", "Long ago,") for who in ("a fox", "a girl")]
PARAMS = SamplingParams(temperature=0.7, max_tokens=60, seed=7, n=2)


def num_tokens(outputs: list) -> int:
    return sum(len(completion.token_ids) for output in outputs for completion in output.completions)


with LLM("bundled") as llm:
    llm.generate("Hello")  # the first request pays for what torch sets up once
    for name, run in {
        "together": lambda: llm.generate(PROMPTS, PARAMS),
        "one by one": lambda: [llm.generate(prompt, PARAMS) for prompt in PROMPTS],
    }.items():
        started = time.perf_counter()
        outputs = run()
        seconds = time.perf_counter() - started
        print(f"{name:10}  {num_tokens(outputs)} tokens in {seconds:.2f} s")
    for output in outputs[:2]:
        for completion in output.completions:
            print(f"\n{completion.index}: {completion.text}")
