"""Qwen 3 (dense) as a description: LLaMA with an RMSNorm on each head's query and key, head_dim apart from hidden_size.

Knows the keys of config.json. Source: Qwen3 report (arXiv 2505.09388).
"""

from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import decoder_spec, layer_windows
from farthing.models.spec import ModelSpec, Precision

ARCHITECTURE = "Qwen3ForCausalLM"


def build(config: ConfigReader, precision: Precision) -> ModelSpec:
    attention_bias = config.flag("attention_bias")
    return decoder_spec(
        config,
        precision,
        family="qwen3",
        default_head_dim=128,
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        qk_norm=True,
        windows=layer_windows(config),
    )
