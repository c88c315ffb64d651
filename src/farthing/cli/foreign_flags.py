"""Flags that people bring from other tools (vLLM, SGLang, llama.cpp, TensorRT-LLM) and what does the same here.

Knows names only; cli/app.py tells the hint where a command does not know the flag.
"""

import re
from collections.abc import Collection

# Theirs -> ours, and a word where a value means something else.
_HINTS = {
    "--quantization": "--format int8, int4 or fp8",
    "-q": "--format int8, int4 or fp8",
    "--dtype": "--format bf16, fp16 or fp32",
    "--load-format": "nothing: the format of the files is read from them",
    "--max-model-len": "--context",
    "--context-length": "--context",
    "--ctx-size": "--context",
    "-c": "--context",
    "--n-ctx": "--context",
    "--max-seq-len": "--context",
    "--tensor-parallel-size": "--tp",
    "-tp": "--tp",
    "--tp-size": "--tp",
    "--pipeline-parallel-size": "--pp",
    "-pp": "--pp",
    "--pp-size": "--pp",
    "--data-parallel-size": "--replicas",
    "-dp": "--replicas",
    "--dp-size": "--replicas",
    "--gpu-memory-utilization": "--memory, as a share (85%) or a size (20GiB)",
    "--mem-fraction-static": "--memory, as a share (85%) or a size (20GiB)",
    "--kv-cache-dtype": "--kv-format",
    "--cache-type-k": "--kv-format",
    "--cache-type-v": "--kv-format",
    "-ctk": "--kv-format",
    "-ctv": "--kv-format",
    "--max-num-batched-tokens": "--max-batch-tokens",
    "--chunked-prefill-size": "--max-batch-tokens",
    "--ubatch-size": "--max-batch-tokens",
    "-ub": "--max-batch-tokens",
    "--max-running-requests": "--max-num-seqs",
    "--parallel": "--max-num-seqs",
    "-np": "--max-num-seqs",
    "--n-gpu-layers": "nothing: a device holds all layers of its stage; --device cpu or cuda chooses, --pp divides",
    "-ngl": "nothing: a device holds all layers of its stage; --device cpu or cuda chooses, --pp divides",
    "--n-predict": "--max-tokens (run), --output-tokens (plan)",
    "-n": "--max-tokens (run), --output-tokens (plan)",
    "--input-len": "--input-tokens",
    "--output-len": "--output-tokens",
    "--batch-size": "--batch",
    "-b": "--batch",
    "--gpu": "--on",
    "--gpus": "--on, with the count: 8x4090",
    "--hardware": "--on",
    "--model-path": "the first argument",
    "--enable-prefix-caching": "nothing: it is on; --no-prefix-caching turns it off",
    "--trust-remote-code": "nothing: code that a checkpoint brings is never executed",
}


_SEVERAL_DEVICES = ("--tp", "--pp", "--replicas")


def hint(flag: str, known: Collection[str]) -> str | None:
    """What the flag is here, as "here it is --context". None for a flag that no other tool has, or if the command at
    hand, which has the `known` flags, has nothing like it."""
    ours = _HINTS.get(flag.partition("=")[0])
    if ours is None:
        return None
    named = re.findall(r"--[a-z][a-z-]*", ours)
    if ours in _SEVERAL_DEVICES and ours not in known:
        return f"one device is used; farthing plan MODEL --on HW {ours} plans more"
    return f"here it is {ours}" if not named or any(name in known for name in named) else None
