"""Figures of other engines on this shape and card as they were published: cited, never measured here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cited:
    """`setting`: input / output tokens of each request."""

    engine: str
    setting: str
    tokens_per_second: float
    source: str


_TENSORRT = "github.com/NVIDIA/TensorRT-LLM docs/source/performance/perf-overview.md at 00f3768"
_OUTPUT = {"128/2048": 26_221, "1000/1000": 17_744, "2048/2048": 12_194, "2048/128": 3_538, "5000/500": 3_902}

CITED = tuple(
    Cited("TensorRT-LLM 1.0", f"FP8, {lengths}, at its largest load: output tokens/s", rate, _TENSORRT)
    for lengths, rate in _OUTPUT.items()
)
