"""A worker: CTranslate2's Generator. Arguments: CONVERTED_FOLDER THREADS."""

import json
import sys
import time
from pathlib import Path

import ctranslate2
from protocol import FIRST_ID, answer_lines, random_ids


class CTranslate2:
    def __init__(self, folder: str, num_threads: int) -> None:
        self._tokens = json.loads((Path(folder) / "vocabulary.json").read_text(encoding="utf-8"))
        assert len(self._tokens) > FIRST_ID
        self._generator = ctranslate2.Generator(folder, device="cpu", intra_threads=num_threads)
        self.prefill(128)
        self.decode(1, 32, 2)

    def prefill(self, num_tokens: int) -> float:
        """With the sampling of one token, without which it computes nothing."""
        return self._generate(self._prompts(1, num_tokens), 1)

    def decode(self, batch: int, context: int, num_steps: int) -> float:
        """What `num_steps` tokens more than one take."""
        prompts = self._prompts(batch, context)
        first = self._generate(prompts, 1)
        return self._generate(prompts, num_steps + 1) - first

    def _prompts(self, batch: int, num_tokens: int) -> list[list[str]]:
        return [[self._tokens[token] for token in random_ids(num_tokens, len(self._tokens))] for _ in range(batch)]

    def _generate(self, prompts: list[list[str]], num_outputs: int) -> float:
        begin = time.perf_counter()
        self._generator.generate_batch(
            prompts, min_length=num_outputs, max_length=num_outputs, include_prompt_in_result=False
        )
        return time.perf_counter() - begin


if __name__ == "__main__":
    answer_lines(lambda: CTranslate2(sys.argv[1], int(sys.argv[2])))
