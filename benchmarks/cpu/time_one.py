"""Times one system on one model in a process of its own: prefill of 512 tokens (or what the context holds), decode at
batch 1, 4, 8, 16 after 32 tokens each. Prints one JSON line of tokens/s.

Usage: python benchmarks/cpu/time_one.py {farthing|transformers|llama.cpp} MODEL FORMAT NUM_DECODE_STEPS
Random token ids: speed does not depend on them. One warm-up of each shape is not counted.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BATCHES = (1, 4, 8, 16)
CONTEXT = 32
THREADS = 2


def random_ids(rng: np.random.Generator, vocab_size: int, count: int) -> list[int]:
    return rng.integers(3, vocab_size, count).tolist()


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_farthing(model: str, weight_format: str, num_steps: int) -> dict[str, float]:
    from farthing.engine.config import EngineConfig
    from farthing.engine.llm import LLM
    from farthing.sampling_params import SamplingParams

    invariant = weight_format.endswith("+invariant")
    config = EngineConfig(
        format=weight_format.removesuffix("+invariant"),
        prefix_caching=False,
        max_num_seqs=16,
        batch_invariant=invariant,
    )
    rng, found = np.random.default_rng(0), {}
    with LLM(model, config) as llm:
        spec, ledger = llm.engine.plan.spec, llm.engine.accountant.ledger
        prompt_tokens = min(512, llm.engine.plan.context - 2)

        def measure(batch: int, prompt: int, steps: int) -> None:
            params = SamplingParams(temperature=0.0, max_tokens=steps, ignore_eos=True)
            llm.generate([random_ids(rng, spec.vocab_size, prompt) for _ in range(batch)], params)

        measure(1, 64, 2)
        ledger.reset()
        measure(1, prompt_tokens, 1)
        found["prefill"] = ledger.prefill.tokens_per_second
        for batch in BATCHES:
            ledger.reset()
            measure(batch, CONTEXT, num_steps + 1)
            found[f"decode b{batch}"] = ledger.decode.tokens_per_second
            if batch == 1 and ledger.decode.share_of_limit:
                found["share of limit b1"] = ledger.decode.share_of_limit
                forecast = llm.engine.plan.calibration and _forecast(llm)
                found["forecast b1"] = forecast or 0.0
    return found


def _forecast(llm: Any) -> float:
    from farthing.engine.accounts.step_price import forecast
    from farthing.ops.batch import BatchShape

    plan = llm.engine.plan
    return 1 / forecast(plan.spec, BatchShape.decode(CONTEXT), plan.calibration).seconds


def time_transformers(model: str, weight_format: str, num_steps: int) -> dict[str, float]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[weight_format]
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
    rng, found = np.random.default_rng(0), {}
    prompt_tokens = min(512, loaded.config.max_position_embeddings - 2)

    def ids(batch: int, count: int) -> Any:
        return torch.tensor([random_ids(rng, loaded.config.vocab_size, count) for _ in range(batch)])

    def generate(batch: int, steps: int) -> float:
        options = {"max_new_tokens": steps, "min_new_tokens": steps, "do_sample": False, "pad_token_id": 0}
        prompt = ids(batch, CONTEXT)
        return seconds(lambda: loaded.generate(prompt, **options))

    with torch.inference_mode():
        loaded(ids(1, prompt_tokens), logits_to_keep=1)
        prompt = ids(1, prompt_tokens)
        found["prefill"] = prompt_tokens / seconds(lambda: loaded(prompt, logits_to_keep=1))
        for batch in BATCHES:
            first = generate(batch, 1)
            found[f"decode b{batch}"] = num_steps * batch / (generate(batch, num_steps + 1) - first)
    return found


def time_llama_cpp(model: str, weight_format: str, num_steps: int) -> dict[str, float]:
    import llama_cpp as lc

    quiet = lc.llama_log_callback(lambda level, text, data: None)
    lc.llama_log_set(quiet, ctypes.c_void_p(0))
    lc.llama_backend_init()
    path = _quantized(lc, model, weight_format)
    loaded = lc.llama_model_load_from_file(path.encode(), lc.llama_model_default_params())
    options = lc.llama_context_default_params()
    options.n_ctx, options.n_batch, options.n_ubatch, options.n_seq_max = 8192, 512, 512, 16
    options.n_threads = options.n_threads_batch = THREADS
    options.kv_unified = True
    context = lc.llama_init_from_model(loaded, options)
    vocab_size = lc.llama_vocab_n_tokens(lc.llama_model_get_vocab(loaded))
    rng, found = np.random.default_rng(0), {}
    prompt_tokens = min(512, lc.llama_model_n_ctx_train(loaded) - 2)

    def decode(positions: list[int], sequences: list[int], wants_logits: list[bool]) -> None:
        count = len(positions)
        batch = lc.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for index, token in enumerate(random_ids(rng, vocab_size, count)):
            batch.token[index], batch.pos[index] = token, positions[index]
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequences[index]
            batch.logits[index] = wants_logits[index]
        assert lc.llama_decode(context, batch) == 0
        lc.llama_synchronize(context)
        lc.llama_batch_free(batch)

    def prefill(count: int, sequence: int) -> None:
        decode(list(range(count)), [sequence] * count, [False] * (count - 1) + [True])

    def clear() -> None:
        lc.llama_memory_clear(lc.llama_get_memory(context), True)

    prefill(64, 0)
    clear()
    found["prefill"] = prompt_tokens / seconds(lambda: prefill(prompt_tokens, 0))
    for count in BATCHES:
        clear()
        for sequence in range(count):
            prefill(CONTEXT, sequence)

        def steps(count: int = count) -> None:
            for step in range(num_steps):
                decode([CONTEXT + step] * count, list(range(count)), [True] * count)

        found[f"decode b{count}"] = num_steps * count / seconds(steps)
    return found


def _quantized(lc: Any, model: str, weight_format: str) -> str:
    """The f16 file itself, or the same in another type, made beside it once."""
    types = {"bf16": 32, "q8_0": 7, "q4_0": 2}
    out = Path(model).with_suffix(f".{weight_format}.gguf")
    if weight_format == "f16":
        return model
    if not out.exists():
        options = lc.llama_model_quantize_default_params()
        options.ftype, options.nthread, options.pure = types[weight_format], THREADS, True
        assert lc.llama_model_quantize(model.encode(), str(out).encode(), ctypes.byref(options)) == 0
    return str(out)


SYSTEMS = {"farthing": time_farthing, "transformers": time_transformers, "llama.cpp": time_llama_cpp}

if __name__ == "__main__":
    system, model, weight_format, num_steps = sys.argv[1:]
    print(json.dumps(SYSTEMS[system](model, weight_format, int(num_steps))))
