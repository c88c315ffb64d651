"""Qwen 3 with experts as a description: Qwen 3 whose MLP is routed, except in the layers that the config leaves dense.

Knows the keys of config.json. Unlike Qwen 3 it derives head_dim from hidden_size where none is given, and a window is
that of every layer. Source: Qwen3 report (arXiv 2505.09388); transformers, configuration_qwen3_moe.py.
"""

from farthing.models.config_reader import ConfigReader
from farthing.models.decoder_spec import MAX_LAYERS, decoder_spec, dense_mlp, moe_mlp
from farthing.models.spec import Mlp, ModelSpec, Precision

ARCHITECTURE = "Qwen3MoeForCausalLM"


def build(config: ConfigReader, precision: Precision) -> ModelSpec:
    attention_bias = config.flag("attention_bias")
    num_layers = config.size("num_hidden_layers", maximum=MAX_LAYERS)
    return decoder_spec(
        config,
        precision,
        family="qwen3_moe",
        default_kv_heads=4,
        qkv_bias=attention_bias,
        o_bias=attention_bias,
        qk_norm=True,
        windows=(_window(config),) * num_layers,
        mlps=_mlps(config, precision, num_layers),
    )


def _mlps(config: ConfigReader, precision: Precision, num_layers: int) -> tuple[Mlp, ...]:
    """Experts in every `decoder_sparse_step`-th layer (the last of each run), but not in `mlp_only_layers`."""
    listed = config.values.get("mlp_only_layers")
    dense = [] if listed is None else listed
    if not isinstance(dense, list) or not all(type(index) is int and 0 <= index < num_layers for index in dense):
        raise config.fail("mlp_only_layers", f"a list of layers from 0 to {num_layers - 1}")
    step = config.size("decoder_sparse_step", 1)
    is_sparse = [(index + 1) % step == 0 for index in range(num_layers)]
    for index in dense:
        is_sparse[index] = False
    sparse_mlp = moe_mlp(
        config,
        precision,
        prefix="mlp",
        matrices=("gate_proj", "up_proj", "down_proj"),
        num_experts_key=_num_experts_key(config),
        intermediate_key="moe_intermediate_size",
    )
    if all(is_sparse):
        return (sparse_mlp,) * num_layers
    mlp = dense_mlp(config, precision)
    return tuple(sparse_mlp if sparse else mlp for sparse in is_sparse)


def _num_experts_key(config: ConfigReader) -> str:
    """transformers 5 writes `num_local_experts`, the name that other families use."""
    renamed = config.has("num_local_experts") and not config.has("num_experts")
    return "num_local_experts" if renamed else "num_experts"


def _window(config: ConfigReader) -> int | None:
    """`sliding_window`, 4096 if the key is absent and none if it is null - where windows are switched on."""
    is_null = "sliding_window" in config.values and not config.has("sliding_window")
    if is_null or not config.flag("use_sliding_window"):
        return None
    return config.size("sliding_window", 4096, maximum=2**31)
