"""What the engines read, made where it is missing: checkpoints with random weights, and each peer's own files of them.

A folder for each model: the checkpoint, `peers-FORMAT.gguf` for llama.cpp and OpenVINO, `ctranslate2-int8`. Random
weights have the speed of any others. Knows files; knows no engine but by the programs that convert.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from farthing.engine.config import EngineConfig
from farthing.engine.fit import resolve_spec
from farthing.hardware.machine import fast_dtype
from farthing.kernels.weight import TORCH_DTYPES
from farthing.models.auto import describe, read_config, stored_dtype
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import resolve
from peers.gguf_file import write_gguf

HERE = Path(__file__).parent
VOCAB_SIZE = 32_000
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
           "num_key_value_heads": 4, "tie_word_embeddings": False},
    "15m": {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6,
            "num_key_value_heads": 6, "tie_word_embeddings": True},
}  # fmt: skip
COMMON = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "max_position_embeddings": 4096, "vocab_size": VOCAB_SIZE, "torch_dtype": "bfloat16",
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WEIGHT_STD = 0.02


@dataclass(frozen=True, slots=True)
class Models:
    """`python`: the peers' one."""

    folder: Path
    python: Path

    def checkpoint(self, name: str) -> Path:
        if name == "bundled":
            return Path(find_model("bundled").path)
        folder = self._folder(name)
        if not any(folder.glob("*.safetensors")):
            _say(f"making a {name} checkpoint of random weights ...")
            (folder / "config.json").write_text(json.dumps(COMMON | SHAPES[name], indent=1))
            _write_weights(folder)
        if not (folder / "tokenizer.json").exists():
            _write_tokenizer(folder)
        return folder

    def gguf(self, name: str, weight_format: str) -> Path:
        if weight_format == "bf16":
            checkpoint = self.checkpoint(name)
            return self._made(name, "peers-bf16.gguf", lambda out: write_gguf(checkpoint, out))
        source = self.gguf(name, "bf16")

        def quantize(out: Path) -> None:
            self._run(self.python, HERE / "quantize_gguf.py", source, out, weight_format)

        return self._made(name, f"peers-{weight_format}.gguf", quantize)

    def ctranslate2(self, name: str) -> Path:
        checkpoint = self.checkpoint(name)

        def convert(out: Path) -> None:
            converter = self.python.parent / "ct2-transformers-converter"
            self._run(converter, "--model", checkpoint, "--quantization", "int8", "--output_dir", out)

        return self._made(name, "ctranslate2-int8", convert)

    def spec(self, name: str, weight_format: str) -> ModelSpec:
        """What Farthing's engine computes on this processor."""
        config, engine_config = read_config(self.checkpoint(name)), EngineConfig(format=weight_format, device="cpu")
        plain = fast_dtype("cpu", stored_dtype(config))
        return resolve_spec(config, engine_config, name, kind="cpu", plain_dtype=plain)[0]

    def _folder(self, name: str) -> Path:
        folder = self.folder / {"1b": "m1b", "15m": "m15"}.get(name, name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _made(self, name: str, file: str, make: Callable[[Path], None]) -> Path:
        """Whole or not at all."""
        path = self._folder(name) / file
        if not path.exists():
            _say(f"making {path} ...")
            unfinished = path.with_name(f"unfinished-{file}")
            make(unfinished)
            unfinished.rename(path)
        return path

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name} failed: {done.stdout.strip()[-300:]}")


def _write_weights(folder: Path) -> None:
    spec = describe(read_config(folder), Precision.of(resolve("bf16", "cpu")))
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, stored in spec.stored_tensors().items():
        tensor = torch.ones(stored.shape, dtype=TORCH_DTYPES[stored.dtype])
        tensors[name] = tensor if tensor.ndim == 1 else tensor.normal_(std=WEIGHT_STD, generator=generator)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(folder: Path) -> None:
    """The bundled model's, with words of no meaning up to the model's size, so that every token has a text."""
    bundled = Path(find_model("bundled").path)
    tokenizer = json.loads((bundled / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f" word{index}": index for index in range(len(vocabulary), VOCAB_SIZE)}
    config = json.loads((bundled / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["model_max_length"] = COMMON["max_position_embeddings"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, indent=1), encoding="utf-8")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
