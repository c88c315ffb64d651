"""A conversation; each answer sees those before it, whose KV blocks are reused: python examples/chat.py"""

from farthing import LLM, SamplingParams

params = SamplingParams(temperature=0.7, max_tokens=120, seed=7)
messages = []

with LLM("bundled") as llm:
    for question in ("Hello!", "Tell me a story about a fox.", "Thank you!"):
        messages.append({"role": "user", "content": question})
        output = llm.chat(messages, params)
        messages.append({"role": "assistant", "content": output.text})
        print(f"> {question}\n{output.text}\n")
        print(f"  [prompt of {len(output.prompt_ids)} tokens, {output.num_cached_tokens} of them cached]")
