"""Composes the ops of a decoder-only transformer of the LLaMA kind from the sizes in its config.json.

Shared by the families, which say only how they differ (biases, QK norm, windows). Knows the common keys of
config.json and rope scaling; knows no tensors and no parallelism: models/parallel.py comes next.
Source: Touvron et al. 2023 (arXiv 2302.13971, 2307.09288); Llama 3 (arXiv 2407.21783).
"""

from farthing.errors import UnsupportedError
from farthing.models.config_reader import ConfigReader
from farthing.models.rope import Rope, RopeScaling, yarn_attention_factor
from farthing.models.spec import DenseMlp, Layer, Mlp, ModelSpec, MoeMlp, Precision
from farthing.ops.attention import Attention
from farthing.ops.elementwise import Elementwise, RMSNorm
from farthing.ops.linear import Embedding, Linear, Shard
from farthing.ops.moe import Experts
from farthing.quantization.base import resolve

MAX_LAYERS, _MAX_EXPERTS = 4096, 65536


def decoder_spec(
    config: ConfigReader,
    precision: Precision,
    *,
    family: str,
    default_kv_heads: int | None = None,
    default_head_dim: int | None = None,
    qkv_bias: bool = False,
    o_bias: bool = False,
    qk_norm: bool = False,
    windows: tuple[int | None, ...] | None = None,
    mlps: tuple[Mlp, ...] | None = None,
) -> ModelSpec:
    """`windows`: the sliding window of each layer (None: full attention). `mlps`: the MLP of each (None: dense, without
    biases). Errors name the key.
    """
    if config.text("hidden_act", "silu") not in ("silu", "swish"):
        raise UnsupportedError(
            f"{config.source}: hidden_act {config.text('hidden_act')!r} is not supported (only silu)"
        )
    hidden_size = config.size("hidden_size")
    num_heads = config.size("num_attention_heads", maximum=65536)
    num_kv_heads = config.size("num_key_value_heads", default_kv_heads or num_heads, maximum=65536)
    if num_heads % num_kv_heads:
        raise config.fail("num_key_value_heads", f"a divisor of num_attention_heads {num_heads}")
    if not config.has("head_dim") and default_head_dim is None and hidden_size % num_heads:
        raise config.fail("hidden_size", f"a multiple of num_attention_heads {num_heads}")
    head_dim = config.size("head_dim", default_head_dim or max(1, hidden_size // num_heads))
    if head_dim % 2:
        raise config.fail("head_dim", "an even number, because positions rotate pairs")
    num_layers = config.size("num_hidden_layers", maximum=MAX_LAYERS)
    layer_windows = windows or (None,) * num_layers
    if len(layer_windows) != num_layers:
        raise config.fail("layer_types", f"one entry for each of the {num_layers} layers")
    layer_mlps = mlps or (dense_mlp(config, precision),) * num_layers
    assert len(layer_mlps) == num_layers
    vocab_size = config.size("vocab_size")
    eps = config.number("rms_norm_eps", 1e-6)
    dtype = precision.activation_dtype
    tied = config.flag("tie_word_embeddings")

    def linear(name: str, inputs: int, outputs: int, shard: Shard, bias: bool) -> Linear:
        return Linear(name, inputs, outputs, precision.format, dtype, bias, shard)

    def layer(window: int | None, mlp: Mlp) -> Layer:
        queries, keys = num_heads * head_dim, num_kv_heads * head_dim
        column, row = Shard.COLUMN, Shard.ROW
        return Layer(
            attention_norm=RMSNorm("input_layernorm", hidden_size, eps, dtype),
            q_proj=linear("self_attn.q_proj", hidden_size, queries, column, qkv_bias),
            k_proj=linear("self_attn.k_proj", hidden_size, keys, column, qkv_bias),
            v_proj=linear("self_attn.v_proj", hidden_size, keys, column, qkv_bias),
            q_norm=RMSNorm("self_attn.q_norm", head_dim, eps, dtype, num_heads) if qk_norm else None,
            k_norm=RMSNorm("self_attn.k_norm", head_dim, eps, dtype, num_kv_heads) if qk_norm else None,
            rope=Elementwise("self_attn.rope", queries + keys, 1, dtype),
            attention=Attention("self_attn", num_heads, num_kv_heads, head_dim, dtype, precision.kv_dtype, window),
            o_proj=linear("self_attn.o_proj", queries, hidden_size, row, o_bias),
            attention_reduce=None,
            attention_add=Elementwise("self_attn.add", hidden_size, 2, dtype),
            mlp_norm=RMSNorm("post_attention_layernorm", hidden_size, eps, dtype),
            mlp=mlp,
            mlp_add=Elementwise("mlp.add", hidden_size, 2, dtype),
        )

    kinds = tuple(zip(layer_windows, layer_mlps, strict=True))
    layer_of = {kind: layer(*kind) for kind in set(kinds)}
    rope, max_positions, reason = _rope(config, head_dim)
    embedding_name = "model.embed_tokens"
    return ModelSpec(
        family=family,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        max_positions=max_positions,
        max_positions_reason=reason,
        rope=rope,
        precision=precision,
        layers=tuple(layer_of[kind] for kind in kinds),
        embedding=Embedding(embedding_name, vocab_size, hidden_size, dtype, Shard.COLUMN),
        norm=RMSNorm("model.norm", hidden_size, eps, dtype),
        head=Linear(
            "lm_head",
            hidden_size,
            vocab_size,
            precision.head_format or resolve(dtype, "cpu"),
            dtype,
            shard=Shard.COLUMN,
            tied=embedding_name if tied else None,
        ),
    )


def dense_mlp(config: ConfigReader, precision: Precision, *, bias: bool = False) -> DenseMlp:
    """The MLP of `intermediate_size` that every token passes."""
    hidden_size, intermediate_size = config.size("hidden_size"), config.size("intermediate_size")
    weights, dtype = precision.format, precision.activation_dtype
    return DenseMlp(
        gate_proj=Linear("mlp.gate_proj", hidden_size, intermediate_size, weights, dtype, bias, Shard.COLUMN),
        up_proj=Linear("mlp.up_proj", hidden_size, intermediate_size, weights, dtype, bias, Shard.COLUMN),
        swiglu=Elementwise("mlp.swiglu", intermediate_size, 2, dtype),
        down_proj=Linear("mlp.down_proj", intermediate_size, hidden_size, weights, dtype, bias, Shard.ROW),
    )


def moe_mlp(
    config: ConfigReader,
    precision: Precision,
    *,
    prefix: str,
    matrices: tuple[str, str, str],
    num_experts_key: str,
    intermediate_key: str,
) -> MoeMlp:
    """Routed experts, named `prefix`.experts.<i>.<matrix> with `matrices` for gate, up and down, behind `prefix`.gate.

    The router stays in the activation dtype. The keys say where the family keeps its sizes.
    """
    hidden_size, dtype = config.size("hidden_size"), precision.activation_dtype
    num_experts = config.size(num_experts_key, maximum=_MAX_EXPERTS)
    experts_per_token = config.size("num_experts_per_tok", maximum=_MAX_EXPERTS)
    if experts_per_token > num_experts:
        raise config.fail("num_experts_per_tok", f"at most {num_experts_key} {num_experts}")
    return MoeMlp(
        router=Linear(f"{prefix}.gate", hidden_size, num_experts, resolve(dtype, "cpu"), dtype),
        experts=Experts(
            f"{prefix}.experts",
            matrices,
            num_experts,
            experts_per_token,
            hidden_size,
            config.size(intermediate_key),
            precision.format,
            dtype,
        ),
    )


def layer_windows(config: ConfigReader) -> tuple[int | None, ...]:
    """Windows of the Qwen families: `layer_types` if given, else the layers from max_window_layers on."""
    num_layers = config.size("num_hidden_layers", maximum=MAX_LAYERS)
    if not config.flag("use_sliding_window"):
        return (None,) * num_layers
    window = config.size("sliding_window", 4096)
    kinds = config.texts("layer_types")
    if not kinds:
        first = config.size("max_window_layers", 28) if config.values.get("max_window_layers") != 0 else 0
        return tuple(window if index >= first else None for index in range(num_layers))
    known = {"full_attention": None, "sliding_attention": window}
    for kind in kinds:
        if kind not in known:
            raise UnsupportedError(f"{config.source}: layer type {kind!r} is not supported")
    return tuple(known[kind] for kind in kinds)


def _rope(config: ConfigReader, head_dim: int) -> tuple[Rope, int, str]:
    """Rotary positions, the context they allow, and why no more. Reads both spellings of the ecosystem:
    rope_theta with rope_scaling, and rope_parameters (transformers 5)."""
    max_positions = config.size("max_position_embeddings", 2048, maximum=2**31)
    reason = "the model's max_position_embeddings"
    section = config.section("rope_parameters" if config.has("rope_parameters") else "rope_scaling")
    theta = section.number("rope_theta", config.number("rope_theta", 10000.0))
    if theta <= 1:
        raise (section if section.has("rope_theta") else config).fail("rope_theta", "a number above 1")
    if section.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0)) != 1.0:
        raise UnsupportedError(f"{config.source}: partial_rotary_factor other than 1 is not supported")
    if config.flag("rope_interleaved"):
        raise UnsupportedError(f"{config.source}: rope_interleaved is not supported")
    kind = section.text("rope_type", section.text("type", "default"))
    if kind == "default":
        return Rope(head_dim, theta, RopeScaling()), max_positions, reason
    if kind == "dynamic":
        section.number("factor")
        reason = (
            "rope scaling 'dynamic' equals plain RoPE up to the original context; beyond it the angles depend on the "
            "longest sequence of the batch, which no KV cache reproduces"
        )
        return Rope(head_dim, theta, RopeScaling()), max_positions, reason
    if kind == "factors":
        return (
            Rope(head_dim, theta, RopeScaling("factors", factors_tensor=section.text("factors"))),
            max_positions,
            reason,
        )
    original = section.size(
        "original_max_position_embeddings",
        config.size("original_max_position_embeddings", max_positions, maximum=2**31),
        maximum=2**31,
    )
    if kind == "linear":
        scaling = RopeScaling("linear", section.number("factor"))
    elif kind == "llama3":
        scaling = RopeScaling(
            "llama3",
            section.number("factor"),
            original,
            low_freq_factor=section.number("low_freq_factor"),
            high_freq_factor=section.number("high_freq_factor"),
        )
        if scaling.high_freq_factor <= scaling.low_freq_factor:
            raise section.fail("high_freq_factor", "a number above low_freq_factor")
    elif kind == "yarn":
        factor = section.number("factor", max_positions / original)
        mscale = section.number("mscale", 0.0, positive=False)
        mscale_all_dim = section.number("mscale_all_dim", 0.0, positive=False)
        scaling = RopeScaling(
            "yarn",
            factor,
            original,
            beta_fast=section.number("beta_fast", 32.0),
            beta_slow=section.number("beta_slow", 1.0),
            attention_factor=section.number("attention_factor", yarn_attention_factor(factor, mscale, mscale_all_dim)),
            truncate=section.flag("truncate", True),
        )
    else:
        raise UnsupportedError(
            f"{config.source}: rope scaling {kind!r} is not supported",
            fix="supported: default, linear, llama3, yarn, and dynamic up to the original context",
        )
    return Rope(head_dim, theta, scaling), max_positions, reason
