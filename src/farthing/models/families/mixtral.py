"""Mixtral as a description: Mistral whose MLP is one of several experts, two a token; no window unless one is given.

Knows the keys of config.json and the names of the published checkpoints (w1 gate, w3 up, w2 down).
Source: Jiang et al. 2024 (arXiv 2401.04088).
"""

from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import MAX_LAYERS, decoder_spec, moe_mlp
from farthing.models.spec import ModelSpec, Precision

ARCHITECTURE = "MixtralForCausalLM"


def build(config: ConfigReader, precision: Precision) -> ModelSpec:
    num_layers = config.size("num_hidden_layers", maximum=MAX_LAYERS)
    window = config.size("sliding_window", maximum=2**31) if config.has("sliding_window") else None
    mlp = moe_mlp(
        config,
        precision,
        prefix="block_sparse_moe",
        matrices=("w1", "w3", "w2"),
        num_experts_key="num_local_experts",
        intermediate_key="intermediate_size",
    )
    return decoder_spec(
        config,
        precision,
        family="mixtral",
        default_kv_heads=8,
        windows=(window,) * num_layers,
        mlps=(mlp,) * num_layers,
    )
