"""A worker: llama.cpp as bare calls of llama_decode, without sampling. Arguments: MODEL.gguf THREADS.

Decoding, each sequence has a KV stream of its own, and for mixed steps there is one for all (kv_unified): whatever is
faster. A long context is computed once for all formats and kept beside the model, for each number of streams.
"""

import ctypes
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp as lc
from protocol import MAX_BATCH_TOKENS, answer_lines, random_ids, workload

LONG_CONTEXT = 1024  # from here on a context is kept in a file


@dataclass(slots=True)
class Running:
    """A sequence of `serve`, and what is left of it."""

    position: int
    prompt_left: int
    outputs_left: int


class LlamaCpp:
    def __init__(self, path: Path, num_threads: int) -> None:
        self._quiet = lc.llama_log_callback(lambda level, text, data: None)
        lc.llama_log_set(self._quiet, ctypes.c_void_p(0))
        lc.llama_backend_init()
        self._path, self._num_threads = path, num_threads
        self._model = lc.llama_model_load_from_file(str(path).encode(), lc.llama_model_default_params())
        self._vocab_size = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(self._model))
        self._context = None
        self._shape, self._filled = (0, 0, False), (0, 0)
        self.prefill(128)
        self.decode(1, 32, 2)

    def prefill(self, num_tokens: int) -> float:
        self._open(1, num_tokens)
        self._clear()
        return self._decode(range(num_tokens), [0] * num_tokens, [False] * (num_tokens - 1) + [True])

    def decode(self, batch: int, context: int, num_steps: int) -> float:
        self._open(batch, context + num_steps + 1)
        self._fill(batch, context)
        sequences = range(batch)
        self._decode([context] * batch, sequences, [True] * batch)  # copies what _fill asked for, too
        return sum(
            self._decode([context + step] * batch, sequences, [True] * batch) for step in range(1, num_steps + 1)
        )

    def serve(self, num_requests: int, num_sequences: int, seed: int) -> float:
        """Every step holds a token of each sequence that decodes, and of the prompts what fits; a sequence that ended
        makes place for the next request."""
        waiting = deque(workload(num_requests, seed))
        self._open(num_sequences, max(map(sum, waiting)), unified=True)
        self._clear()
        running: dict[int, Running] = {}
        begin = time.perf_counter()
        while waiting or running:
            for sequence in range(num_sequences):
                if sequence not in running and waiting:
                    running[sequence] = Running(0, *waiting.popleft())
            self._serve_step(running)
        return time.perf_counter() - begin

    def _serve_step(self, running: dict[int, Running]) -> None:
        positions: list[int] = []
        sequences: list[int] = []
        wants_logits: list[bool] = []
        for sequence, state in sorted(running.items(), key=lambda pair: pair[1].prompt_left > 0):
            count = min(state.prompt_left or 1, MAX_BATCH_TOKENS - len(positions))
            if not count:
                break
            state.prompt_left = max(0, state.prompt_left - count)
            samples = not state.prompt_left
            positions += range(state.position, state.position + count)
            sequences += [sequence] * count
            wants_logits += [False] * (count - 1) + [samples]
            state.position += count
            state.outputs_left -= samples
        self._decode(positions, sequences, wants_logits)
        for sequence in [sequence for sequence, state in running.items() if not state.outputs_left]:
            del running[sequence]
            lc.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _open(self, num_sequences: int, room: int, *, unified: bool = False) -> None:
        """A context for so many sequences of so many tokens each; the last one, if it is of that shape."""
        shape = (num_sequences, -(-room // 256) * 256, unified)
        if shape == self._shape:
            return
        if self._context is not None:
            lc.llama_free(self._context)
        options = lc.llama_context_default_params()
        options.n_ctx, options.n_seq_max, options.kv_unified = shape[0] * shape[1], num_sequences, unified
        options.n_ubatch, options.n_threads, options.n_threads_batch = 512, self._num_threads, self._num_threads
        self._context = lc.llama_init_from_model(self._model, options)
        assert self._context is not None, "llama.cpp made no context"
        self._memory = lc.llama_get_memory(self._context)
        self._shape, self._filled = shape, (0, 0)

    def _clear(self) -> None:
        lc.llama_memory_clear(self._memory, True)
        self._filled = (0, 0)

    def _fill(self, batch: int, context: int) -> None:
        """`context` tokens in each sequence and nothing behind them."""
        if self._filled == (batch, context):
            for sequence in range(batch):
                lc.llama_memory_seq_rm(self._memory, sequence, context, -1)
            return
        self._clear()
        kept = self._path.with_name(f"context-{context}-of-{batch}.llama.cpp")
        tokens, count = (lc.llama_token * context)(), ctypes.c_size_t()
        if not kept.exists() or not lc.llama_state_seq_load_file(
            self._context, str(kept).encode(), 0, tokens, context, ctypes.byref(count)
        ):
            for start in range(0, context, MAX_BATCH_TOKENS):
                end = min(context, start + MAX_BATCH_TOKENS)
                self._decode(range(start, end), [0] * (end - start), [False] * (end - start))
            if context >= LONG_CONTEXT:
                lc.llama_state_seq_save_file(self._context, str(kept).encode(), 0, tokens, context)
        for sequence in range(1, batch):
            lc.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        self._filled = (batch, context)

    def _decode(self, positions: Sequence[int], sequences: Sequence[int], wants_logits: Sequence[bool]) -> float:
        """Seconds of the call alone."""
        count = len(positions)
        batch = lc.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for index, token in enumerate(random_ids(count, self._vocab_size)):
            batch.token[index], batch.pos[index] = token, positions[index]
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequences[index]
            batch.logits[index] = wants_logits[index]
        begin = time.perf_counter()
        code = lc.llama_decode(self._context, batch)
        lc.llama_synchronize(self._context)
        seconds = time.perf_counter() - begin
        lc.llama_batch_free(batch)
        if code:
            raise RuntimeError(f"llama_decode answered {code}")
        return seconds


if __name__ == "__main__":
    answer_lines(lambda: LlamaCpp(Path(sys.argv[1]), int(sys.argv[2])))
