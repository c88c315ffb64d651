"""Continue one prompt, and see how sure the model was of each token: python examples/generate.py"""

import math

from farthing import LLM, SamplingParams

PROMPT = "Once upon a time"
params = SamplingParams(temperature=0.7, max_tokens=60, seed=7, logprobs=2)

with LLM("bundled") as llm:  # or a folder with config.json, or a .gguf file
    output = llm.generate(PROMPT, params)
    completion = output.completions[0]
    print(f"{PROMPT}{output.text}")
    print(f"\n{len(completion.token_ids)} tokens, ended by {completion.finish_reason}; the first ten:")
    tokenizer = llm.engine.text.tokenizer
    for token in completion.logprobs[:10]:
        likely = ", ".join(
            f"{tokenizer.decode([token_id])!r} {math.exp(logprob):.2f}" for token_id, logprob in token.top
        )
        print(f"  {tokenizer.decode([token.token_id])!r:12} p = {math.exp(token.logprob):.2f}   most likely: {likely}")
