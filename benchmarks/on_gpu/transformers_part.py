"""transformers on the same shape, random weights in bf16: called with its own KV cache, without sampling."""

import statistics
import time
from typing import Any

import torch
import transformers

from farthing.engine.model_files import model_files
from farthing.hub.cache import find_anywhere
from farthing.models.auto import read_config
from on_gpu.reporting import Reporter
from on_gpu.sizes import Sizes
from on_gpu.timing import synchronize

_WARM_STEPS, _STEPS, _REPEATS = 3, 16, 3


def transformers_part(sizes: Sizes, device: torch.device, report: Reporter) -> None:
    values = dict(read_config(model_files(find_anywhere(sizes.model), needs_weights=False)).values)
    config = transformers.LlamaConfig.from_dict(values)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    peer = f"transformers {transformers.__version__}"
    num_tokens = sizes.prefills[0]
    if report.has_time(f"{peer}: prefill"):
        with report.telling(f"{peer}: prefill of {num_tokens:,}"), torch.inference_mode():
            seconds = _prefill(model, num_tokens, device)
            report.row("peer", peer=peer, what="prefill", batch=1, context=0, tokens=num_tokens, seconds=seconds)
    for batch, context in sizes.peers:
        what = f"{peer}: decode, batch {batch}, context {context:,}"
        if report.has_time(what):
            with report.telling(what), torch.inference_mode():
                seconds = _decode(model, batch, context, device)
                report.row(
                    "peer", peer=peer, what="decode", batch=batch, context=context, tokens=batch, seconds=seconds
                )


def _prefill(model: Any, num_tokens: int, device: torch.device) -> float:
    ids = _ids(model, 1, num_tokens, device)
    found = []
    for _ in range(_REPEATS + 1):
        synchronize(device)
        begin = time.perf_counter()
        model(ids, logits_to_keep=1)
        synchronize(device)
        found.append(time.perf_counter() - begin)
    return statistics.median(found[1:])


def _decode(model: Any, batch: int, context: int, device: torch.device) -> float:
    """Seconds of a step."""
    past = model(_ids(model, batch, context, device), use_cache=True, logits_to_keep=1).past_key_values
    for _ in range(_WARM_STEPS):
        model(_ids(model, batch, 1, device), past_key_values=past, use_cache=True)
    ids = _ids(model, batch, 1, device)
    synchronize(device)
    begin = time.perf_counter()
    for _ in range(_STEPS):
        model(ids, past_key_values=past, use_cache=True)
    synchronize(device)
    return (time.perf_counter() - begin) / _STEPS


def _ids(model: Any, batch: int, count: int, device: torch.device) -> torch.Tensor:
    return torch.randint(model.config.vocab_size, (batch, count), device=device)
