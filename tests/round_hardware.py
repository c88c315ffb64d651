"""A tiny model and hardware with round figures, for tests of the planner whose answers can be worked out by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from farthing.hardware.accelerator import Accelerator, Figure, Link, Price, load_accelerator
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.hardware import Hardware
from farthing.planner.timing.device import CatalogueMachine, Device
from farthing.quantization.base import resolve

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
KV_BYTES_PER_TOKEN = 4 * 2 * 2 * 16 * 2  # layers, K and V, KV heads, head_dim, 16 bits
EVERY_MATH = ("fp32", "bf16", "fp16", "fp8", "int8", "int4")


def tiny_config(**changes: object) -> ConfigReader:
    return ConfigReader({**CONFIG, **changes}, "config.json")


def tiny_spec(weight_format: str = "bf16", **changes: object) -> ModelSpec:
    return describe(tiny_config(**changes), Precision.of(resolve(weight_format, "cuda")))


def round_accelerator(**changes: Any) -> Accelerator:
    """1 GB of GDDR6 at 1 TB/s, 100 TFLOP/s in bf16, 10 GB/s to its host, no P2P known; nothing measured, no price."""
    values: dict[str, Any] = {
        "id": "round-1",
        "name": "GeForce Round 1",
        "nominal_bytes": figure(10**9),
        "usable_bytes": None,
        "memory_type": "GDDR6",
        "bandwidth": figure(1e12),
        "flops": {"bf16": figure(100e12)},
        "scale_up": Link("none"),
        "host": Link("pcie4x8", figure(10e9)),
        "p2p": None,
        "prices": (),
        "rentals": (),
        "measured": {},
    }
    return replace(load_accelerator("rtx-4090"), **{**values, **changes})


def figure(value: Any) -> Figure[Any]:
    return Figure(value, ("https://example.com",))


def rental(value: float, date: str = "2026", currency: str = "USD", market: str = "cloud") -> Price:
    return Price(value, currency, market, date, ("https://example.com",))


def round_device(
    name: str = "round-1",
    *,
    memory_bytes: int = 10**9,
    reserve_bytes: int = 0,
    bandwidth: float = 1e9,
    rate: float = 1e30,
    overhead_seconds: float = 0.0,
    kind: Any = "cuda",
    maths: Sequence[str] = EVERY_MATH,
    accelerator: Accelerator | None = None,
) -> Device:
    """1 GB/s; arithmetic and launches take no time unless said otherwise."""
    machine = CatalogueMachine(name, bandwidth, dict.fromkeys(maths, rate), overhead_seconds)
    return Device(name, kind, memory_bytes, reserve_bytes, machine, accelerator or round_accelerator(id=name), ())


def one_node(*devices: Device) -> Hardware:
    return Hardware("round", devices, (0,) * len(devices))
