"""Measured times of single operators and collectives as columns: what kernels reach, before any engine runs them.

From operators_vidur_sample.csv and operators_extra_sample.csv: products, attention and all-reduces on A40, A100, H100,
H200, B200, L40S, RTX PRO 6000 and Arc Pro B60. Knows no engine and no optimiser.
"""

import csv
import math
from collections.abc import Iterator
from dataclasses import astuple, fields, replace
from pathlib import Path

import numpy

from farthing.hardware.accelerator import Accelerator, load_accelerator
from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.planner.timing.device_class import device_class, link_class
from farthing.planner.timing.step_work import Speeds, StepWork
from forecasts.columns import Columns, Keys

DEVICES = {
    "A100-SXM-80GB": "a100-80-sxm",
    "A40": "a40",
    "Arc Pro B60": "arc-pro-b60",
    "B200-SXM": "b200-sxm",
    "H100-SXM": "h100-sxm",
    "H200-SXM": "h200-sxm",
    "L40S": "l40s",
    "RTX PRO 6000 Blackwell SE": "rtx-pro-6000-server",
    "a100_dgx": "a100-80-sxm",
    "h100_dgx": "h100-sxm",
}
NOTHING = StepWork(**dict.fromkeys((field.name for field in fields(StepWork)), 0.0))
ALONE = 1e30

Operator = tuple[Accelerator, str, StepWork, float, int]


def _device(name: str) -> Accelerator | None:
    return load_accelerator(DEVICES[name]) if name in DEVICES else None


def _product(rows: float, wide: float, deep: float, bits: int) -> StepWork:
    moved = wide * deep * bits / 8 + rows * (wide + deep) * 2
    work = {"rows": rows, "layer_bytes": moved, "layer_flops": 2 * rows * wide * deep, "kernels": 1.0}
    return replace(NOTHING, **work, head_rows=1.0)


def _attention(new: float, context: float, batch: float, heads: float, kv_heads: float, size: float) -> StepWork:
    pairs = batch * (new * context + new * (new + 1) / 2)
    moved = 2 * batch * (new + context) * kv_heads * size * 2 + 2 * batch * new * heads * size * 2
    work = {"kv_bytes": moved, "attention_flops": 4 * pairs * heads * size, "kernels": 1.0}
    return replace(NOTHING, **work, rows=1.0, head_rows=1.0)


def _all_reduce(num_bytes: float, ranks: int) -> StepWork:
    wire = 2 * (ranks - 1) / ranks * num_bytes
    return replace(NOTHING, messages=1.0, wire_bytes=wire, log_ranks=math.log2(ranks), rows=1.0, head_rows=1.0)


def _extra(file: Path) -> Iterator[Operator]:
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            device = _device(row["gpu"])
            if device is None or row["dtype"] not in ("bfloat16", "fp8", "half"):
                continue
            seconds = float(row["time_ms"]) / 1000
            form, bits = ("fp8", 8) if row["dtype"] == "fp8" else ("16", 16)
            if row["op"] == "gemm" and (bits == 16 or "fp8" in device.flops):
                yield device, form, _product(*(float(row[key]) for key in ("m_tokens", "n", "k")), bits), seconds, 1
            elif row["op"] in ("decode_attention", "prefill_attention") and row["kv_dtype"] == "bfloat16":
                length = float(row["isl_or_ctx"])
                new, context = (1.0, length) if row["op"].startswith("decode") else (length, 0.0)
                shape = (float(row[key]) for key in ("batch_size", "heads", "kv_heads", "head_dim"))
                yield device, "16", _attention(new, context, *shape), seconds, 1
            elif row["op"] in ("all_reduce", "custom_all_reduce"):
                ranks = int(row["num_gpus"])
                yield device, "16", _all_reduce(2 * float(row["message_elements"]), ranks), seconds, ranks


def _vidur(file: Path) -> Iterator[Operator]:
    with file.open(newline="", encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            device = _device(row["gpu"])
            seconds, tp = float(row["time_ms_median"]) / 1000, int(row["tp"])
            if device is None or not seconds:
                continue
            if row["op"] == "all_reduce" and tp <= 8:
                yield device, "16", _all_reduce(float(row["size_bytes"]), tp), seconds, tp
            elif row["op"] in ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj"):
                rows = float(row["num_tokens"])
                yield device, "16", _product(rows, *_sizes(row["model"], row["op"], tp), 16), seconds, 1


def _sizes(model: str, op: str, tp: int) -> tuple[float, float]:
    """(out, in) of a fused product on one of `tp` ranks."""
    config = config_of(find_model(model.lower()))
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", heads)
    size = hidden // heads
    inner = config.size("intermediate_size")
    return {
        "attn_pre_proj": ((heads + 2 * kv_heads) * size / tp, hidden),
        "attn_post_proj": (hidden, heads * size / tp),
        "mlp_up_proj": (2 * inner / tp, hidden),
        "mlp_down_proj": (hidden, inner / tp),
    }[op]


def operator_columns(data: Path, keys: Keys) -> Columns:
    """Every operator of both files that the catalogue has the device of."""
    entries = []
    for device, form, work, seconds, ranks in (
        *_extra(data / "operators_extra_sample.csv"),
        *_vidur(data / "operators_vidur_sample.csv"),
    ):
        joined = link_class(device, ranks)
        scale_up, host = device.scale_up.bytes_per_second, device.host.bytes_per_second
        nominal = scale_up if joined == "nvlink" else host
        assert device.bandwidth is not None and nominal is not None
        plain = device.flops["bf16"].value
        rate = device.flops["fp8"].value if form == "fp8" else plain
        speeds = Speeds(device.bandwidth.value, rate, plain, nominal.value, ALONE)
        classes = (keys.devices.index(device_class(device)), keys.formats.index(form), keys.links.index(joined))
        entries.append((seconds, *astuple(work), *astuple(speeds), *classes))
    table = numpy.array(entries, dtype=float).T
    count, num_work = len(entries), len(fields(StepWork))
    return Columns(
        rows=[],
        measured=table[0],
        tokens=numpy.full(count, numpy.nan),
        share=numpy.ones(count),
        owner=numpy.arange(count),
        times=numpy.ones(count),
        work=StepWork(*table[1 : 1 + num_work]),
        speeds=Speeds(*table[1 + num_work : 1 + num_work + len(fields(Speeds))]),
        device=table[-3].astype(int),
        form=table[-2].astype(int),
        link=table[-1].astype(int),
        send=table[-1].astype(int),
        waits=numpy.zeros(count),
        has_request=numpy.zeros(count),
    )
