"""An engine's profile whose steps are priced by single operators, not by a fit to what whole engines were measured at.

Shares of the nominal figures are those that products and attention were timed to reach on each class of devices
(`operators` of planner/engines/fitted.toml); the host's times have sources of their own, below. So nothing in it
comes from any served load, and a simulated one can be held against it. Limits, memory, links and the factors of narrow
formats stay the engine's. Knows no model and no seconds.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from farthing.hardware.defaults import default
from farthing.planner.engines import engine_profile
from farthing.planner.engines.engine_profile import EngineProfile

_SHARES = ("weights", "kv", "gemm", "attention")
# Between two steps where scheduling goes on beside the device: 0.15 ms at 256 sequences (vllm-project/vllm issue 10634,
# pull 11133). Drawing 64 to 128 tokens of 131,000 words on the device: 0.25 to 0.5 ms (pull 40376).
STEP_SECONDS = 0.15e-3 + 0.4e-3


def by_operators(engine: EngineProfile) -> EngineProfile:
    """A class of devices of which no operator was timed has what the others reach together."""
    timed = _operators()
    base = {name: timed["base"][name] for name in (*_SHARES, "half_rows")}
    kernel_seconds = float(default("aic_mem_latency_s").value)  # NVIDIA's planner, as in a plan
    host = {"kernel_seconds": kernel_seconds, "step_seconds": STEP_SECONDS, "sequence_seconds": 0.0}
    return replace(
        engine,
        base={**engine.base, **base, **host},
        by_class={
            name: {share: factors[share] for share in _SHARES if share in factors}
            for name, factors in timed["classes"].items()
        },
        by_format={
            name: {share: factors[share] for share in _SHARES if share in factors}
            for name, factors in engine.by_format.items()
        },
    )


@cache
def timed_classes() -> tuple[str, ...]:
    """The classes of devices whose operators were timed."""
    return tuple(_operators()["classes"])


@cache
def _operators() -> Mapping[str, Any]:
    path = Path(engine_profile.__file__).with_name("fitted.toml")
    found: Mapping[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["operators"]
    return found
