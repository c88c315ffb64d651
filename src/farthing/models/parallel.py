"""Divides a description over tensor-parallel ranks and pipeline stages, and inserts what the ranks say to each other.

Tensor parallelism (Shoeybi et al. 2019, arXiv 1909.08053): columns of q, k, v, gate, up and the head, rows of o and
down, an all-reduce behind each row-divided product; KV heads are repeated where there are fewer of them than ranks.
Each rank holds its part of every expert (not some experts whole) and the whole router.
Pipeline stages are runs of whole layers. Knows no transport and no tensors.
"""

from dataclasses import replace

from farthing.errors import UnsupportedError
from farthing.models.spec import DenseMlp, Layer, Mlp, ModelSpec
from farthing.ops.comm import Comm
from farthing.ops.linear import Linear, Shard


def parallelize(spec: ModelSpec, tp: int = 1, pp: int = 1) -> tuple[ModelSpec, ...]:
    """The description of one rank of each of the `pp` stages; the `tp` ranks of a stage are alike.

    UnsupportedError, naming the size that does not divide, if the model can't be split so.
    """
    if tp < 1 or pp < 1:
        raise UnsupportedError(f"tp {tp} and pp {pp} must be at least 1")
    if pp > len(spec.layers):
        raise UnsupportedError(f"pp {pp} is above the {len(spec.layers)} layers", fix="use fewer stages")
    return tuple(_divide(stage, tp) for stage in _stages(spec, pp))


def _stages(spec: ModelSpec, pp: int) -> list[ModelSpec]:
    """Layers are dealt evenly; where they don't divide, the middle stages take one more: the ends hold
    the embedding and the head."""
    share, rest = divmod(len(spec.layers), pp)
    order = sorted(range(pp), key=lambda stage: (stage in (0, pp - 1), stage))
    counts = [share] * pp
    for stage in order[:rest]:
        counts[stage] += 1
    dtype = spec.precision.activation_dtype
    stages, first = [], 0
    for index, count in enumerate(counts):
        is_first, is_last = index == 0, index == pp - 1
        stages.append(
            replace(
                spec,
                layers=spec.layers[first : first + count],
                first_layer=first,
                embedding=spec.embedding if is_first else None,
                norm=spec.norm if is_last else None,
                head=_untied(spec, spec.head) if is_last and not is_first else spec.head if is_last else None,
                send=None if is_last else Comm("send", "send", spec.hidden_size, dtype, 2),
            )
        )
        first += count
    return stages


def _untied(spec: ModelSpec, head: Linear | None) -> Linear | None:
    """The head of a last stage that does not hold the embedding keeps its own copy of the shared matrix."""
    return None if head is None else replace(head, tied=None)


def _divide(spec: ModelSpec, tp: int) -> ModelSpec:
    if tp == 1:
        return spec
    divided = {layer: _divide_layer(layer, tp) for layer in set(spec.layers)}
    dtype = spec.precision.activation_dtype
    embedding, head = spec.embedding, spec.head
    if spec.vocab_size % tp:
        raise UnsupportedError(f"vocab_size {spec.vocab_size} does not divide by tp {tp}", fix="use another tp, or pp")
    if embedding is not None:
        embedding = replace(embedding, num_embeddings=embedding.num_embeddings // tp)
    if head is not None:
        head = replace(head, out_features=head.out_features // tp)
    return replace(
        spec,
        layers=tuple(divided[layer] for layer in spec.layers),
        embedding=embedding,
        embedding_reduce=Comm("model.embed_tokens.reduce", "all_reduce", spec.hidden_size, dtype, tp)
        if embedding is not None
        else None,
        head=head,
        head_gather=Comm("lm_head.gather", "all_gather", head.out_features, "fp32", tp, on_logits=True)
        if head is not None
        else None,
    )


def _divide_layer(layer: Layer, tp: int) -> Layer:
    attention = layer.attention
    if attention.num_heads % tp:
        raise UnsupportedError(
            f"{attention.num_heads} attention heads do not divide by tp {tp}", fix="use another tp, or pp"
        )
    if attention.num_kv_heads % tp and tp % attention.num_kv_heads:
        raise UnsupportedError(
            f"{attention.num_kv_heads} KV heads neither divide by tp {tp} nor divide it", fix="use another tp, or pp"
        )
    if layer.mlp.intermediate_size % tp:
        raise UnsupportedError(
            f"intermediate_size {layer.mlp.intermediate_size} does not divide by tp {tp}", fix="use another tp, or pp"
        )
    num_heads, num_kv_heads = attention.num_heads // tp, max(1, attention.num_kv_heads // tp)
    kv_features = num_kv_heads * attention.head_dim
    hidden_size, dtype = layer.o_proj.out_features, layer.o_proj.activation_dtype
    reduce_ = Comm("self_attn.o_proj.reduce", "all_reduce", hidden_size, dtype, tp)
    return replace(
        layer,
        q_proj=_divide_linear(layer.q_proj, tp),
        k_proj=replace(layer.k_proj, out_features=kv_features),
        v_proj=replace(layer.v_proj, out_features=kv_features),
        q_norm=layer.q_norm and replace(layer.q_norm, num_groups=num_heads),
        k_norm=layer.k_norm and replace(layer.k_norm, num_groups=num_kv_heads),
        rope=replace(layer.rope, dim=(num_heads + num_kv_heads) * attention.head_dim),
        attention=replace(attention, num_heads=num_heads, num_kv_heads=num_kv_heads),
        o_proj=_divide_linear(layer.o_proj, tp),
        attention_reduce=reduce_,
        mlp=_divide_mlp(layer.mlp, tp, reduce_),
    )


def _divide_mlp(mlp: Mlp, tp: int, reduce_: Comm) -> Mlp:
    """`reduce_`: the all-reduce that a layer's halves share but for the name."""
    if isinstance(mlp, DenseMlp):
        return DenseMlp(
            gate_proj=_divide_linear(mlp.gate_proj, tp),
            up_proj=_divide_linear(mlp.up_proj, tp),
            swiglu=replace(mlp.swiglu, dim=mlp.swiglu.dim // tp),
            down_proj=_divide_linear(mlp.down_proj, tp),
            reduce=replace(reduce_, name=f"{mlp.down_proj.name}.reduce"),
        )
    return replace(
        mlp,
        experts=replace(mlp.experts, intermediate_size=mlp.experts.intermediate_size // tp),
        reduce=replace(reduce_, name=f"{mlp.experts.name}.reduce"),
    )


def _divide_linear(linear: Linear, tp: int) -> Linear:
    match linear.shard:
        case Shard.COLUMN:
            return replace(linear, out_features=linear.out_features // tp)
        case Shard.ROW:
            return replace(linear, in_features=linear.in_features // tp)
        case Shard.REPLICATED:
            return linear
