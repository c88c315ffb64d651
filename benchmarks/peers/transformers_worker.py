"""A worker: transformers in bf16, the model called with its KV cache, without sampling. Arguments: MODEL THREADS."""

import sys
import time

import torch
from protocol import answer_lines, random_ids
from transformers import AutoModelForCausalLM


class Transformers:
    def __init__(self, model: str, num_threads: int) -> None:
        torch.set_num_threads(num_threads)
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).eval()
        self.prefill(128)
        self.decode(1, 32, 2)

    @torch.inference_mode()
    def prefill(self, num_tokens: int) -> float:
        ids = self._ids(1, num_tokens)
        begin = time.perf_counter()
        self._model(ids, logits_to_keep=1)
        return time.perf_counter() - begin

    @torch.inference_mode()
    def decode(self, batch: int, context: int, num_steps: int) -> float:
        past = self._model(self._ids(batch, context), use_cache=True, logits_to_keep=1).past_key_values
        ids = [self._ids(batch, 1) for _ in range(num_steps + 1)]
        self._model(ids.pop(), past_key_values=past, use_cache=True)
        begin = time.perf_counter()
        for last in ids:
            self._model(last, past_key_values=past, use_cache=True)
        return time.perf_counter() - begin

    def _ids(self, batch: int, count: int) -> torch.Tensor:
        return torch.tensor([random_ids(count, self._model.config.vocab_size) for _ in range(batch)])


if __name__ == "__main__":
    answer_lines(lambda: Transformers(sys.argv[1], int(sys.argv[2])))
