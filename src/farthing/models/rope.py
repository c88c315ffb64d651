"""Rotary position frequencies of a model, plain Python: the angle of pair i at position p is p * frequencies[i].

Scalings: linear (kaiokendev 2023), llama3 (Llama 3.1 model card), yarn (Peng et al. 2023, arXiv 2309.00071),
factors (per-frequency divisors stored in the checkpoint). `dynamic` NTK equals plain RoPE up to the original
context and is described as that, with the context limited. Knows no config keys and no tensors.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """`kind`: default, linear, llama3, yarn or factors. The other fields as their kind needs them."""

    kind: str = "default"
    factor: float = 1.0
    original_max_positions: int = 0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float = 1.0
    truncate: bool = True
    factors_tensor: str | None = None  # kind "factors": the checkpoint tensor [head_dim / 2] of divisors


@dataclass(frozen=True, slots=True)
class Rope:
    """`head_dim` values of a head rotate in pairs (i, i + head_dim / 2), the layout of Hugging Face checkpoints."""

    head_dim: int
    theta: float
    scaling: RopeScaling

    def frequencies(self) -> tuple[float, ...]:
        """Angle per position of each of the head_dim / 2 pairs (radians); kind "factors" before its divisors."""
        plain = [self.theta ** (-2.0 * pair / self.head_dim) for pair in range(self.head_dim // 2)]
        match self.scaling.kind:
            case "linear":
                return tuple(frequency / self.scaling.factor for frequency in plain)
            case "llama3":
                return tuple(self._llama3(frequency) for frequency in plain)
            case "yarn":
                return self._yarn(plain)
            case _:
                return tuple(plain)

    def _llama3(self, frequency: float) -> float:
        """Long wavelengths are divided by the factor, short ones kept, those between interpolated."""
        scaling = self.scaling
        rotations = scaling.original_max_positions * frequency / (2 * math.pi)
        if rotations < scaling.low_freq_factor:
            return frequency / scaling.factor
        if rotations > scaling.high_freq_factor:
            return frequency
        kept = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        return (1 - kept) * frequency / scaling.factor + kept * frequency

    def _yarn(self, plain: list[float]) -> tuple[float, ...]:
        """NTK-by-parts: a ramp over the pairs from kept (fast) to divided by the factor (slow)."""

        def pair_with(num_rotations: float) -> float:
            turns = self.scaling.original_max_positions / (num_rotations * 2 * math.pi)
            return self.head_dim * math.log(turns) / (2 * math.log(self.theta))

        low, high = pair_with(self.scaling.beta_fast), pair_with(self.scaling.beta_slow)
        if self.scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, self.head_dim - 1)
        width = (high - low) or 0.001
        divided = [min(max((pair - low) / width, 0.0), 1.0) for pair in range(len(plain))]
        return tuple(f * (1 - d) + f / self.scaling.factor * d for f, d in zip(plain, divided, strict=True))


def yarn_attention_factor(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """What cos and sin are multiplied with under yarn: 0.1 ln(factor) + 1, or the ratio of two such terms."""

    def magnitude(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if mscale and mscale_all_dim:
        return magnitude(mscale) / magnitude(mscale_all_dim)
    return magnitude(1.0)
