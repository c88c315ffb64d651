"""A worker: Farthing as its users call it, `LLM.generate` with scheduler and greedy sampling.

Arguments: MODEL FORMAT THREADS; 0 threads: as many as it chooses.
"""

import sys
import time

from protocol import MAX_BATCH_TOKENS, answer_lines, random_ids, workload

from farthing.engine.config import EngineConfig
from farthing.engine.llm import LLM
from farthing.sampling_params import SamplingParams

MAX_SEQUENCES = 16


class FarthingLLM:
    def __init__(self, model: str, weight_format: str, num_threads: int) -> None:
        config = EngineConfig(
            format=weight_format,
            device="cpu",
            threads=num_threads or None,
            max_num_seqs=MAX_SEQUENCES,
            max_batch_tokens=MAX_BATCH_TOKENS,
            prefix_caching=False,
            speculation="off",  # random weights fall into loops, which are easy to guess
        )
        self._llm = LLM(model, config)
        self._vocab_size = self._llm.engine.plan.spec.vocab_size
        self.decode(2, 32, 2)

    def decode(self, batch: int, context: int, num_steps: int) -> float:
        """What `num_steps` tokens more than one take."""
        prompts = [random_ids(context, self._vocab_size) for _ in range(batch)]
        first = self._generate(prompts, [1] * batch)
        return self._generate(prompts, [num_steps + 1] * batch) - first

    def serve(self, num_requests: int, num_sequences: int, seed: int) -> float:
        assert num_sequences == MAX_SEQUENCES
        lengths = workload(num_requests, seed)
        prompts = [random_ids(num_tokens, self._vocab_size) for num_tokens, _ in lengths]
        return self._generate(prompts, [num_outputs for _, num_outputs in lengths])

    def _generate(self, prompts: list[list[int]], num_outputs: list[int]) -> float:
        params = [SamplingParams(temperature=0.0, max_tokens=count, ignore_eos=True) for count in num_outputs]
        begin = time.perf_counter()
        self._llm.generate(prompts, params)
        return time.perf_counter() - begin


if __name__ == "__main__":
    answer_lines(lambda: FarthingLLM(sys.argv[1], sys.argv[2], int(sys.argv[3])))
