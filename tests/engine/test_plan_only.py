"""The engine says at once, and by name, that it does not run what Farthing only plans."""

import json
from pathlib import Path

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.plan import plan_engine
from farthing.errors import UnsupportedError

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "num_experts_per_tok": 2,
}
MODELS = {
    "mixtral": {"architectures": ["MixtralForCausalLM"], "num_local_experts": 4},
    "qwen3_moe": {"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 4, "moe_intermediate_size": 32},
}


@pytest.mark.parametrize("family", MODELS)
def test_a_model_with_experts_is_refused_before_its_weights_are_looked_for(family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**SIZES, **MODELS[family]}))
    with pytest.raises(UnsupportedError, match=rf"{family}.*farthing plan") as refused:
        plan_engine(str(tmp_path), EngineConfig(device="cpu"))
    assert len(str(refused.value).splitlines()) == 1
