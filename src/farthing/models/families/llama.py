"""LLaMA 1 to 3.x as a description: RMSNorm first, rotary positions, grouped-query attention, SwiGLU.

Knows the keys of config.json. Knows no tensors, devices or parallelism: models/parallel.py comes next.
Source: Touvron et al. 2023 (arXiv 2302.13971, 2307.09288); Llama 3 (arXiv 2407.21783).
"""

from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import MAX_LAYERS, decoder_spec, dense_mlp
from farthing.models.spec import ModelSpec, Precision

ARCHITECTURE = "LlamaForCausalLM"


def build(config: ConfigReader, precision: Precision) -> ModelSpec:
    attention_bias = config.flag("attention_bias")
    mlp = dense_mlp(config, precision, bias=config.flag("mlp_bias"))
    return decoder_spec(
        config,
        precision,
        family="llama",
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        mlps=(mlp,) * config.size("num_hidden_layers", maximum=MAX_LAYERS),
    )
