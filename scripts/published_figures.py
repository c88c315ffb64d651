"""Published figures of engines that name model, hardware and setting, and the forecast of each: a page.

    python scripts/published_figures.py > benchmarks/published-figures.md

Small engines, one stream on consumer cards, and CPUs, each with where it is printed. A figure without a forecast is
told with the reason. Needs neither torch nor data.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from farthing.planner.validation.validate import ForecastRow, forecast_row

GPT_FAST = "gpt-fast README"
XJDAI = "XiongjieDai, GPU benchmarks, 2024-05"
A100 = "A100-SXM-80GB (power-limited 330W)"


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` in tokens/s. `gpus`: as many of the card. `pp`: stages, where layers are split."""

    source: str
    engine: str
    gpu: str
    model: str
    weights: str
    value: float
    gpus: int = 1
    pp: int = 1
    metric: str = "decode_tok_s"
    scenario: str = "single-stream"
    input_len: int = 0
    output_len: int = 1024
    batch: int = 1
    remark: str = ""

    def row(self) -> dict[str, str]:
        return {
            "engine": self.engine,
            "gpu": self.gpu,
            "model": self.model,
            "weight_dtype": self.weights,
            "num_gpus": str(self.gpus),
            "tp": str(self.gpus // self.pp),
            "pp": str(self.pp),
            "metric": self.metric,
            "unit": "tok/s",
            "scenario": self.scenario,
            "input_len": str(self.input_len),
            "output_len": str(self.output_len),
            "batch_or_concurrency": str(self.batch),
            "value": str(self.value),
        }


def _gpt_fast() -> Iterator[Figure]:
    settings = (
        ("Llama-3.1-8B", "bf16", 1, 93.89),
        ("Llama-3.1-8B", "int8", 1, 137.64),
        ("Llama-2-7B", "bf16", 1, 104.9),
        ("Llama-2-7B", "int8", 1, 155.6),
        ("Llama-2-7B", "int4-g32", 1, 196.8),
        ("Llama-2-70B", "int8", 1, 19.13),
        ("Llama-3.1-70B", "int8", 1, 18.04),
        ("Llama-2-70B", "int4-g32", 1, 25.25),
        ("Llama-3.1-8B", "bf16", 2, 149.1),
        ("Llama-3.1-8B", "bf16", 4, 217.2),
        ("Llama-3.1-8B", "bf16", 8, 276.0),
        ("Llama-3.1-70B", "bf16", 2, 16.0),
        ("Llama-3.1-70B", "bf16", 4, 37.5),
        ("Llama-3.1-70B", "bf16", 8, 58.8),
    )
    for model, weights, gpus, value in settings:
        yield Figure(GPT_FAST, "gpt-fast", A100, model, weights, value, gpus, input_len=5, output_len=200)


def _consumer_cards() -> Iterator[Figure]:
    for gpu, plain, four in (("RTX 4090", 54.3, 127.7), ("RTX 3090", 46.5, 111.7), ("H100-PCIe", 67.8, 144.5)):
        yield Figure(XJDAI, "llama.cpp", gpu, "Llama-3-8B", "f16", plain)
        yield Figure(XJDAI, "llama.cpp", gpu, "Llama-3-8B", "q4_k_m", four)
    for weights, value in (("f16", 9056.0), ("q4_k_m", 6899.0)):
        yield Figure(
            XJDAI, "llama.cpp", "RTX 4090", "Llama-3-8B", weights, value, metric="prefill_tok_s", input_len=1024
        )
    for gpus, value in ((2, 19.06), (4, 18.83), (8, 18.76)):
        yield Figure(XJDAI, "llama.cpp", "RTX 4090", "Llama-3-70B", "q4_k_m", value, gpus, pp=gpus)
    yield Figure("llama.cpp #19378", "llama.cpp", "RTX 4090", "gpt-oss-120B", "mxfp4", 180.4, 4, pp=4)
    yield Figure("aprender #2846", "llama.cpp", "RTX 4090", "Qwen2.5-Coder-7B", "q4_k_m", 171.5)
    yield Figure("continuum #1627", "llama.cpp", "RTX 5090", "Qwen3-8B", "q4_k_m", 221.7)
    yield Figure("llama.cpp #28196", "llama.cpp", "RTX 5090", "27B dense", "q4_k_m", 81.8)
    yield Figure("ninfer-3090 #51", "ninfer-3090", "RTX 3090", "27B dense", "int8", 37.4)
    yield Figure("exllamav2 README", "exllamav2", "RTX 4090", "Llama-2-7B", "exl2-4.0-bpw", 211, output_len=128)
    yield Figure("exllamav2 README", "exllamav2", "RTX 4090", "Llama-2-70B", "exl2-2.5-bpw", 38, output_len=128)
    yield Figure(
        "ermolushka.github.io", "vLLM", "RTX 4090", "Llama-3.1-8B", "fp16", 339.6, metric="output_tok_s_total",
        scenario="static batch", input_len=16, output_len=128, batch=7, remark="eager; lengths not stated, assumed",
    )  # fmt: skip
    yield Figure("ollama.linkworksinc.com", "vLLM", "RTX 3090", "Gemma-31B", "awq-4bit", 76.9, 4)


FIGURES = (
    Figure(
        "nano-vllm README", "vLLM", "RTX 4070 Laptop", "Qwen3-0.6B", "bf16", 1361.84, metric="output_tok_s_total",
        scenario="offline-saturated", input_len=562, output_len=523, batch=256,
    ),
    *_gpt_fast(),
    Figure(GPT_FAST, "gpt-fast", A100, "70B with a 7B draft", "int4-g32", 48.4),
    Figure("imp README", "imp", "RTX 5090", "Qwen3-8B", "q8_0", 270, remark="above what physics allows"),
    Figure("imp #397", "llama.cpp", "RTX 5090", "Qwen3-8B", "q8_0", 146),
    Figure("imp #397", "vLLM", "RTX 5090", "Qwen3-8B", "nvfp4", 143),
    *_consumer_cards(),
    Figure("ahelpme.com", "llama.cpp", "EPYC 9554", "Phi-4-14B", "q4_k_m", 28.7),
    Figure("ahelpme.com", "llama.cpp", "EPYC 9554", "Phi-4-14B", "q8_0", 19.2),
    Figure("dev.to/leaseweb", "llama.cpp", "EPYC 9334", "Llama-3-8B", "q4_k_m", 27.8, 2),
    Figure("dev.to/leaseweb", "llama.cpp", "EPYC 9334", "Llama-3-8B", "f16", 8.1, 2),
    Figure("geerlingguy", "llama.cpp", "AmpereOne A192", "Llama-3.1-70B", "q4_k_m", 3.86),
)  # fmt: skip


def lines() -> Iterator[str]:
    rows = [(figure, forecast_row(figure.row())) for figure in FIGURES]
    known = [one for figure, one in rows if one.predicted is not None and not figure.remark]
    yield "# Published figures of other engines, and the forecast of each"
    yield ""
    yield "Written by `python scripts/published_figures.py`. One stream unless it says otherwise; tokens/s. The figures"
    yield "of gpt-fast, llama.cpp on the RTX 4090, 3090 and H100, and exllamav2 are partly among the rows that the"
    yield "constants were fitted to (`benchmarks/forecasts.md` tells the halves apart); the others are not."
    yield ""
    errors = [abs(one.ratio - 1) for one in known]
    yield f"{len(known)} of {len(rows)} have a forecast and state their setting: median error {median(errors):.1%}, at"
    yield f"most {max(errors):.0%}. Furthest off are llama.cpp and vLLM of 2025 and 2026 on one GeForce card:"
    yield "what is known of llama.cpp here is of May 2024, before its decode steps were captured, and of vLLM on such"
    yield "cards next to nothing. They are not corrected by hand; rows of today's llama.cpp are what would do it."
    yield ""
    yield "| source | setting | published | forecast | 80 % interval | error |"
    yield "|---|---|---|---|---|---|"
    for figure, one in rows:
        yield f"| {figure.source} | {_setting(figure)} | {figure.value:g} | {_forecast(one)} |"
    yield ""


def _setting(figure: Figure) -> str:
    what = {"decode_tok_s": "", "prefill_tok_s": ", prefill", "output_tok_s_total": f", batch {figure.batch}"}
    several = f"{figure.gpus}x " if figure.gpus > 1 else ""
    remark = f" ({figure.remark})" if figure.remark else ""
    where = f"{several}{figure.gpu}, {figure.engine}{what[figure.metric]}"
    return f"{figure.model} {figure.weights.split('-g')[0]} on {where}{remark}"


def _forecast(one: ForecastRow) -> str:
    if one.predicted is None or one.low is None or one.high is None:
        return f"none: {one.reason} | | "
    return f"{one.predicted:.4g} | {one.low:.4g} to {one.high:.4g} | {one.ratio - 1:+.0%}"


if __name__ == "__main__":
    print("\n".join(lines()), end="")
