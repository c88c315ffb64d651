"""The arena of a recorded step lies within what the memory plan keeps for activations (law 3)."""

import json
from pathlib import Path

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.runtime.graph import TapedDecoder

SMALL = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}
WIDE = {**SMALL, "hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "vocab_size": 8000}
QK_NORM = {**SMALL, "architectures": ["Qwen3ForCausalLM"], "head_dim": 64}


@pytest.mark.parametrize("weight_format", ["fp32", "bf16", "int8", "int4"])
@pytest.mark.parametrize("config", [SMALL, WIDE, QK_NORM], ids=["small", "wide", "qk norm"])
def test_the_arena_of_a_recorded_step_is_within_the_planned_activations(
    config: dict[str, object], weight_format: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    for limits in ({}, {"max_batch_tokens": 16, "max_num_seqs": 16}, {"context": 4096, "max_num_seqs": 1}):
        options = EngineConfig(format=weight_format, weights="random", device="cpu", memory="2GiB", **limits)
        plan = plan_engine(str(tmp_path), options)
        if plan.kernels.widens_quantized:
            pytest.skip("nothing can be compiled here")
        engine = Engine(plan, with_template=False)
        try:
            steps = engine.runner.steps
            assert isinstance(steps, TapedDecoder)
            assert steps.arena_bytes <= plan.memory.activation_bytes, limits
        finally:
            engine.close()
