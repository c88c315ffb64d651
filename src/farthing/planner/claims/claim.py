"""A claim about speed or size as values: what somebody says that a model does on some hardware.

What a text leaves open is None here, and read most generously by planner/claims/factcheck.py. Made from free text by
planner/claims/claim_text.py, or from flags. Knows no law.
"""

import math
import re
from dataclasses import dataclass, fields, replace

from farthing.errors import UsageError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.cluster import Cluster
from farthing.planner.claims.claimed_model import ClaimedModel
from farthing.planner.claims.weight_bits import WeightBits

FORM = (
    'write it as "RTX 4090, llama-3.1-8b fp8, 195 tok/s", or with flags: '
    "--on rtx-4090 --model llama-3.1-8b --format fp8 --decode 195"
)
_UNITS = {"GB": 1e9, "GiB": 2.0**30, "MB": 1e6, "MiB": 2.0**20, "TB": 1e12, "TiB": 2.0**40}
_SPELLINGS = {"g": "GB", **{unit.lower(): unit for unit in _UNITS}}


@dataclass(frozen=True, slots=True)
class Size:
    """A size as it was said: `face_bytes` to the letter, `rounded_bytes` if the last digit was rounded down, and the
    `most_bytes` that it may mean. "35 GB" may be 35.5 GB, and where a tool's GB has 2^30 bytes, 35.5 GiB.
    """

    text: str
    face_bytes: float
    rounded_bytes: float
    most_bytes: float

    @classmethod
    def parse(cls, text: str) -> "Size":
        """'17GB', '24.2 GiB'. UsageError otherwise."""
        match = re.fullmatch(r"(\d+(?:\.(\d+))?)\s*([gmt]i?b|g)", text.strip().lower())
        if match is None or not 0 < float(match[1]) < 1e6:
            raise UsageError(f"{text!r:.40} is not a size", fix="write it as 17GB or 16.5GiB")
        number, unit = float(match[1]), _SPELLINGS[match[3]]
        rounded_up = number + 0.5 * 10 ** -len(match[2] or "")
        binary = _UNITS[unit if "i" in unit else unit.replace("B", "iB")]
        return cls(f"{match[1]} {unit}", number * _UNITS[unit], rounded_up * _UNITS[unit], rounded_up * binary)

    def labels(self, accelerator: Accelerator) -> bool:
        """Whether a card is sold under this size: to a twelfth, because GB and GiB are mixed."""
        nominal = accelerator.nominal_bytes
        return nominal is not None and abs(self.face_bytes / nominal.value - 1) < 1 / 12


@dataclass(frozen=True, slots=True)
class Claim:
    """Speeds in tokens/s and seconds. `decode_tokens_per_second` is of all sequences together; `tpot_seconds` is the
    time between the tokens of one sequence.

    `num_sequences`: decoded at once; None with `batched` means many, as many as there is room for; None without means
    that nothing is said. `size`: what the weights are said to take, `card_size`: what the device is said to have.
    `speculation`, `offload`: the claim names a draft of tokens, or host memory that holds a part of the weights.
    """

    cluster: Cluster | None = None
    model: ClaimedModel | None = None
    weights: WeightBits | None = None
    decode_tokens_per_second: float | None = None
    tpot_seconds: float | None = None
    prefill_tokens_per_second: float | None = None
    ttft_seconds: float | None = None
    num_sequences: int | None = None
    batched: bool = False
    size: Size | None = None
    card_size: Size | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    speculation: bool = False
    offload: bool = False
    assumptions: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[Accelerator, ...]:
        return self.cluster.devices if self.cluster else ()

    @property
    def states_speed(self) -> bool:
        speeds = (self.decode_tokens_per_second, self.tpot_seconds, self.prefill_tokens_per_second, self.ttft_seconds)
        return any(speed is not None for speed in speeds)

    @property
    def speaks_of_a_card(self) -> bool:
        """The claim is about the memory of a device alone: "an H100 80GB has 80 GiB"."""
        return self.model is None and self.cluster is not None and (self.size or self.card_size) is not None

    def merged(self, other: "Claim") -> "Claim":
        """This claim with what the other one says, which wins."""
        said = {field.name: getattr(other, field.name) for field in fields(self)}
        changes = {name: value for name, value in said.items() if value is not None and value is not False}
        mine = () if other.cluster else self.assumptions  # which are about the hardware
        return replace(self, **{**changes, "assumptions": mine + other.assumptions})

    def checked(self) -> "Claim":
        """Itself. UsageError if a number is no possible number, or if a part is missing: which one, and the form."""
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and 0 < value <= 1e12):
                raise UsageError(f"{name.replace('_', ' ')} is {value:g}", fix="it must be a number above zero")
        if self.speaks_of_a_card and not self.states_speed:
            return self
        if self.model is None:
            raise UsageError("the claim names no model that is known here", fix=f"{FORM} (farthing models lists them)")
        if self.cluster is None and self.size is None:
            raise UsageError("the claim names no hardware of the catalogue", fix=f"{FORM} (farthing hardware lists it)")
        if self.cluster is None and self.states_speed:
            raise UsageError("the claim names a speed and no hardware of the catalogue", fix=FORM)
        return self


_POSITIVE = (
    "decode_tokens_per_second", "tpot_seconds", "prefill_tokens_per_second", "ttft_seconds", "num_sequences",
    "input_tokens", "output_tokens",
)  # fmt: skip
