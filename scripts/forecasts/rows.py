"""Measured rows as requests of `farthing plan`, and the forecast of each beside what was measured.

A row that names hardware of the catalogue, a published model and a format becomes a plan with the layout, lengths and
batch that it states; every other row is counted with the reason. Nothing is fitted. Knows no page.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from factcheck_rows import HARDWARE, SUSPECT, Row

from farthing.errors import FarthingError
from farthing.models.auto import config_of
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import find_model
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.plan import Choice, Plan, make_plan
from farthing.planner.request import PlanRequest

SATURATED_SEQUENCES = 2048  # of TensorRT-LLM's saturated tables; its default largest batch

# Models of the rows, as the table of published models calls them.
MODELS = {
    "CodeLlama-34B": "codellama-34b",
    "Llama-1-7B": "llama-1-7b",
    "Llama-1-13B": "llama-1-13b",
    "Llama-1-33B": "llama-1-30b",
    "Llama-1-65B": "llama-1-65b",
    "Llama-2-7B": "llama-2-7b",
    "Llama-2-13B": "llama-2-13b",
    "Llama-2-70B": "llama-2-70b",
    "Llama-3-8B": "llama-3-8b",
    "Llama-3-70B": "llama-3-70b",
    "Llama-3.1-8B": "llama-3.1-8b",
    "Llama-3.1-70B": "llama-3.1-70b",
    "Llama-3.1-405B": "llama-3.1-405b",
    "Llama-3.2-1B": "llama-3.2-1b",
    "Llama-3.2-3B": "llama-3.2-3b",
    "Llama-3.3-70B": "llama-3.3-70b",
    "TinyLlama-1.1B": "tinyllama-1.1b",
    "Yi-6B": "yi-6b",
}
# Of 4 to 5 bits per weight, w4a16 (4.1, with embedding and head in 16) stands for all; others have no format of ours.
FORMATS = {
    "fp16": "fp16",
    "f16": "fp16",
    "bf16": "bf16",
    "bf16 (precision column empty)": "bf16",
    "fp8": "fp8",
    "int8": "w8a16",
    "eetq-int8": "w8a16",
    "q4_0": "w4a16",
    "q4_k_m": "w4a16",
    "awq-4bit": "w4a16",
    "gptq-4bit-g128": "w4a16",
    "gptq-4bit-g128-act": "w4a16",
    "exl2-4.0-bpw": "w4a16",
    "exl2-4.5-bpw": "w4a16",
    "int4-g32": "w4a16",
}
KV_FORMATS = {"fp8": "fp8", "q8": "int8", "fp16": "auto", "bf16": "auto", "": "auto"}
NO_ROOM = "`plan` says it does not fit, and it ran"
TOGETHER = ("static", "burst", "fixed concurrency")  # scenarios whose batch is what runs at a time


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row as speeds in tokens/s, as published and as `choice` of the plan forecasts it. `on`: catalogue id."""

    row: Row
    on: str
    metric: str
    measured: float
    forecast: float
    choice: Choice

    @property
    def ratio(self) -> float:
        """Forecast / measured: above 1 is a forecast that is too fast."""
        return self.forecast / self.measured

    @property
    def error(self) -> float:
        return abs(self.ratio - 1)


class LeftOutError(Exception):
    """This row is not compared; the text is the reason that it is counted under."""


DECODE, PREFILL = "decode, one stream", "prefill, one stream"
STEP, PER_TOKEN = "time per token: a decode step", "time per token: request / tokens"
SATURATED, BATCH = "throughput, saturated", "throughput, batch stated"
FORECASTS: Mapping[str, Callable[[Choice], float]] = {
    DECODE: lambda choice: choice.speed.decode.tokens_per_second,
    PREFILL: lambda choice: choice.speed.prefill.tokens_per_second,
    STEP: lambda choice: 1 / choice.speed.decode.seconds,
    PER_TOKEN: lambda choice: choice.speed.output_tokens_per_second / choice.speed.batch,
    BATCH: lambda choice: choice.speed.output_tokens_per_second,
    SATURATED: lambda choice: choice.full.output_tokens_per_second,
}


def metric_of(row: Row) -> tuple[str, float]:
    """Which speed a row tells, and the speed in tokens/s."""
    value, scenario = float(row["value"]), row["scenario"]
    if "offload" in scenario:
        raise LeftOutError("weights offloaded to host memory: `plan` does not plan that")
    match row["metric"]:
        case "decode_tok_s":
            return DECODE, value
        case "prefill_tok_s":
            return PREFILL, value
        case "tpot_mean_ms" | "tpot_p50_ms" if scenario.startswith(TOGETHER):
            return STEP, 1000 / value
        case "output_tok_s_total" if scenario == "offline-saturated":
            return SATURATED, value
        case "output_tok_s_total" if scenario.startswith(TOGETHER):
            return BATCH, value
        case "batch_e2e_latency_s":
            return BATCH, float(row["batch_or_concurrency"]) * float(row["output_len"]) / value
        case "tpot_mean_ms" | "tpot_p50_ms" | "output_tok_s_total":
            raise LeftOutError("requests arrive at a rate: how many run at a time is not stated")
    raise LeftOutError("another metric (time to first token, latency percentiles, power)")


def request_of(row: Row, metric: str) -> tuple[str, PlanRequest]:
    """The alias of the model and what `plan` is asked: layout, lengths, batch and formats as the row says."""
    if row["gpu"] not in HARDWARE:
        raise LeftOutError("hardware that is not in the catalogue")
    if row["model"] not in MODELS:
        raise LeftOutError("a model that is not in the table of published models")
    if row["weight_dtype"] not in FORMATS:
        raise LeftOutError("bits per weight for which there is no format (2.5, 3, 5 bpw, Q2_K)")
    tp, pp, num_devices = int(row["tp"]), int(row["pp"]), int(row["num_gpus"])
    if tp * pp != num_devices:
        raise LeftOutError("ranks are not devices (cores of a chip)")
    batch = int(row["batch_or_concurrency"] or 1)
    input_tokens = max(1, num_tokens(row["input_len"]))
    output_tokens = 1 if metric == PREFILL else num_tokens(row["output_len"])
    return MODELS[row["model"]], PlanRequest(
        on=f"{num_devices}x {HARDWARE[row['gpu']]}",
        format=FORMATS[row["weight_dtype"]],
        kv_format=KV_FORMATS[row["kv_dtype"]],
        tp=tp,
        pp=pp,
        replicas=1,
        batch=batch,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        context=input_tokens + output_tokens,
        max_num_seqs=SATURATED_SEQUENCES if metric == SATURATED else batch,
    )


def num_tokens(text: str) -> int:
    """A length as the rows write it: a mean may be a fraction, none is 0."""
    return round(float(text or 0))


@cache
def _config(alias: str) -> ConfigReader:
    return config_of(find_model(alias))


@cache
def _hardware(on: str) -> Hardware:
    return find_hardware(PlanRequest(on=on))


@cache
def _plan(alias: str, request: PlanRequest) -> Plan:
    return make_plan(alias, _config(alias), _hardware(request.on), request)


def outcomes_of(row: Row) -> Iterator[Outcome]:
    """The row against its forecast; a time per token against two, of a decode step and of the whole request.

    LeftOutError with the reason if there is no forecast to hold it against.
    """
    metric, measured = metric_of(row)
    alias, request = request_of(row, metric)
    try:
        plan = _plan(alias, request)
    except FarthingError as error:
        raise LeftOutError(f"`plan` refuses: {error}") from None
    if not plan.fits:
        raise LeftOutError(NO_ROOM)
    for one in (STEP, PER_TOKEN) if metric == STEP else (metric,):
        yield Outcome(row, HARDWARE[row["gpu"]], one, measured, FORECASTS[one](plan.best), plan.best)


def compare(rows: Iterable[Row]) -> tuple[list[Outcome], dict[str, list[Row]]]:
    """Every row that can be compared, and the others by reason."""
    outcomes: list[Outcome] = []
    left_out: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        try:
            if row["quality"] == SUSPECT:
                raise LeftOutError("the data call it suspect")
            outcomes.extend(outcomes_of(row))
        except LeftOutError as reason:
            left_out[str(reason)].append(row)
    return outcomes, left_out
