"""Tiny random checkpoints of every family and option, made with transformers, for tests of the description and runtime.

`tiny_models(folder)` writes each once a session; `CASES` names them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import TORCH_DTYPES
from farthing.models.auto import describe, read_config
from farthing.models.memory import plan_memory
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import resolve
from farthing.runtime.device import Memory
from farthing.runtime.inputs import Limits
from farthing.runtime.loader import load_weights
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.sampler import RequestState
from farthing.sampling_params import SamplingParams
from farthing.scheduler.batch import Batch, BatchItem
from farthing.scheduler.loop import RealClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence

_COMMON = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}


@dataclass(frozen=True)
class Case:
    name: str
    family: str  # the prefix of the transformers classes
    options: dict[str, Any] = field(default_factory=dict)


def _llama(name: str, **options: Any) -> Case:
    return Case(f"llama-{name}", "Llama", options)


CASES = (
    _llama("1-mha", num_key_value_heads=4, max_position_embeddings=256),
    _llama("2-gqa"),
    _llama("mqa", num_key_value_heads=1),
    _llama("2-one-layer", num_hidden_layers=1),
    _llama("3-theta", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
    _llama("3.1", rope_parameters={**_LLAMA3, "rope_theta": 500000.0}),
    _llama("3.1-mha", num_key_value_heads=4, rope_parameters={**_LLAMA3, "rope_theta": 10000.0, "factor": 32.0}),
    _llama("3.2-tied", tie_word_embeddings=True, rope_parameters={**_LLAMA3, "rope_theta": 500000.0}),
    _llama("tied", tie_word_embeddings=True),
    _llama("attention-bias", attention_bias=True),
    _llama("mlp-bias", mlp_bias=True),
    _llama("both-biases-tied", attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    _llama("head-dim", head_dim=24),
    _llama(
        "odd-sizes", hidden_size=60, intermediate_size=100, head_dim=10, num_attention_heads=6, num_key_value_heads=3
    ),
    _llama("linear", rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}),
    _llama("yarn", rope_parameters={**_YARN, "rope_theta": 10000.0}),
    _llama("yarn-no-truncate", rope_parameters={**_YARN, "rope_theta": 10000.0, "truncate": False}),
    _llama("yarn-mscale", rope_parameters={**_YARN, "rope_theta": 10000.0, "mscale": 1.2, "mscale_all_dim": 0.8}),
    _llama("yarn-betas", rope_parameters={**_YARN, "rope_theta": 10000.0, "beta_fast": 16.0, "beta_slow": 2.0}),
    _llama("dynamic", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
    Case("mistral-full", "Mistral", {"sliding_window": None}),
    Case("mistral-window", "Mistral", {"sliding_window": 16}),
    Case("mistral-window-3", "Mistral", {"sliding_window": 3, "num_key_value_heads": 4}),
    Case("mistral-head-dim", "Mistral", {"sliding_window": 50, "head_dim": 32}),
    Case("qwen2", "Qwen2", {}),
    Case("qwen2-tied", "Qwen2", {"tie_word_embeddings": True}),
    Case("qwen2-window", "Qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    Case("qwen2-yarn", "Qwen2", {"rope_parameters": {**_YARN, "rope_theta": 1000000.0}}),
    Case("qwen3", "Qwen3", {"head_dim": 16}),
    Case("qwen3-wide-heads", "Qwen3", {"head_dim": 48, "tie_word_embeddings": True}),
    Case("qwen3-bias", "Qwen3", {"head_dim": 16, "attention_bias": True}),
    Case(
        "qwen3-window",
        "Qwen3",
        {"head_dim": 16, "use_sliding_window": True, "sliding_window": 12, "max_window_layers": 2},
    ),
)


def _moe(name: str, family: str, **options: Any) -> Case:
    experts = {"num_local_experts": 4} if family == "Mixtral" else {"num_experts": 8, "moe_intermediate_size": 40}
    return Case(name, family, {**experts, "experts_implementation": "eager", **options})


MOE_CASES = (  # described and planned; the runtime has no experts
    _moe("mixtral", "Mixtral", num_experts_per_tok=2),
    _moe("mixtral-top-1", "Mixtral", num_experts_per_tok=1, head_dim=24),
    _moe("mixtral-all", "Mixtral", num_experts_per_tok=4, num_local_experts=4, sliding_window=5),
    _moe("mixtral-tied", "Mixtral", num_experts_per_tok=2, num_local_experts=3, tie_word_embeddings=True),
    _moe("qwen3-moe", "Qwen3Moe", num_experts_per_tok=2, head_dim=24, attention_bias=True),
    _moe("qwen3-moe-top-4", "Qwen3Moe", num_experts_per_tok=4, num_experts=5, tie_word_embeddings=True),
    _moe("qwen3-moe-dense-layers", "Qwen3Moe", num_experts_per_tok=1, mlp_only_layers=[0, 2]),
    _moe("qwen3-moe-sparse-step-2", "Qwen3Moe", num_experts_per_tok=2, decoder_sparse_step=2, num_hidden_layers=4),
    _moe("qwen3-moe-window", "Qwen3Moe", num_experts_per_tok=2, use_sliding_window=True, sliding_window=6),
)


def make_reference(case: Case) -> Any:
    """The transformers model of a case, in fp32, with random weights, biases and norms."""
    torch.manual_seed(sum(case.name.encode()))
    config = getattr(transformers, f"{case.family}Config")(**{**_COMMON, **case.options})
    config._attn_implementation = "eager"
    model = getattr(transformers, f"{case.family}ForCausalLM")(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
            elif "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def save_reference(model: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(folder, safe_serialization=True, **options)
    return folder


@dataclass
class Loaded:
    """A checkpoint in the runtime, without tokenizer and engine: the smallest thing that computes."""

    spec: ModelSpec
    runner: ModelRunner
    scheduler: Scheduler
    memory: Memory

    def all_logits(self, token_ids: list[int]) -> torch.Tensor:
        """Logits of every position of one sequence, in one prefill."""
        table = tuple(range(-(-len(token_ids) // self.runner.block_size)))
        batch = Batch(0, (BatchItem(0, 0, tuple(token_ids), table, samples=True, output_index=0),))
        with torch.inference_mode():
            x_RH = self.runner.steps.hidden(self.runner.buffers.fill(batch, {0}))
            return torch.cat([self.runner.steps.logits(x_H[None]).clone() for x_H in x_RH])

    def run(self, prompts: dict[int, list[int]], params: SamplingParams, **options: Any) -> dict[int, list[int]]:
        """Output ids by sequence id, all computed together."""
        for seq_id, prompt in prompts.items():
            self.add(seq_id, prompt, params, **options)
        outputs: dict[int, list[int]] = {seq_id: [] for seq_id in prompts}
        for seq_id, token in self.steps():
            outputs[seq_id].append(token)
        return outputs

    def add(self, seq_id: int, prompt: list[int], params: SamplingParams, *, seed: int = 0, **options: Any) -> None:
        state = RequestState(params, seed=seed + seq_id % 1000, sample_index=0, prompt_ids=prompt, stop_ids=frozenset())
        self.runner.add(seq_id, state, prompt)
        self.scheduler.add(Sequence(seq_id, prompt, max_output_tokens=params.max_tokens or 16, **options))

    def steps(self) -> Iterator[tuple[int, int]]:
        clock = RealClock()
        while self.scheduler.has_unfinished:
            for output in step(self.scheduler, self.runner, clock):
                assert output.token_id is not None
                yield output.seq_id, output.token_id


def load(
    folder: Path,
    *,
    kernels: ReferenceKernels | None = None,
    dtype: str = "fp32",
    kv_format: str = "auto",
    num_blocks: int = 256,
    block_size: int = 8,
    max_num_seqs: int = 32,
    max_batch_tokens: int = 512,
    prefix_caching: bool = True,
    depth: int = 1,
) -> Loaded:
    precision = Precision.of(resolve(dtype, "cpu")).with_kv_format(kv_format).on_device("cpu")
    spec = describe(read_config(folder), precision)
    memory = Memory(torch.device("cpu"))
    assert dtype in TORCH_DTYPES or spec.precision.format.quantized
    plan = plan_memory(
        spec,
        budget_bytes=2**33,
        reserve_bytes=0,
        block_size=block_size,
        max_num_seqs=1,
        max_batch_tokens=max_batch_tokens,
        max_model_len=num_blocks * block_size,
    )
    kernels = kernels or ReferenceKernels()
    tensors, frequencies = load_weights(spec, folder, memory, lambda done, total: None, kernels)
    limits = Limits(max_batch_tokens, max_num_seqs, num_blocks * block_size)
    runner = ModelRunner(spec, plan, tensors, frequencies, kernels, memory, limits, depth=depth)
    scheduler = Scheduler(
        num_blocks=num_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_batch_tokens=max_batch_tokens,
        max_model_len=min(spec.max_positions, num_blocks * block_size),
        enable_prefix_caching=prefix_caching,
        max_tokens_in_flight=depth - 1,
    )
    return Loaded(spec, runner, scheduler, memory)
