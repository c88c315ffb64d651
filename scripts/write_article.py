"""Writes docs/article.md: the claims of the article that Farthing began with, each computed from its own descriptions.

    python scripts/write_article.py            writes docs/article.md
    python scripts/write_article.py --print    prints it

tests/planner/test_article.py holds the figures, and that the page is what this program writes.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from farthing.hardware.accelerator import load_accelerator
from farthing.models.auto import config_of, describe
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import Plan, make_plan, train
from farthing.planner.request import PlanRequest
from farthing.planner.training import to_lines
from farthing.quantization.base import resolve
from farthing.units import format_bytes

PAGE = Path(__file__).resolve().parents[1] / "docs" / "article.md"
GIB = 2**30
CONTEXT = 4096
BOX_4090_DOLLARS, BOX_H100_DOLLARS = 40_000, 300_000  # the article's
LENGTHS = ((3584, 512), (384, 128))  # prompt and answer, in tokens


def spec_of(model: str, weight_format: str = "fp16", **changed: object) -> ModelSpec:
    """The description of a published model, with some keys of its config changed."""
    config = config_of(find_model(model))
    values = {**config.values, **changed}
    return describe(ConfigReader(values, model), Precision.of(resolve(weight_format, "cuda"), "fp16"))


def plan_of(model: str, on: str, **options: object) -> Plan:
    request = replace(PlanRequest(on=on), **options)  # type: ignore[arg-type]
    return make_plan(model, config_of(find_model(model)), find_hardware(request), request)


@dataclass(frozen=True, slots=True)
class KvCache:
    """Of LLaMA-2-70B: with its grouped queries, and as if every head had K and V of its own."""

    bytes_per_token: int
    batch: int
    ungrouped_bytes: int
    grouped_bytes: int
    saved_flops: int
    grouped_saved_flops: int


def kv_cache(batch: int = 8) -> KvCache:
    """What a KV cache of 4,096 tokens a sequence takes, and the K and V products that it saves to compute again."""
    grouped = spec_of("llama-2-70b")
    ungrouped = spec_of("llama-2-70b", num_key_value_heads=64)
    tokens = BatchShape.prefill(CONTEXT, batch)
    return KvCache(
        bytes_per_token=grouped.kv_bytes_per_token,
        batch=batch,
        ungrouped_bytes=ungrouped.kv_bytes_per_token * CONTEXT * batch,
        grouped_bytes=grouped.kv_bytes_per_token * CONTEXT * batch,
        saved_flops=_key_value_flops(ungrouped, tokens),
        grouped_saved_flops=_key_value_flops(grouped, tokens),
    )


def _key_value_flops(spec: ModelSpec, tokens: BatchShape) -> int:
    return sum(linear.cost(tokens).total_flops for layer in spec.layers for linear in (layer.k_proj, layer.v_proj))


def ratios() -> dict[str, float]:
    """H100 SXM and A100 SXM against an RTX 4090, from the catalogue's peaks."""
    h100, a100, rtx4090 = (load_accelerator(id) for id in ("h100-sxm", "a100-80-sxm", "rtx-4090"))
    assert h100.bandwidth and rtx4090.bandwidth and a100.bandwidth
    return {
        "h100_compute_fp32_accumulate": h100.flops["fp16"].value / rtx4090.flops["fp16"].value,
        "h100_compute_fp16_accumulate": h100.flops["fp16"].value / rtx4090.flops["fp16_acc16"].value,
        "h100_bandwidth": h100.bandwidth.value / rtx4090.bandwidth.value,
        "a100_compute_fp32_accumulate": rtx4090.flops["fp16"].value / a100.flops["fp16"].value,
        "a100_compute_fp16_accumulate": rtx4090.flops["fp16_acc16"].value / a100.flops["fp16"].value,
        "a100_bandwidth": a100.bandwidth.value / rtx4090.bandwidth.value,
    }


def cards_of_70b() -> dict[int, Plan]:
    """LLaMA-2-70B in fp16 as a pipeline over this many RTX 4090."""
    return {count: plan_of("llama-2-70b", f"{count}x rtx-4090", format="fp16", pp=count, tp=1) for count in (5, 6, 8)}


def boxes(input_tokens: int, output_tokens: int) -> dict[str, Plan]:
    """8x RTX 4090 as shipped, with the patched driver, and 8x H100, at the batch that memory holds."""
    lengths = {"input_tokens": input_tokens, "output_tokens": output_tokens, "format": "fp16", "max_num_seqs": 2048}
    return {
        "8x RTX 4090, stock driver": plan_of("llama-2-70b", "8x rtx-4090", **lengths),
        "8x RTX 4090, P2P driver": plan_of("llama-2-70b", "8x rtx-4090", p2p=True, **lengths),
        "8x H100 SXM": plan_of("llama-2-70b", "8x h100-sxm", **lengths),
    }


def page() -> str:
    """The whole page as Markdown."""
    parts = (_INTRODUCTION, memory_table(), pipeline_table(), speed_table(), box_table(), money(), training(), basis())
    return "\n\n".join(part.strip() for part in parts) + "\n"


_INTRODUCTION = """
# The article, computed

Farthing began with an article that weighs a box of eight RTX 4090 against eight H100 for serving LLaMA (Li Bojie,
2023-09-10, 01.me/en/2023/09/h100-vs-4090). Here its claims are computed from the description of the model and the
catalogue. `python scripts/write_article.py` writes this page; a test holds it.
"""


def memory_table() -> str:
    cache, usable = kv_cache(), _usable_bytes()
    seven, thirteen = spec_of("llama-2-7b"), spec_of("llama-2-13b")
    int8 = plan_of("llama-2-13b", "rtx-4090", format="int8")
    rows = (
        (
            "KV cache of LLaMA-2-70B: 80 GB at 4,096 tokens",
            f"{cache.ungrouped_bytes:,} B = {cache.ungrouped_bytes / GIB:.0f} GiB at batch {cache.batch}, if each of "
            f"the 64 heads kept its own K and V. The model has 8 KV heads: {cache.bytes_per_token:,} B a token, "
            f"{format_bytes(cache.grouped_bytes)} at batch {cache.batch}",
            "arithmetic right, premise wrong",
        ),
        (
            "the cache saves 640 T operations",
            f"{cache.saved_flops:,} FLOP = {cache.saved_flops / 2**40:.0f} x 2^40 without grouped queries, "
            f"{cache.grouped_saved_flops / 2**40:.0f} x 2^40 with",
            "right as a count, not a rate",
        ),
        (
            "16 K operations per byte of it",
            f"{cache.saved_flops / cache.ungrouped_bytes:,.0f} per byte, without and with grouped queries "
            f"({cache.grouped_saved_flops / cache.grouped_bytes:,.0f}); "
            f"{2 * cache.saved_flops / cache.ungrouped_bytes:,.0f} per fp16 value",
            "wrong by 2",
        ),
        (
            "7B takes about 14 GB",
            f"{seven.num_parameters:,} parameters x 2 B = {seven.weight_bytes / 1e9:.2f} GB",
            "right",
        ),
        (
            "13B takes 23 GB and fits one RTX 4090",
            f"fp16: {format_bytes(thirteen.weight_bytes)} of {format_bytes(usable)}: does not fit. "
            f"int8 ({int8.spec.precision.format.name}): {format_bytes(int8.spec.weight_bytes)}, room for "
            f"{int8.placement.num_sequences} sequences of {CONTEXT:,} tokens",
            "wrong in fp16",
        ),
    )
    return "## Memory\n\n" + _table(("claim", "computed", "verdict"), rows)


def pipeline_table() -> str:
    rows, usable = [], _usable_bytes()
    for count, plan in cards_of_70b().items():
        left = [rank.memory.budget_bytes - rank.memory.weights_bytes for rank in plan.placement.ranks]
        held = str(plan.placement.num_sequences) if plan.fits else "does not fit"
        mean = sum(left) // count
        rows.append((str(count), format_bytes(count * usable), _signed(mean), _signed(min(left)), held))
    columns = ("cards", "memory", "left a card after weights, mean", "least", f"sequences of {CONTEXT:,} tokens")
    title = (
        f"LLaMA-2-70B in fp16 ({format_bytes(spec_of('llama-2-70b').weight_bytes)}) as a pipeline over RTX 4090 cards"
    )
    return f"{title}:\n\n" + _table(columns, rows)


def speed_table() -> str:
    ratio = ratios()
    rows = (
        (
            "an H100 computes 6 times what an RTX 4090 does",
            f"{ratio['h100_compute_fp32_accumulate']:.2f} when sums are kept in fp32, "
            f"{ratio['h100_compute_fp16_accumulate']:.2f} when the 4090 sums in fp16",
            "depends on the accumulator",
        ),
        ("it has 3.35 times the bandwidth", f"{ratio['h100_bandwidth']:.2f}", "close"),
        (
            "an RTX 4090 computes as much as an A100",
            f"{ratio['a100_compute_fp16_accumulate']:.2f} with sums in fp16, "
            f"{ratio['a100_compute_fp32_accumulate']:.2f} in fp32; the A100 has {ratio['a100_bandwidth']:.2f} times "
            "the bandwidth",
            "depends on the accumulator",
        ),
    )
    return "## Speed\n\n" + _table(("claim", "computed from the catalogue", "verdict"), rows)


def box_table() -> str:
    rows = []
    for prompt, output in LENGTHS:
        best = {name: plan.most_tokens for name, plan in boxes(prompt, output).items()}
        fastest = best["8x H100 SXM"].full.output_tokens_per_second
        for name, choice in best.items():
            rate, layout = choice.full.output_tokens_per_second, choice.placement.layout
            split = f"{layout.tp} x {layout.pp} x {layout.replicas}"
            rows.append(
                (
                    f"{prompt:,} + {output}",
                    name,
                    split,
                    f"{choice.full.batch:,}",
                    f"{rate:,.0f}",
                    f"{fastest / rate:.1f}",
                )
            )
    columns = ("prompt + answer", "hardware", "tp x pp x replicas", "batch", "output tok/s", "H100 / this")
    return (
        "LLaMA-2-70B in fp16 on eight cards, the layout that gives most tokens, batch as large as memory holds.\n"
        "Prefill counts in these rates:\n\n" + _table(columns, rows) + "\n\n"
        '"10 times the throughput" is no constant: it shrinks where the 4090 box has room for many short sequences,\n'
        "and grows where KV memory or all-reduce over PCIe decides."
    )


def money() -> str:
    notes = dict.fromkeys(plan.price.note for plan in boxes(*LENGTHS[0]).values())
    ratio = BOX_H100_DOLLARS / BOX_4090_DOLLARS
    hourly = [plan.price.dollars_per_hour or 0.0 for plan in boxes(*LENGTHS[0]).values()]
    rent = hourly[-1] / hourly[0]
    lines = (
        f"- {BOX_4090_DOLLARS:,} against {BOX_H100_DOLLARS:,} dollars is {ratio:.1f} times, not 6. Per dollar",
        "  of purchase the 4090 box wins wherever the last column above is smaller than that.",
        *(f"- Rented: {note}." for note in notes),
        f"  That is {rent:.1f} times for an H100, to be held against the same column.",
    )
    return "## Money\n\n" + "\n".join(lines)


def training() -> str:
    plan = train("llama-2-70b", config_of(find_model("llama-2-70b")), find_hardware(PlanRequest(on="8x rtx-4090")))
    return "\n".join(
        ("## Training", "", "Why eight RTX 4090 can't train LLaMA-2-70B:", "", "```", *to_lines(plan), "```")
    )


def basis() -> str:
    plans = [*boxes(*LENGTHS[0]).values(), *cards_of_70b().values()]
    notes = dict.fromkeys(note for plan in plans for note in plan.assumptions)
    warning = "Forecasts, not measurements: planned fractions of peak are those of best shapes."
    return "## What this rests on\n\n" + "\n".join(f"- {note}" for note in notes) + f"\n\n{warning}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))


def _usable_bytes() -> int:
    usable = load_accelerator("rtx-4090").memory_bytes
    assert usable is not None
    return usable


def _signed(num_bytes: int) -> str:
    return format_bytes(num_bytes) if num_bytes >= 0 else f"-{format_bytes(-num_bytes)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/article.md.")
    parser.add_argument("--print", action="store_true", help="print the page instead")
    if parser.parse_args().print:
        print(page(), end="")
    else:
        PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
