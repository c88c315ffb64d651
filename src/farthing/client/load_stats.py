"""What became of many requests, as figures: percentiles, rates, goodput. Pure functions of records.

Refused and failed requests are counted and never mixed into latencies. Knows no sockets, no clock and no server.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from farthing.spread import Spread

Outcome = Literal["answered", "refused", "failed", "cut"]
_NOTICED_LAG_SECONDS, _NOTICED_LAG_SHARE = 0.010, 0.1


@dataclass(slots=True)
class Record:
    """One request. Times are seconds since the load began.

    `scheduled`: when it was to be sent; `sent`: when it was; `ended`: when its answer had come. `token_times`: when
    events with tokens came. `outcome` "cut": the load ended before the answer did. `reason`: why it was refused or
    failed, the same for all of a kind; `detail`: the server's words. `input_tokens`, `cached_tokens` of
    them, `output_tokens`: as the server counts them.
    """

    index: int
    scheduled: float
    asked_input_tokens: int
    asked_output_tokens: int
    sent: float = 0.0
    ended: float = 0.0
    token_times: list[float] = field(default_factory=list)
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    outcome: Outcome = "cut"
    reason: str = ""
    detail: str = ""

    @property
    def lag_seconds(self) -> float:
        """How late the generator was."""
        return self.sent - self.scheduled

    @property
    def ttft_seconds(self) -> float:
        """From the moment it was to be sent, so that what waits in the generator counts as waiting."""
        return self.token_times[0] - self.scheduled

    @property
    def tpot_seconds(self) -> float | None:
        """Seconds a token after the first; None of an answer of one token."""
        if self.output_tokens < 2:
            return None
        return (self.token_times[-1] - self.token_times[0]) / (self.output_tokens - 1)

    @property
    def request_seconds(self) -> float:
        return self.ended - self.scheduled

    def gaps(self) -> list[float]:
        """Seconds between one event with tokens and the next."""
        times = self.token_times
        return [after - before for before, after in itertools.pairwise(times)]

    def meets(self, ttft: float | None, tpot: float | None) -> bool:
        """Answered, and within both objectives (seconds; None: any)."""
        if self.outcome != "answered":
            return False
        own = self.tpot_seconds
        return (ttft is None or self.ttft_seconds <= ttft) and (tpot is None or own is None or own <= tpot)

    def to_json_object(self) -> dict[str, object]:
        return {**asdict(self), "token_times": [round(time, 6) for time in self.token_times]}


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests that met the objectives: how many, a second, and of all that were sent (refused and failed included)."""

    ttft: float | None
    tpot: float | None
    requests: int
    requests_per_second: float
    share: float


@dataclass(frozen=True, slots=True)
class Reason:
    """Why some requests got no answer; `example`: what the first of them was told."""

    reason: str
    requests: int
    example: str


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """All of a load. `seconds`: from its beginning to the last end. `short`: answers with fewer tokens than asked for.
    Rates count what was answered."""

    seconds: float
    sent: int
    answered: int
    refused: int
    failed: int
    cut: int
    short: int
    reasons: tuple[Reason, ...]
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    requests_per_second: float
    input_tokens_per_second: float
    output_tokens_per_second: float
    ttft_seconds: Spread
    tpot_seconds: Spread
    itl_seconds: Spread
    request_seconds: Spread
    lag_seconds: Spread
    goodput: Goodput | None

    @property
    def generator_was_late(self) -> bool:
        """Whether what the generator itself delayed shows in the latencies: 1 % of its requests left later than a tenth
        of the usual time to first token, and than 10 ms."""
        late, usual = self.lag_seconds.p99, self.ttft_seconds.p50
        return late is not None and late > max(_NOTICED_LAG_SECONDS, _NOTICED_LAG_SHARE * (usual or 0.0))

    def to_json_object(self) -> dict[str, object]:
        return asdict(self)


def summarize(records: Sequence[Record], *, ttft: float | None = None, tpot: float | None = None) -> LoadSummary:
    """`ttft`, `tpot`: objectives in seconds; goodput is told where there is one."""
    answered = [record for record in records if record.outcome == "answered"]
    outcomes = Counter(record.outcome for record in records)
    seconds = max((record.ended for record in records), default=0.0)
    input_tokens = sum(record.input_tokens for record in answered)
    output_tokens = sum(record.output_tokens for record in answered)
    return LoadSummary(
        seconds=seconds,
        sent=len(records),
        answered=outcomes["answered"],
        refused=outcomes["refused"],
        failed=outcomes["failed"],
        cut=outcomes["cut"],
        short=sum(record.output_tokens < record.asked_output_tokens for record in answered),
        reasons=_reasons(records),
        input_tokens=input_tokens,
        cached_tokens=sum(record.cached_tokens for record in answered),
        output_tokens=output_tokens,
        requests_per_second=_per_second(len(answered), seconds),
        input_tokens_per_second=_per_second(input_tokens, seconds),
        output_tokens_per_second=_per_second(output_tokens, seconds),
        ttft_seconds=Spread.of(record.ttft_seconds for record in answered),
        tpot_seconds=Spread.of(own for record in answered if (own := record.tpot_seconds) is not None),
        itl_seconds=Spread.of(gap for record in answered for gap in record.gaps()),
        request_seconds=Spread.of(record.request_seconds for record in answered),
        lag_seconds=Spread.of(record.lag_seconds for record in records),
        goodput=_goodput(records, seconds, ttft, tpot),
    )


def tokens_over_time(records: Iterable[Record], bin_seconds: float) -> list[float]:
    """Output tokens a second in each span of `bin_seconds` since the beginning; what failed on its way counts too.

    An event with several tokens counts as many: those of its answer, shared out evenly over its events.
    """
    counts: defaultdict[int, float] = defaultdict(float)
    for record in records:
        if times := record.token_times:
            each = max(record.output_tokens, len(times)) / len(times)
            for time in times:
                counts[int(time / bin_seconds)] += each
    return [counts[index] / bin_seconds for index in range(max(counts, default=-1) + 1)]


def _reasons(records: Sequence[Record]) -> tuple[Reason, ...]:
    """The most frequent first."""
    counts = Counter(record.reason for record in records if record.reason)
    examples = {record.reason: record.detail for record in reversed(records)}
    return tuple(Reason(reason, count, examples[reason]) for reason, count in counts.most_common())


def _goodput(records: Sequence[Record], seconds: float, ttft: float | None, tpot: float | None) -> Goodput | None:
    if ttft is None and tpot is None:
        return None
    good = sum(record.meets(ttft, tpot) for record in records)
    return Goodput(ttft, tpot, good, _per_second(good, seconds), good / len(records) if records else 0.0)


def _per_second(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
