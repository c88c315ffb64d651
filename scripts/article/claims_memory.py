"""The article's claims on bytes: the KV cache of LLaMA-2-70B and what it saves, and which weights fit which cards."""

from collections.abc import Sequence
from dataclasses import dataclass

from article.blocks import Block, Paragraph, Table, say
from article.claim import Claim
from article.figures import GIB, count, gib, gigabytes
from article.plans import MODEL, card, command_of, plan_of, spec_of
from article.verdicts import is_close, judge, judge_premise, judge_whether
from farthing.models.spec import ModelSpec
from farthing.ops.batch import BatchShape
from farthing.planner.plan import Plan
from farthing.planner.request import PlanRequest
from farthing.units import format_bytes, format_count

CONTEXT = 4096
BATCH = 8
HEADS = 64
CLAIMED_CACHE_GIB, CLAIMED_SAVED, CLAIMED_PER_BYTE = 80, 640 * 2**40, 16 * 2**10  # the article's, as are those below
CLAIMED_7B_BYTES, CLAIMED_13B_BYTES = 14e9, 23e9
CARDS = (5, 6, 8)


@dataclass(frozen=True, slots=True)
class KvCache:
    """Of LLaMA-2-70B: with its grouped queries, and as if every head had K and V of its own."""

    bytes_per_token: int
    ungrouped_bytes: int
    grouped_bytes: int
    saved_flops: int
    grouped_saved_flops: int


def kv_cache(batch: int = BATCH) -> KvCache:
    """What a KV cache of 4,096 tokens a sequence takes, and the K and V products that it saves to compute again."""
    grouped, ungrouped = spec_of(MODEL), spec_of(MODEL, num_key_value_heads=HEADS)
    tokens = BatchShape.prefill(CONTEXT, batch)
    return KvCache(
        bytes_per_token=grouped.kv_bytes_per_token,
        ungrouped_bytes=ungrouped.kv_bytes_per_token * CONTEXT * batch,
        grouped_bytes=grouped.kv_bytes_per_token * CONTEXT * batch,
        saved_flops=_key_value_flops(ungrouped, tokens),
        grouped_saved_flops=_key_value_flops(grouped, tokens),
    )


def _key_value_flops(spec: ModelSpec, tokens: BatchShape) -> int:
    return sum(linear.cost(tokens).total_flops for layer in spec.layers for linear in (layer.k_proj, layer.v_proj))


def pipeline(num_cards: int) -> Plan:
    """LLaMA-2-70B in fp16 as a pipeline over so many RTX 4090."""
    return plan_of(MODEL, f"{num_cards}x rtx-4090", format="fp16", pp=num_cards, tp=1)


def fewest_cards() -> int:
    """RTX 4090 that hold LLaMA-2-70B in fp16 and a sequence."""
    return next(num for num in range(1, 17) if pipeline(num).fits)


def claims() -> Sequence[Claim]:
    return (_cache(), _saved(), _per_byte(), _small_model(), _middle_model(), _large_model())


def _cache() -> Claim:
    cache = kv_cache()
    return Claim(
        "kv-cache",
        say("kv_cache.claim", gb=str(CLAIMED_CACHE_GIB), context=count(CONTEXT)),
        say(
            "kv_cache.computed",
            heads=str(HEADS),
            bytes=count(cache.ungrouped_bytes),
            gib=f"{cache.ungrouped_bytes / GIB:.0f} GiB",
            batch=str(BATCH),
            kv_heads=str(cache.bytes_per_token // (spec_of(MODEL, num_key_value_heads=1).kv_bytes_per_token)),
            per_token=count(cache.bytes_per_token),
            grouped=gib(cache.grouped_bytes),
        ),
        judge_premise(CLAIMED_CACHE_GIB * GIB, cache.ungrouped_bytes, cache.grouped_bytes),
        (f"farthing describe {MODEL} --format fp16",),
        (format_bytes(cache.bytes_per_token),),
    )


def _saved() -> Claim:
    cache = kv_cache()
    right = is_close(CLAIMED_SAVED, cache.saved_flops)
    return Claim(
        "saved",
        say("saved.claim", tera=f"{CLAIMED_SAVED / 2**40:.0f}"),
        say(
            "saved.computed",
            flops=count(cache.saved_flops),
            tera=f"{cache.saved_flops / 2**40:.0f} x 2^40",
            grouped=f"{cache.grouped_saved_flops / 2**40:.0f} x 2^40",
        ),
        say("saved.right") if right else judge(CLAIMED_SAVED, cache.saved_flops),
        (f"farthing describe {MODEL} --input-tokens {CONTEXT} --batch {BATCH}",),
        (format_count(cache.grouped_saved_flops / 2),),  # of k_proj, and of v_proj
    )


def _per_byte() -> Claim:
    cache = kv_cache()
    per_byte = cache.saved_flops / cache.ungrouped_bytes
    return Claim(
        "per-byte",
        say("per_byte.claim", kilo=f"{CLAIMED_PER_BYTE / 2**10:.0f}"),
        say(
            "per_byte.computed",
            plain=count(per_byte),
            grouped=count(cache.grouped_saved_flops / cache.grouped_bytes),
            value=count(2 * per_byte),
        ),
        judge(CLAIMED_PER_BYTE, per_byte),
    )


def _small_model() -> Claim:
    spec = spec_of("llama-2-7b")
    return Claim(
        "7b",
        say("small.claim", gb=f"{CLAIMED_7B_BYTES / 1e9:.0f}"),
        say(
            "small.computed",
            parameters=count(spec.num_parameters),
            gb=gigabytes(spec.weight_bytes),
            gib=gib(spec.weight_bytes),
            context=count(CONTEXT),
            kv=gib(spec.kv_bytes_per_token * CONTEXT),
        ),
        judge(CLAIMED_7B_BYTES, spec.weight_bytes),
        ("farthing describe llama-2-7b --format fp16",),
        (format_bytes(spec.weight_bytes),),
    )


def _middle_model() -> Claim:
    spec, usable = spec_of("llama-2-13b"), card("rtx-4090").memory_bytes
    wide = PlanRequest(on="rtx-4090", format="fp16")
    plan, narrow = plan_of("llama-2-13b", wide.on, format="fp16"), plan_of("llama-2-13b", wide.on, format="int8")
    assert usable is not None
    return Claim(
        "13b",
        say("middle.claim", gb=f"{CLAIMED_13B_BYTES / 1e9:.0f}"),
        say(
            "middle.computed",
            gib=gib(spec.weight_bytes),
            usable=gib(usable),
            fits=say("middle.fits" if plan.fits else "middle.lacks"),
            narrow=gib(narrow.spec.weight_bytes),
            sequences=count(narrow.placement.num_sequences),
            context=count(CONTEXT),
        ),
        judge_whether(plan.fits, say("middle.why", factor=f"{spec.weight_bytes / CLAIMED_13B_BYTES:.2f}")),
        (command_of("llama-2-13b", wide),),
        (format_bytes(spec.weight_bytes), format_bytes(usable)),
    )


def _large_model() -> Claim:
    fewest = fewest_cards()
    request = PlanRequest(on=f"{fewest}x rtx-4090", format="fp16", tp=1, pp=fewest)
    return Claim(
        "70b",
        say("large.claim"),
        say("large.computed", gib=gib(spec_of(MODEL).weight_bytes), fewest=str(fewest)),
        judge_whether(fewest > 1),
        (command_of(MODEL, request),),
        (f"{fewest}x rtx-4090", str(pipeline(fewest).placement.num_sequences)),
    )


def pipeline_table() -> Sequence[Block]:
    """How much room is left on so many cards."""
    rows, usable = [], card("rtx-4090").memory_bytes
    assert usable is not None
    for num_cards in CARDS:
        plan = pipeline(num_cards)
        left = [rank.memory.budget_bytes - rank.memory.weights_bytes for rank in plan.placement.ranks]
        held = str(plan.placement.num_sequences) if plan.fits else say("cell.does_not_fit")
        rows.append((str(num_cards), gib(num_cards * usable), gib(sum(left) // num_cards), gib(min(left)), held))
    columns = [say(f"pipeline.{name}") for name in ("cards", "memory", "mean", "least")]
    table = Table([*columns, say("pipeline.held", context=count(CONTEXT))], rows)
    return Paragraph(say("pipeline.title", gib=gib(spec_of(MODEL).weight_bytes))), table
