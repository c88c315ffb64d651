"""Perplexity of the small trained models in every format of a CPU, and of the same weights through ggml's Q4_0.

    python scripts/quality.py --artefacts ../shared --output benchmarks/quality.md

Texts are documents that were held out when the bundled model was trained: stories and prose for the bundled model;
stories alone for stories260K, which never saw any of them. Knows models below the engine: descriptions, kernels.
"""

import argparse
import gzip
import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from farthing.engine.config import EngineConfig
from farthing.engine.model_text import load_model_text
from farthing.engine.plan import plan_engine
from farthing.kernels.reference import ReferenceKernels
from farthing.models.reference import find_model
from farthing.ops.linear import Linear
from farthing.runtime.device import Memory
from farthing.runtime.inputs import Limits
from farthing.runtime.loader import load_weights
from farthing.runtime.model_runner import ModelRunner
from farthing.scheduler.batch import Batch, BatchItem

HELD_OUT = Path(__file__).resolve().parents[1] / "tests" / "data" / "heldout.jsonl.gz"
FORMATS = ("fp32", "fp32 kv8", "bf16", "bf16 kv8", "int8", "int8 kv8", "int4", "w4a8-g64", "w4a8-g128", "q4_0")
_CONTEXT = 512


@dataclass(frozen=True, slots=True)
class Subject:
    """A model and the texts that it is judged by."""

    name: str
    path: Path
    texts: tuple[str, ...]


def subjects(artefacts: Path) -> tuple[Subject, ...]:
    with gzip.open(HELD_OUT, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    stories = [document["text"] for document in documents if document["kind"] == "story"]
    told = [document["text"] for document in documents if document["kind"] != "chat"]
    stories260k = artefacts / "fixtures" / "checkpoints" / "stories260K.gguf"
    return (
        Subject("bundled", find_model("bundled").path, tuple(told[::12])),
        Subject("stories260K", stories260k, tuple(stories[::20])),
    )


def perplexity(subject: Subject, format_name: str, texts: Sequence[str]) -> tuple[float, int, str]:
    """Over all tokens but each text's first; the number of them, and the kernels. "q4_0": fp32, matrices rounded so;
    "bf16 kv8": with the KV cache in int8."""
    weights, _, narrow_cache = format_name.partition(" ")
    rounds = weights == "q4_0"
    config = EngineConfig(
        format="fp32" if rounds else weights,
        kv_format="int8" if narrow_cache else "auto",
        context=_CONTEXT,
        max_num_seqs=1,
    )
    plan = plan_engine(str(subject.path), config)
    spec, memory = plan.spec, Memory(plan.device)
    loader = ReferenceKernels() if rounds else plan.kernels
    tensors, frequencies = load_weights(spec, plan.path, memory, lambda done, total: None, loader)
    if rounds:
        for name, op in spec.named_ops():
            if isinstance(op, Linear) and op is not spec.head:
                tensors[f"{name}.weight"] = through_q4_0(tensors[f"{name}.weight"])
    limits = Limits(_CONTEXT, 1, _CONTEXT)
    runner = ModelRunner(spec, plan.memory, tensors, frequencies, plan.kernels, memory, limits)
    text = load_model_text(plan.path, plan.model_config, spec.vocab_size, needs_tokenizer=True, with_template=False)
    nats, count = 0.0, 0
    for ids in (text.encode(each)[:_CONTEXT] for each in texts):
        if len(ids) > 1:
            nats += _nats(runner, ids)
            count += len(ids) - 1
    text.close()
    return math.exp(nats / count), count, plan.kernels.name


def through_q4_0(w_NK: torch.Tensor) -> torch.Tensor:
    """Rounded to ggml's Q4_0 by the gguf package and back; a short last block is filled up with zeros."""
    columns = w_NK.shape[1]
    padded = np.pad(w_NK.numpy(), ((0, 0), (0, -columns % 32)))
    rounded = dequantize(quantize(padded, GGMLQuantizationType.Q4_0), GGMLQuantizationType.Q4_0)
    return torch.from_numpy(rounded)[:, :columns].contiguous()


@torch.inference_mode()
def _nats(runner: ModelRunner, ids: Sequence[int]) -> float:
    table = tuple(range(-(-len(ids) // runner.block_size)))
    inputs = runner.buffers.fill(Batch(0, (BatchItem(0, 0, tuple(ids), table, True, 0),)), {0})
    x_RH = runner.steps.hidden(inputs).clone()
    logprobs_RV = torch.cat([runner.steps.logits(x_H[None]).clone() for x_H in x_RH[:-1]]).log_softmax(-1)
    return -float(logprobs_RV.gather(1, torch.tensor(ids[1:])[:, None]).double().sum())


def page(command: str, artefacts: Path, say: Callable[[str], object]) -> str:
    lines = [
        "# What a format costs in quality",
        "",
        f"Perplexity, `{command}`. Texts: documents held out when the bundled model",
        "was trained (every twelfth story or prose passage; every twentieth story for stories260K, which saw none).",
        "`int8` is `w8a8`, `int4` is `w4a8` in groups of 32; `q4_0`: the same matrices through ggml's Q4_0 by the gguf",
        "package, multiplied in fp32. The embedding stays as it is in all of them; the head is in `w8a8` beside `int8`",
        "and `int4`, and stays as it is beside `q4_0`. `kv8`: with the KV cache in int8 (`--kv-format int8`), else it",
        "is as the activations.",
        "",
        "| model | format | perplexity | against fp32 | tokens | kernels |",
        "|---|---|---|---|---|---|",
    ]
    for subject in subjects(artefacts):
        base = None
        for format_name in FORMATS:
            found, count, kernels = perplexity(subject, format_name, subject.texts)
            base = base or found
            row = f"| {subject.name} | {format_name} | {found:.4f} | {found / base - 1:+.2%} | {count:,} | {kernels} |"
            say(f"{row}\n")
            lines.append(row)
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--artefacts", type=Path, required=True, help="folder with fixtures/checkpoints/stories260K.gguf"
    )
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    command = shlex.join(["python", "scripts/quality.py", *argv])
    arguments.output.write_text(page(command, arguments.artefacts, sys.stderr.write), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
