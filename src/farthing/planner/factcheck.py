"""Is a claim possible? Laws that no engine breaks: bytes over bandwidth, FLOPs over peak, weights within memory.

A ceiling must never call a true thing impossible. So it takes nominal figures at 100 %, reads generously what the claim
leaves open, and adds two margins for what chips are known to exceed: caches that keep a part of the weights, and clocks
above the rated boost. Below a ceiling, `suspicious` says that nothing published comes that close, or far less.
Knows no text (planner/claim_text.py) and no terminal.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from farthing.hardware.accelerator import Accelerator
from farthing.planner.claim import Claim
from farthing.planner.claimed_model import ClaimedModel
from farthing.planner.weight_bits import UNNAMED, WeightBits
from farthing.units import format_bytes, format_count, format_seconds

Outcome = Literal["possible", "suspicious", "impossible"]

# Matrix products above the rated peak: 5090 1.21, 3090 1.10, 4090 1.08 (mamf-finder; `measured` in hardware/catalog).
BOOST = 1.25
# A cache of unknown size holds at most this; the memory-side cache of AMD's parts, which l2_bytes leaves out, does.
UNKNOWN_CACHE_BYTES = 256 * 2**20
# Best published single-stream decode: 0.91 of the nominal bandwidth (RTX 4080, llama.cpp F16).
NEAR = 0.95
# One stream below this share of its ceiling: published engines reach 0.3 to 0.9 where the weights lie in the card.
SLOW = 0.1
# Accepted tokens of a step: speculative decoding publishes 2 to 6.
SPECULATED_TOKENS = 8
# What runs where the weights do not fit and the claim names no host memory: a desktop's, two channels of DDR5-6400.
UNNAMED_HOST_BYTES_PER_SECOND = 102.4e9
# Where it names host memory: the fastest of the catalogue (xeon-6980p, 12 channels of MRDIMM-8800).
HOST_BYTES_PER_SECOND = 844.8e9
# A CUDA context takes 0.51 GiB (vLLM 0.19 on H100).
CONTEXT_BYTES = 2**29
# Nobody says how keys and values are stored: 4 bits is the least that engines offer.
KV_BYTES_PER_VALUE = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One law, applied: what is claimed and the limit, both in `unit` ("tokens/s", "s" or "B"), and the arithmetic."""

    law: str
    outcome: Outcome
    claimed: float
    limit: float
    unit: str
    arithmetic: tuple[str, ...]
    says: str
    remedies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`findings` in order of the laws; `assumptions`: how open parts were read; `unchecked`: what lacks a figure."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    assumptions: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def decisive(self) -> Finding | None:
        """The finding that makes the outcome: the one that exceeds its limit most."""
        deciding = [finding for finding in self.findings if finding.outcome == self.outcome]
        return max(deciding, key=closeness, default=None)


def closeness(finding: Finding) -> float:
    """Claimed over allowed: above 1 is above the ceiling. For times and sizes, of which less is harder, the inverse."""
    less_is_harder = finding.unit == "s" or finding.law == "size"
    return finding.limit / finding.claimed if less_is_harder else finding.claimed / finding.limit
