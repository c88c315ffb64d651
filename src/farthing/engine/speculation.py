"""How many tokens to guess: what the guesses should bring against what their rows cost on this machine.

A step with drafts pays if the tokens that it is expected to yield, over those of a plain step, are more than its time
over that of a plain step. Times are forecast, and then learned from the steps that were made. Knows no tokens:
scheduler/drafts.py guesses them, scheduler/speculation.py hands them out.
"""

from collections.abc import Callable

from farthing.engine.accounts.step_price import forecast
from farthing.engine.plan import EnginePlan
from farthing.ops.batch import BatchShape
from farthing.scheduler.batch import Batch

_MARGIN = 1.05
_MOST_DRAFTS = 8
_CONTEXT = 512  # of the steps that are forecast: the ratio of two steps hardly depends on it
_NEWS = 0.1  # weight of the newest step in what was learned


class FixedDrafts:
    """Always as many as asked for."""

    def __init__(self, num_drafts: int) -> None:
        self._num_drafts = num_drafts

    def num_drafts(self, num_sequences: int, acceptance: float) -> int:
        return self._num_drafts

    def observe(self, batch: Batch, seconds: float) -> None:
        pass


class PayingDrafts:
    """As many as pay best, if any do. `forecast_seconds(num_sequences, num_rows)`: of a step with so many rows each."""

    def __init__(self, forecast_seconds: Callable[[int, int], float]) -> None:
        self._forecast_seconds = forecast_seconds
        self._plain: dict[int, float] = {}  # by number of sequences: measured seconds of a step without drafts
        self._slowdowns: dict[int, list[float]] = {}  # of steps with 1, 2, ... drafts for each, over one without

    def num_drafts(self, num_sequences: int, acceptance: float) -> int:
        best, most = 0, _MARGIN
        expected = chance = 1.0  # tokens of the step; that all drafts so far are right
        for num_drafts, slowdown in enumerate(self._slowdowns_of(num_sequences), start=1):
            chance *= acceptance
            expected += chance
            if expected / slowdown > most:
                best, most = num_drafts, expected / slowdown
        return best

    def observe(self, batch: Batch, seconds: float) -> None:
        """Learns from a step. One in which few sequences have drafts stands for one in which all have a few, and what
        its rows cost more than was thought, those of other steps do, too."""
        if not batch.is_decode:
            return
        num_sequences = len(batch.items)
        num_drafts = sum(item.num_drafts for item in batch.items)
        plain = self._plain.setdefault(num_sequences, seconds)
        if not num_drafts:
            self._plain[num_sequences] = plain + _NEWS * (seconds - plain)
            return
        slowdowns = self._slowdowns_of(num_sequences)
        num_each = min(max(1, round(num_drafts / num_sequences)), _MOST_DRAFTS)
        share = min(1.0, num_drafts / (num_each * num_sequences))  # of the drafts of a step in which each has as many
        added = min((seconds / plain - 1.0) / share, num_each)  # more comes from a machine that was disturbed
        error = 1.0 + added - slowdowns[num_each - 1]
        for index in range(_MOST_DRAFTS):
            slowdowns[index] += _NEWS * share * error * (index + 1) / num_each

    def _slowdowns_of(self, num_sequences: int) -> list[float]:
        if num_sequences not in self._slowdowns:
            plain, *drafted = (self._forecast_seconds(num_sequences, 1 + extra) for extra in range(1 + _MOST_DRAFTS))
            self._slowdowns[num_sequences] = [seconds / plain for seconds in drafted]
        return self._slowdowns[num_sequences]


def draft_policy(plan: EnginePlan) -> FixedDrafts | PayingDrafts | None:
    """None: no drafts. So it is, unless a number is asked for, where nothing is known of the machine, where rows depend
    on their batch, so that an answer with drafts could be another one, and on a GPU, whose steps are started before the
    tokens are known that a guess would follow."""
    asked, spec, calibration = plan.config.speculation, plan.spec, plan.calibration
    if asked == "off":
        return None
    if asked != "auto":
        return FixedDrafts(int(asked))
    if calibration is None or not plan.kernels.batch_invariant or plan.device.type == "cuda":
        return None
    context = max(0, min(_CONTEXT, plan.context - 1 - _MOST_DRAFTS))

    def seconds(num_sequences: int, num_rows: int) -> float:
        shape = BatchShape.of([(num_rows, context)] * num_sequences, num_sequences * num_rows)
        return forecast(spec, shape, calibration).seconds

    return PayingDrafts(seconds)
