"""A worker: OpenVINO GenAI on a GGUF file. Arguments: MODEL.gguf THREADS."""

import sys
import time

import numpy as np
import openvino
import openvino_genai
from protocol import answer_lines, random_ids

VOCAB_SIZE = 32_000


class OpenVino:
    def __init__(self, path: str, num_threads: int) -> None:
        self._pipeline = openvino_genai.LLMPipeline(path, "CPU", INFERENCE_NUM_THREADS=num_threads)
        self.prefill(128)
        self.decode(1, 32, 2)

    def prefill(self, num_tokens: int) -> float:
        """With the sampling of one token."""
        return self._generate(self._prompts(1, num_tokens), 1)

    def decode(self, batch: int, context: int, num_steps: int) -> float:
        """What `num_steps` tokens more than one take; other prompts, for it keeps those that it has seen."""
        first = self._generate(self._prompts(batch, context), 1)
        return self._generate(self._prompts(batch, context), num_steps + 1) - first

    def _prompts(self, batch: int, num_tokens: int) -> openvino_genai.TokenizedInputs:
        ids = np.array([random_ids(num_tokens, VOCAB_SIZE) for _ in range(batch)], dtype=np.int64)
        return openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))

    def _generate(self, prompts: openvino_genai.TokenizedInputs, num_outputs: int) -> float:
        options = openvino_genai.GenerationConfig(
            max_new_tokens=num_outputs, min_new_tokens=num_outputs, ignore_eos=True, do_sample=False
        )
        begin = time.perf_counter()
        self._pipeline.generate(prompts, options)
        return time.perf_counter() - begin


if __name__ == "__main__":
    answer_lines(lambda: OpenVino(sys.argv[1], int(sys.argv[2])))
