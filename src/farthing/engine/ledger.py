"""What the steps took, against what the measured machine allows: tokens, seconds, share of the limit.

Every step is priced by the description (ModelSpec.cost) and the roofline of this machine's calibration. Knows no
tensors and no requests.
"""

from dataclasses import dataclass

from farthing.hardware.calibration import Calibration
from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec
from farthing.ops.batch import BatchShape
from farthing.planner.forecast import CALLS_PER_ATTENTION, CALLS_PER_OP
from farthing.planner.roofline import StepTime, step_time


@dataclass(slots=True)
class PhaseTotals:
    """Sums over the steps of one phase. `limit_seconds`: what the measured bandwidth and compute peaks allow."""

    num_steps: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    limit_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    @property
    def share_of_limit(self) -> float | None:
        return self.limit_seconds / self.seconds if self.seconds and self.limit_seconds else None


class Ledger:
    """`prefill` counts the tokens of steps that compute a prompt (mixed steps too), `decode` those of pure decode."""

    def __init__(self, spec: ModelSpec, calibration: Calibration | None) -> None:
        self.spec, self.calibration = spec, calibration
        self.reset()

    def record(self, shape: BatchShape, seconds: float) -> None:
        phase = self.decode if shape.num_tokens == shape.num_sequences else self.prefill
        phase.num_steps += 1
        phase.num_tokens += shape.num_tokens
        phase.seconds += seconds
        if self.calibration is not None:
            step = forecast(self.spec, shape, self.calibration)
            phase.limit_seconds += max(step.bandwidth_seconds, step.compute_seconds)

    def reset(self) -> None:
        """Start counting anew."""
        self.prefill, self.decode = PhaseTotals(), PhaseTotals()


def forecast(spec: ModelSpec, shape: BatchShape, calibration: Calibration) -> StepTime:
    """What one step should take on the machine that was measured, by the roofline."""
    return step_time(
        spec.cost(shape),
        machine=calibration,
        num_kernels=num_torch_calls(spec, shape),
        rows=shape.num_tokens,
        working_set_bytes=step_working_set_bytes(spec, shape),
    )


def num_torch_calls(spec: ModelSpec, shape: BatchShape) -> int:
    """Calls that the eager decoder makes in one step: attention goes sequence by sequence, all else batch by batch."""
    return CALLS_PER_OP * spec.num_ops + CALLS_PER_ATTENTION * len(spec.layers) * shape.num_sequences
