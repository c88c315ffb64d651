"""Qwen 2 and 2.5 as a description: LLaMA with biases on q, k and v, and optional windows in the upper layers.

Knows the keys of config.json. Source: Qwen2 report (arXiv 2407.10671), Qwen2.5 report (arXiv 2412.15115).
"""

from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import decoder_spec, layer_windows
from farthing.models.spec import ModelSpec, Precision

ARCHITECTURE = "Qwen2ForCausalLM"


def build(config: ConfigReader, precision: Precision) -> ModelSpec:
    return decoder_spec(config, precision, family="qwen2", qkv_bias=True, windows=layer_windows(config))
