"""A published measurement as the planner reads it: the columns of a row to model, devices, engine and load.

Every column is another's text: what can't be read, or names hardware, a model or a load that nobody here knows, ends in
a SkippedRowError whose text is the reason that the row is counted under. Knows no seconds
(planner/validation/row_forecast.py).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from farthing.errors import FarthingError
from farthing.hardware.accelerator import Accelerator, load_accelerator
from farthing.hardware.figure import Figure
from farthing.hardware.names import parse_hardware
from farthing.models.auto import config_of, describe
from farthing.models.published_models import find_published
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.claims.weight_bits import WeightBits, find_bits
from farthing.planner.engines.engine_profile import EngineProfile, engine_of
from farthing.quantization.base import WeightFormat, resolve

Row = Mapping[str, str]
SUSPECT = "suspect"
MAX_COUNT = 10**7

# Hardware of published rows whose name alone the catalogue reads otherwise, or as several of its entries.
_HARDWARE = {
    "a100-40gb": "a100-40-sxm",
    "gh200 (480gb lpddr class)": "gh200-96",
    "rtx pro 6000 blackwell": "rtx-pro-6000-server",
    "t4 + 208gb dram + 1.5tb ssd": "t4",
}
# "MI250" is no MI250X, and "Max 1550" no 50-series: a name that only begins alike is another part.
_NOT_IN_CATALOGUE = ("mi250", "max 1550")
_IN_BRACKETS = re.compile(r"\s*\(([^)]*)\)\s*$")
_REQUESTS = re.compile(r"\b(\d{1,6}) (?:req|requests|prompts)\b")
_ONE_DIE = "one gcd"
OTHER_NAMES = {"llama-1-33b": "llama-1-30b"}
_PLAIN = {"16": "fp16", "bf16": "bf16", "fp16": "fp16", "float16": "fp16", "bfloat16": "bf16", "f16": "fp16"}
_KV_FORMATS = {"fp8": "fp8", "q8": "int8", "int8": "int8"}
_GGUF_HEAD_BITS = 6.5625  # llama.cpp stores the output matrix as Q6_K beside Q4 and narrower


class SkippedRowError(Exception):
    """There is no forecast of this row; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What was measured, in the planner's terms. `spec`: the whole model in the row's precision, undivided.

    `tp` and `pp` are of devices; where ranks are parts of devices (cores), the devices share as if they were ranks.
    `kind`: "single", "static", "burst", "closed", "saturated" or "rate". Lengths are means, in tokens.
    `requests`: how many a run had, where it is said.
    """

    model: str
    spec: ModelSpec
    weights: WeightBits
    accelerators: tuple[Accelerator, ...]
    tp: int
    pp: int
    engine: EngineProfile
    engine_known: bool
    kind: str
    metric: str
    input_tokens: float
    output_tokens: float
    batch: int
    rate: float | None
    requests: int | None


def text(row: Row, column: str) -> str:
    """A column in lower case without outer space; absent is empty."""
    return (row.get(column) or "").strip().lower()


def number(row: Row, column: str, default: float | None = None) -> float:
    """A finite number that is not negative. SkippedRowError for any other text; `default` for none."""
    written = text(row, column)
    if not written and default is not None:
        return default
    try:
        value = float(written)
    except ValueError:
        raise SkippedRowError(f"{column} is no number") from None
    if not 0 <= value < math.inf:
        raise SkippedRowError(f"{column} is no number")
    return value


def count(row: Row, column: str, default: int = 1) -> int:
    """A whole number from 1 up to MAX_COUNT."""
    value = number(row, column, default)
    if not 1 <= value <= MAX_COUNT or value != int(value):
        raise SkippedRowError(f"{column} is no count")
    return int(value)


def setting_of(row: Row) -> Setting:
    """SkippedRowError with the reason if the planner can't say what was measured."""
    metric, kind = _metric(row), _kind(row)
    accelerators = devices_of(text(row, "gpu"), text(row, "num_gpus"))
    tp, pp = _layout(row, accelerators)
    spec, weights = _model(row)
    engine, known = engine_of(text(row, "engine"), text(row, "engine_version"))
    batch = count(row, "batch_or_concurrency")
    if kind == "single" and batch > 1:
        kind = "static"
    rate = number(row, "request_rate") if kind == "rate" else None
    if kind in ("static", "burst", "closed") and not text(row, "batch_or_concurrency"):
        raise SkippedRowError("the batch is not stated")
    output_tokens = number(row, "output_len", 0)
    if not output_tokens and metric not in ("prefill_tok_s", "ttft"):
        raise SkippedRowError("the length of the answers is not stated")
    return Setting(
        model=text(row, "model"),
        spec=spec,
        weights=weights,
        accelerators=accelerators,
        tp=tp,
        pp=pp,
        engine=engine,
        engine_known=known,
        kind=kind,
        metric=metric,
        input_tokens=min(MAX_COUNT, max(1.0, number(row, "input_len", 0))),
        output_tokens=min(MAX_COUNT, max(1.0, output_tokens)),
        batch=batch if text(row, "batch_or_concurrency") or kind == "single" else 0,
        rate=rate,
        requests=int(named[1]) if (named := _REQUESTS.search(text(row, "scenario"))) else None,
    )


def is_known(row: Row) -> bool:
    """Whether model, hardware and engine of a row are all known here, whatever it measures."""
    try:
        devices_of(text(row, "gpu"), text(row, "num_gpus"))
    except SkippedRowError:
        return False
    name = text(row, "model")
    _, engine_known = engine_of(text(row, "engine"), text(row, "engine_version"))
    return engine_known and find_published(OTHER_NAMES.get(name, name)) is not None


def metric_of(row: Row) -> str:
    """The column `metric` without unit and statistic: "ttft_p99_ms" is "ttft"."""
    metric = text(row, "metric")
    return metric if metric.endswith(("tok_s", "tok_s_total")) else metric.partition("_")[0]


def _metric(row: Row) -> str:
    metric = metric_of(row)
    if metric not in ("decode_tok_s", "prefill_tok_s", "output_tok_s_total", "batch", "tpot", "ttft", "e2e"):
        raise SkippedRowError(f"metric {text(row, 'metric')[:40]!r}: no speed, or none that is known here")
    return metric


_KINDS = (
    ("single", ("single-stream", "static-batch prefill only")),
    ("static", ("static",)),
    ("burst", ("burst",)),
    ("closed", ("fixed concurrency", "closed loop")),
    ("saturated", ("offline-saturated", "saturated")),
    ("rate", ("server",)),
)


def _kind(row: Row) -> str:
    scenario = text(row, "scenario")
    if "offload" in scenario:
        raise SkippedRowError("weights in host memory: the planner does not plan that")
    for kind, beginnings in _KINDS:
        if scenario.startswith(beginnings):
            return kind
    raise SkippedRowError("a scenario that is not known here")


@cache
def devices_of(name: str, num_gpus: str) -> tuple[Accelerator, ...]:
    """The devices of a row. SkippedRowError where the catalogue has no such part."""
    plain = name
    bracket = _IN_BRACKETS.search(name)
    if name not in _HARDWARE and bracket:
        plain = _IN_BRACKETS.sub("", name)
    try:
        if plain in _NOT_IN_CATALOGUE or not plain:
            raise SkippedRowError("hardware that is not in the catalogue")
        if plain in _HARDWARE:
            named: tuple[Accelerator, ...] = (load_accelerator(_HARDWARE[plain]),)
        else:
            named = parse_hardware(plain).devices
    except FarthingError:
        raise SkippedRowError("hardware that is not in the catalogue") from None
    if bracket and bracket[1].startswith(_ONE_DIE):
        named = tuple(one_die(device) for device in named)
    row = {"num_gpus": num_gpus}
    wanted = count(row, "num_gpus")
    if len(named) == 1:
        if wanted > 1024:
            raise SkippedRowError("num_gpus is no count")
        return named * wanted
    if wanted != len(named):
        raise SkippedRowError("num_gpus is not the number of devices named")
    return named


def one_die(accelerator: Accelerator) -> Accelerator:
    """One of the dies that programs see as devices of their own."""
    share = 1 / accelerator.dies
    nominal, usable, bandwidth = accelerator.nominal_bytes, accelerator.usable_bytes, accelerator.bandwidth
    return replace(
        accelerator,
        dies=1,
        nominal_bytes=nominal and replace(nominal, value=int(nominal.value * share)),
        usable_bytes=usable and replace(usable, value=int(usable.value * share)),
        bandwidth=bandwidth and _scaled(bandwidth, share),
        flops={dtype: _scaled(figure, share) for dtype, figure in accelerator.flops.items()},
    )


def _scaled(figure: Figure[float], share: float) -> Figure[float]:
    return replace(figure, value=figure.value * share)


def _layout(row: Row, accelerators: tuple[Accelerator, ...]) -> tuple[int, int]:
    pp, num_devices = count(row, "pp"), len(accelerators)
    tp = count(row, "tp", num_devices if pp == 1 else 1)
    if accelerators[0].vendor == "aws" and pp == 1 and tp in (num_devices, 2 * num_devices):
        return num_devices, 1  # two cores a chip, a rank each
    if tp * pp != num_devices:
        raise SkippedRowError("tp x pp is not the number of devices")
    return tp, pp


def spec_of(row: Row) -> ModelSpec:
    """The description of a row's model in the row's precision. SkippedRowError if either is not known."""
    return _model(row)[0]


def _model(row: Row) -> tuple[ModelSpec, WeightBits]:
    name = text(row, "model")
    published = find_published(OTHER_NAMES.get(name, name))
    if published is None:
        raise SkippedRowError("a model that is not in the table of published models")
    dtype = text(row, "weight_dtype")
    try:
        bits, _ = find_bits(dtype)
    except FarthingError:
        bits = None
    if bits is None:
        raise SkippedRowError("a weight format that is not known here")
    return _spec(published.name, dtype, bits, text(row, "act_dtype"), text(row, "kv_dtype")), bits


@cache
def _spec(alias: str, dtype: str, bits: WeightBits, activations: str, kv_dtype: str) -> ModelSpec:
    plain = _PLAIN.get(activations, "bf16" if "bf16" in (activations, kv_dtype) else "fp16")
    weight_format = format_of(bits, plain)
    precision = Precision.of(weight_format, plain if weight_format.quantized else None)
    precision = precision.with_kv_format(_KV_FORMATS.get(kv_dtype, "auto"))
    spec = describe(config_of(find_model(alias)), precision)
    if _is_gguf(dtype) and spec.head is not None and spec.head.tied is None and bits.usual < _GGUF_HEAD_BITS:
        head = replace(spec.head, format=narrow_format(_GGUF_HEAD_BITS, plain))
        spec = replace(spec, head=head)
    return spec


def _is_gguf(dtype: str) -> bool:
    return re.fullmatch(r"i?q\d.*", dtype) is not None


def format_of(bits: WeightBits, plain: str) -> WeightFormat:
    """The format that reads as many bytes: the plain one, fp8, or codes with scales between them."""
    if bits.least >= 32:
        return resolve("fp32", "cuda")
    if bits.least >= 16:
        return resolve(bits.name if bits.name in ("bf16", "fp16") else plain, "cuda")
    if bits.name == "fp8":
        return resolve("fp8", "cuda")
    if bits.name in ("int8", "w8a16"):
        return replace(resolve("w8a16", "cuda"), math=plain)
    if bits.name == "w8a8":
        return resolve("w8a8", "cuda")
    return narrow_format(bits.usual, plain)


def narrow_format(bits: float, math_name: str) -> WeightFormat:
    """Codes of whole bits with a 16-bit scale for as many of them as make `bits` a weight, widened in the product."""
    code = max(1, math.ceil(bits) - 1) if bits % 1 < 0.05 else int(bits)
    group = max(1, round(16 / (bits - code)))
    return WeightFormat(f"{bits:g}bpw", math_name, code, "uint8", scale_dtype="fp16", group_size=group)
