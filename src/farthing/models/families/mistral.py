"""Mistral as a description: LLaMA with a sliding window over all layers (null: none) and grouped queries.

Knows the keys of config.json; a file without `sliding_window` means 4096, the architecture's default.
Source: Jiang et al. 2023 (arXiv 2310.06825).
"""

from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import MAX_LAYERS, decoder_spec
from farthing.models.spec import ModelSpec, Precision

ARCHITECTURE = "MistralForCausalLM"


def build(config: ConfigReader, precision: Precision) -> ModelSpec:
    has_window = "sliding_window" not in config.values or config.has("sliding_window")
    window = config.size("sliding_window", 4096, maximum=2**31) if has_window else None
    num_layers = config.size("num_hidden_layers", maximum=MAX_LAYERS)
    return decoder_spec(config, precision, family="mistral", default_kv_heads=8, windows=(window,) * num_layers)
