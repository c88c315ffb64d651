"""What the steps took, against what the machine allows and what was planned: added up since the start, and lately.

One Ledger a running engine; metrics, page, `top`, `run` and the bill read its sums. Knows no tensors, no requests and
no dollars: step_price.py divides a step, why_slow.py draws conclusions.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from farthing.engine.accounts.step_record import PARTS, Phase, StepRecord

WINDOW_SECONDS = 60.0
BUCKET_SECONDS = 2.0
_MAX_BUCKETS = 150
_WAITS = {"slots": "queueing", "tokens": "token_budget", "blocks": "kv_starvation"}


@dataclass(slots=True)
class PhaseTotals:
    """Sums over the steps of one phase. `limit_seconds`: what the measured bandwidth and compute peaks allow;
    `forecast_seconds`: that and the calls of kernels, as the plan has it."""

    num_steps: int = 0
    num_tokens: int = 0
    num_sequences: int = 0  # of each step, added up
    seconds: float = 0.0
    limit_seconds: float = 0.0
    forecast_seconds: float = 0.0
    fixed_seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.seconds if self.seconds else 0.0

    @property
    def share_of_limit(self) -> float | None:
        return self.limit_seconds / self.seconds if self.seconds and self.limit_seconds else None

    @property
    def speed_to_forecast(self) -> float | None:
        """Measured speed as a share of the forecast one: 1 is as planned, less is slower."""
        return self.forecast_seconds / self.seconds if self.seconds and self.limit_seconds else None

    def add(self, other: "PhaseTotals") -> None:
        self.num_steps += other.num_steps
        self.num_tokens += other.num_tokens
        self.num_sequences += other.num_sequences
        self.seconds += other.seconds
        self.limit_seconds += other.limit_seconds
        self.forecast_seconds += other.forecast_seconds
        self.fixed_seconds += other.fixed_seconds


def _no_phases() -> dict[Phase, PhaseTotals]:
    return {"prefill": PhaseTotals(), "decode": PhaseTotals()}


@dataclass(slots=True)
class StepSums:
    """Sums over steps. `parts`: their seconds by what they went to; `waits`: seconds of sequences in the queue, by
    what they waited for; `num_outputs`: tokens that came out."""

    phases: dict[Phase, PhaseTotals] = field(default_factory=_no_phases)
    parts: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    waits: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_WAITS.values(), 0.0))
    num_outputs: int = 0

    @property
    def seconds(self) -> float:
        return self.phases["prefill"].seconds + self.phases["decode"].seconds

    def record(self, step: StepRecord) -> None:
        phase = self.phases[step.phase]
        phase.num_steps += 1
        phase.num_tokens += step.num_tokens
        phase.num_sequences += step.num_sequences
        phase.seconds += step.seconds
        phase.limit_seconds += step.limit_seconds
        phase.forecast_seconds += step.forecast_seconds
        phase.fixed_seconds += step.fixed_seconds
        for name in PARTS:
            self.parts[name] += getattr(step, name)
        if step.num_waiting:
            cause = _WAITS.get(step.waiting_for)
            if cause is not None:
                self.waits[cause] += step.seconds * step.num_waiting
        self.num_outputs += step.num_outputs

    def add(self, other: "StepSums") -> None:
        for phase, totals in other.phases.items():
            self.phases[phase].add(totals)
        for name, seconds in other.parts.items():
            self.parts[name] += seconds
        for name, seconds in other.waits.items():
            self.waits[name] += seconds
        self.num_outputs += other.num_outputs


@dataclass(slots=True)
class Bucket:
    """The steps that ended within BUCKET_SECONDS from `time` on, and how things stood at the last of them."""

    time: float
    sums: StepSums = field(default_factory=StepSums)
    num_running: int = 0
    num_waiting: int = 0
    used_blocks: int = 0


class Ledger:
    """`total` since the start (or `reset`), `recent(now)` of the last minute, `buckets` of the last five."""

    def __init__(self) -> None:
        self.reset()

    @staticmethod
    def recent_seconds(now: float) -> float:
        """How much of the time up to `now` `recent(now)` covers: a minute, to whole buckets."""
        return WINDOW_SECONDS - BUCKET_SECONDS + now % BUCKET_SECONDS

    def reset(self) -> None:
        """Start counting anew."""
        self._before = StepSums()  # of all buckets but the last one
        self.buckets: deque[Bucket] = deque(maxlen=_MAX_BUCKETS)

    @property
    def total(self) -> StepSums:
        return added([self._before, *(bucket.sums for bucket in list(self.buckets)[-1:])])

    @property
    def prefill(self) -> PhaseTotals:
        """Of the steps that compute a prompt, mixed ones too."""
        return self.total.phases["prefill"]

    @property
    def decode(self) -> PhaseTotals:
        """Of the steps that compute one token of each sequence."""
        return self.total.phases["decode"]

    def record(self, step: StepRecord) -> None:
        bucket = self._bucket(step.time)
        bucket.sums.record(step)
        bucket.num_running, bucket.num_waiting = step.num_sequences, step.num_waiting
        bucket.used_blocks = step.used_blocks

    def recent(self, now: float, seconds: float = WINDOW_SECONDS) -> StepSums:
        """Of the buckets that lie in the last `seconds` before `now` (since 1970)."""
        return added(bucket.sums for bucket in self.buckets if bucket.time > now - seconds)

    def _bucket(self, moment: float) -> Bucket:
        start = moment - moment % BUCKET_SECONDS
        if not self.buckets or self.buckets[-1].time < start:
            if self.buckets:
                self._before.add(self.buckets[-1].sums)
            self.buckets.append(Bucket(start))
        return self.buckets[-1]


def added(sums: Iterable[StepSums]) -> StepSums:
    total = StepSums()
    for each in sums:
        total.add(each)
    return total
