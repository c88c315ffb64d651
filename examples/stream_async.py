"""Two answers streamed at once, computed in the same batches: python examples/stream_async.py"""

import asyncio

from farthing import LLM, SamplingParams

PARAMS = SamplingParams(temperature=0.7, max_tokens=30, seed=7)


async def show(llm: LLM, name: str, prompt: str) -> None:
    async for delta in llm.stream(llm.request(prompt, PARAMS)):  # leaving this loop early cancels the request
        print(f"{name}: {delta.text!r}" + (f" ({delta.finish_reason})" if delta.finish_reason else ""))


async def main() -> None:
    with LLM("bundled") as llm:
        await asyncio.gather(show(llm, "left ", "Once upon a time"), show(llm, "right", "One day, a little girl"))


asyncio.run(main())
