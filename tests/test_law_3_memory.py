"""Law 3: one memory plan. What is allocated is what was forecast, and the process takes what the plan says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
MEASURE = """
import json, sys, threading, time
from farthing.engine.config import EngineConfig
from farthing.engine.llm import LLM
from farthing.runtime.process_memory import process_bytes
from farthing.sampling_params import SamplingParams

peak, running = 0, True
def watch():
    global peak
    while running:
        peak = max(peak, process_bytes())
        time.sleep(0.005)
watcher = threading.Thread(target=watch, daemon=True); watcher.start()
llm = LLM(sys.argv[1], EngineConfig(
    weights="random", format=sys.argv[2], kv_format=sys.argv[3], context=1024, max_num_seqs=8
))
plan, memory = llm.engine.plan.memory, llm.engine.memory
llm.generate([[5] * 700, [6] * 600, [7] * 30], SamplingParams(temperature=0.0, max_tokens=3))
running = False; watcher.join(); llm.close()
print(json.dumps({
    "kernels": llm.engine.plan.kernels.name,
    "forecast": plan.total_bytes,
    "peak": peak,
    "kv_tokens": plan.kv_tokens,
    "planned": plan.weights_bytes + plan.kv_bytes,
    "allocated": sum(memory.bytes_by_use.values()),
    "pool": llm.engine.scheduler.block_pool.num_available * plan.block_size,
}))
"""


@pytest.mark.parametrize(
    ("weight_format", "kv_format"), [("fp32", "auto"), ("w8a8", "auto"), ("w4a8", "auto"), ("w8a8", "int8")]
)
def test_the_process_takes_the_memory_that_the_plan_says(weight_format: str, kv_format: str, tmp_path: Path) -> None:
    """Allocated bytes within 2 % of the forecast (here: equal); RssAnon at its peak within 5 % or 300 MiB. Compiled
    kernels lay weights out anew in the same memory."""
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    command = [sys.executable, "-c", MEASURE, str(tmp_path), weight_format, kv_format]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(result.stdout)
    assert found["kernels"].startswith("native") or shutil.which("c++") is None
    assert found["allocated"] == found["planned"]
    assert found["pool"] == found["kv_tokens"], "an idle pool holds all the KV tokens that were forecast"
    assert abs(found["peak"] - found["forecast"]) <= max(0.05 * found["forecast"], 300 * 2**20), found


MEASURE_GPU = """
import json, sys, threading, time
import torch
from farthing.hardware.machine import gpus
free_before = gpus()[0].free_bytes
from farthing.engine.config import EngineConfig
from farthing.engine.llm import LLM
from farthing.sampling_params import SamplingParams

peak, running = 0, True
def watch():
    global peak
    while running:
        peak = max(peak, free_before - torch.cuda.mem_get_info()[0])
        time.sleep(0.002)
torch.cuda.init()
watcher = threading.Thread(target=watch, daemon=True); watcher.start()
llm = LLM(sys.argv[1], EngineConfig(
    device="cuda", weights="random", format=sys.argv[2], context=2048, max_num_seqs=32, max_batch_tokens=2048
))
plan, memory, steps = llm.engine.plan.memory, llm.engine.memory, llm.engine.runner.steps
llm.generate([[5] * 1900, [6] * 600, *([[7] * 30] * 30)], SamplingParams(temperature=0.0, max_tokens=8))
running = False; watcher.join(); llm.close()
print(json.dumps({
    "kernels": llm.engine.plan.kernels.name,
    "forecast": plan.total_bytes,
    "peak": peak,
    "planned": plan.weights_bytes + plan.kv_bytes,
    "allocated": sum(memory.bytes_by_use.values()),
    "held": torch.cuda.max_memory_allocated(),
    "graphs": [plan.graph_bytes, getattr(steps, "taken_bytes", 0)],
}))
"""
LARGER = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
          "num_key_value_heads": 4, "torch_dtype": "bfloat16", "tie_word_embeddings": False}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none")
@pytest.mark.parametrize("weight_format", ["bf16", "int8", "int4", "fp8"])
def test_a_gpu_gives_the_memory_that_the_plan_says(weight_format: str, tmp_path: Path) -> None:
    """A model of 1.1 billion parameters: allocated bytes equal to the forecast, memory in use at its peak, with context
    and graphs, within 5 % or 300 MiB."""
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **LARGER}))
    command = [sys.executable, "-c", MEASURE_GPU, str(tmp_path), weight_format]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(result.stdout)
    print(weight_format, found)
    assert found["allocated"] == found["planned"] <= found["held"]
    assert abs(found["peak"] - found["forecast"]) <= max(0.05 * found["forecast"], 300 * 2**20), found
