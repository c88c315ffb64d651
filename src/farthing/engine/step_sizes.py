"""How many sequences run at a time and how many tokens a step has, where nobody says so: of a GPU by its memory, and by
the rates of its arithmetic and of its memory. A CPU has fixed ones, with which it was measured.

Knows no flags, and of a model the format of its weights and their bytes.
"""

import math
from dataclasses import dataclass

from farthing.errors import FarthingError
from farthing.hardware.calibration import Calibration
from farthing.hardware.names import parse_hardware
from farthing.quantization.base import WeightFormat

CPU_SEQUENCES, CPU_TOKENS = 16, 512
_LARGE_CARD_BYTES = 40 * 10**9  # what is sold as 40 GB, of which drivers tell a little less than 40 GiB
_SEQUENCES, _SEQUENCES_OF_A_SMALL_CARD = 256, 64
_RIDGES = 4
_MULTIPLE, _FEWEST_TOKENS, _MOST_TOKENS = 256, 512, 8192
_TOKENS_OF_A_CARD_UNKNOWN = 2048


@dataclass(frozen=True, slots=True)
class StepSizes:
    """Sequences that run at a time, and tokens of a step."""

    max_num_seqs: int
    max_batch_tokens: int


def step_sizes(
    asked_sequences: int | None,
    asked_tokens: int | None,
    *,
    device_kind: str,
    total_bytes: int,
    ridge_rows: float | None,
) -> StepSizes:
    """What was asked for, and the rest by the device. `total_bytes`: of the memory of a GPU; `ridge_rows`: its ridge,
    None where nobody knows it.

    Sequences: a step of 256 decodes takes hardly longer than one of few until their KV is most of what it reads, and
    how many fit is for the memory plan to say. A small card saves what graphs and logits of so many would take.

    Tokens: a step reads all weights once, however many rows it has, so rows cost nothing up to the ridge, where a
    product takes as long as its weights take to read. At four times as many reading is a quarter of the time, and hides
    behind arithmetic. Larger steps would gain next to nothing, and everybody's next token waits for the whole step.
    """
    if device_kind == "cpu":
        sequences, tokens = CPU_SEQUENCES, CPU_TOKENS
    else:
        sequences = _SEQUENCES if total_bytes >= _LARGE_CARD_BYTES else _SEQUENCES_OF_A_SMALL_CARD
        tokens = _TOKENS_OF_A_CARD_UNKNOWN
        if ridge_rows is not None:
            tokens = math.ceil(_RIDGES * ridge_rows / _MULTIPLE) * _MULTIPLE
            tokens = min(max(tokens, _FEWEST_TOKENS), _MOST_TOKENS)
    sequences = asked_sequences or min(sequences, asked_tokens or sequences)
    return StepSizes(sequences, asked_tokens or max(tokens, sequences))


def ridge_of_gpu(
    name: str, calibration: Calibration | None, weight_format: WeightFormat, weight_bytes: int
) -> float | None:
    """Rows at which a product in a format takes as long as its weights take to read: as measured where the GPU was
    measured, else by its data sheet; None of one that has none. `name`: as its driver calls it. `weight_bytes`: of all
    weights, which a step reads."""
    if calibration is not None:
        rate, bandwidth = calibration.peak(weight_format.math), calibration.read_bandwidth(weight_bytes)
        return ridge(rate, weight_format, bandwidth)
    try:
        sheet = parse_hardware(name).devices[0]
    except FarthingError:
        return None
    flops = sheet.flops.get(weight_format.math) or sheet.flops.get("bf16")  # what older cards multiply fp8 in
    if flops is None or sheet.bandwidth is None:
        return None
    return ridge(flops.value, weight_format, sheet.bandwidth.value)


def ridge(flops_per_second: float, weight_format: WeightFormat, bytes_per_second: float) -> float:
    """A row is two FLOPs to each weight."""
    return flops_per_second * (weight_format.bits / 8) / (2 * bytes_per_second)
