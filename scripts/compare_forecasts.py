"""Forecasts of `farthing plan` beside published measurements, written to benchmarks/forecasts.md.

    python scripts/compare_forecasts.py --data ../shared/data

`--data` is the folder with measured_calibration.csv, whose rows carry no licence to be copied here. A row that names
hardware of the catalogue, a published model and a format becomes a plan with its layout, lengths and batch; every other
row is counted with the reason. Nothing is fitted here: the page tells the error of the forecast as it is. Needs no torch.
"""

import argparse
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from factcheck_rows import HARDWARE, SUSPECT, Row, read_rows

from farthing.errors import FarthingError
from farthing.models.auto import config_of
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import find_model
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.plan import Choice, Plan, make_plan
from farthing.planner.request import PlanRequest

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "forecasts.md"
COMMAND = "python scripts/compare_forecasts.py --data DIR"
NUM_WORST = 15
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
TOGETHER = ("static", "burst", "fixed concurrency")  # scenarios whose batch is what runs at a time
PCIE = ("a100-80-pcie", "l40", "l40s", "a40", "h100-pcie", "rtx-")
