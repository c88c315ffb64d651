"""A worker: Farthing's model runner below the engine, step by step. Arguments: MODEL FORMAT THREADS."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from protocol import MAX_BATCH_TOKENS, answer_lines, random_ids

from farthing.engine.config import EngineConfig
from farthing.engine.plan import plan_engine
from farthing.runtime.device import Memory, use_threads
from farthing.runtime.inputs import Limits
from farthing.runtime.loader import load_weights
from farthing.runtime.model_runner import ModelRunner
from farthing.scheduler.batch import Batch, BatchItem

MAX_SEQUENCES, CONTEXT = 64, 4096
KV_TOKENS = 16 * CONTEXT


class FarthingSteps:
    """Steps of chosen shapes, without scheduler and sampling; a decode step includes filling its inputs."""

    def __init__(self, model: str, weight_format: str, num_threads: int) -> None:
        config = EngineConfig(
            format=weight_format,
            context=CONTEXT,
            device="cpu",
            threads=num_threads,
            max_num_seqs=MAX_SEQUENCES,
            max_batch_tokens=MAX_BATCH_TOKENS,
        )
        plan = plan_engine(model, config)
        use_threads(plan.num_threads)
        pool = replace(plan.memory, num_blocks=min(plan.memory.num_blocks, KV_TOKENS // plan.memory.block_size))
        memory = Memory(plan.device)
        tensors, frequencies = load_weights(plan.spec, plan.path, memory, lambda done, total: None)
        limits = Limits(MAX_BATCH_TOKENS, MAX_SEQUENCES, CONTEXT)
        self._runner = ModelRunner(plan.spec, pool, tensors, frequencies, plan.kernels, memory, limits)
        self._vocab_size, self._block_size = plan.spec.vocab_size, pool.block_size
        self.prefill(MAX_BATCH_TOKENS)
        self.decode(1, 32, 2)

    def prefill(self, num_tokens: int) -> float:
        """In chunks, as the scheduler would; logits of the last token alone."""
        tables = self._tables(1, num_tokens)
        starts = range(0, num_tokens, MAX_BATCH_TOKENS)
        chunks = [(start, min(MAX_BATCH_TOKENS, num_tokens - start)) for start in starts]
        return sum(self._step([chunk], tables, samples=chunk is chunks[-1]) for chunk in chunks)

    def decode(self, batch: int, context: int, num_steps: int) -> float:
        tables = self._tables(batch, context + num_steps + 1)
        self._step([(context, 1)] * batch, tables)
        return sum(self._step([(context + step, 1)] * batch, tables) for step in range(1, num_steps + 1))

    def _tables(self, batch: int, room: int) -> list[tuple[int, ...]]:
        """Blocks for `room` tokens of each sequence."""
        num_blocks = -(-room // self._block_size)
        return [tuple(range(index * num_blocks, (index + 1) * num_blocks)) for index in range(batch)]

    @torch.inference_mode()
    def _step(
        self, parts: Sequence[tuple[int, int]], tables: Sequence[tuple[int, ...]], *, samples: bool = True
    ) -> float:
        """`parts`: (position, new tokens) of each sequence."""
        items = [
            BatchItem(index, start, tuple(random_ids(count, self._vocab_size)), blocks, samples, 0)
            for index, ((start, count), blocks) in enumerate(zip(parts, tables, strict=True))
        ]
        batch = Batch(0, tuple(items))
        begin = time.perf_counter()
        x_RH = self._runner.steps.hidden(self._runner.buffers.fill(batch))
        if samples:
            self._runner.steps.logits(x_RH)
        return time.perf_counter() - begin


if __name__ == "__main__":
    answer_lines(lambda: FarthingSteps(sys.argv[1], sys.argv[2], int(sys.argv[3])))
