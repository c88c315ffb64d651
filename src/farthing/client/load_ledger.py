"""A load as the server's own ledger tells it: what changed between two snapshots of GET /farthing/ledger.

Other servers have no ledger, and then there is nothing here to tell. Knows no load and no terminal.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from farthing.client.connection import Server

_SCHEMA = "farthing.ledger/1"
_SETTLING_SECONDS, _BETWEEN_SECONDS = 2.0, 0.2
_COUNTS = ("steps", "tokens", "seconds", "limit_seconds", "forecast_seconds")

Snapshot = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PhaseDelta:
    """The steps of one phase: what they took, what they were forecast to take, and the least that they could take."""

    steps: int
    tokens: int
    seconds: float
    limit_seconds: float
    forecast_seconds: float

    @property
    def share_of_limit(self) -> float | None:
        return self.limit_seconds / self.seconds if self.seconds > 0 and self.limit_seconds > 0 else None

    @property
    def speed_to_forecast(self) -> float | None:
        return self.forecast_seconds / self.seconds if self.seconds > 0 and self.forecast_seconds > 0 else None

    @property
    def forecast_step_seconds(self) -> float | None:
        return self.forecast_seconds / self.steps if self.steps and self.forecast_seconds > 0 else None

    def to_json_object(self) -> dict[str, Any]:
        return {**asdict(self), "share_of_limit": self.share_of_limit, "speed_to_forecast": self.speed_to_forecast}


@dataclass(frozen=True, slots=True)
class LedgerDelta:
    """`output_tokens`: of all requests, `other_output_tokens` of them not of this load. `why_slow`: the largest reason
    of the server's last minute."""

    prefill: PhaseDelta
    decode: PhaseDelta
    output_tokens: int
    other_output_tokens: int
    price_dollars_per_hour: float | None
    price_note: str
    why_slow: Mapping[str, Any] | None
    plan_line: str

    @property
    def share_of_limit(self) -> float | None:
        """Of both phases together."""
        seconds = self.prefill.seconds + self.decode.seconds
        limit = self.prefill.limit_seconds + self.decode.limit_seconds
        return limit / seconds if seconds > 0 and limit > 0 else None

    @property
    def forecast_tokens_per_second(self) -> float | None:
        """Output tokens a second if every step took as long as forecast, one behind the other without a pause."""
        seconds = self.prefill.forecast_seconds + self.decode.forecast_seconds
        return self.output_tokens / seconds if seconds > 0 and self.output_tokens else None

    def dollars(self, seconds: float) -> float | None:
        """What the machine cost in so many seconds, busy or not."""
        return None if self.price_dollars_per_hour is None else self.price_dollars_per_hour * seconds / 3600

    def dollars_per_million(self, seconds: float, output_tokens: int) -> float | None:
        """Of output tokens, if `output_tokens` are all that came of so many seconds."""
        dollars = self.dollars(seconds)
        return dollars / output_tokens * 1e6 if dollars is not None and output_tokens else None

    def to_json_object(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "prefill": self.prefill.to_json_object(),
            "decode": self.decode.to_json_object(),
            "share_of_limit": self.share_of_limit,
            "forecast_tokens_per_second": self.forecast_tokens_per_second,
        }


async def read_ledger(server: Server) -> Snapshot | None:
    """None where there is no such ledger, or an engine that does not measure."""
    status, answer = await server.ask("GET", "/farthing/ledger")
    if status != 200 or not isinstance(answer, dict) or answer.get("schema") != _SCHEMA:
        return None
    return None if answer["tokens"]["output"] is None else answer


async def read_settled_ledger(server: Server, before: Snapshot, output_tokens: int) -> Snapshot | None:
    """The ledger once it has counted so many output tokens since `before`, or as it is after two seconds."""
    deadline = asyncio.get_running_loop().time() + _SETTLING_SECONDS
    while (after := await read_ledger(server)) is not None:
        if _output(after) - _output(before) >= output_tokens or asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(_BETWEEN_SECONDS)
    return after


def between(before: Snapshot, after: Snapshot, output_tokens: int) -> LedgerDelta | None:
    """What happened between two snapshots, `output_tokens` of it by this load. None if the server began anew."""
    if after["uptime_seconds"] < before["uptime_seconds"] or _output(after) < _output(before):
        return None
    reasons = after["why_slow"]
    return LedgerDelta(
        prefill=_phase("prefill", before, after),
        decode=_phase("decode", before, after),
        output_tokens=_output(after) - _output(before),
        other_output_tokens=max(0, _output(after) - _output(before) - output_tokens),
        price_dollars_per_hour=after["price_dollars_per_hour"],
        price_note=str(after["price_note"]),
        why_slow=reasons[0] if reasons else None,
        plan_line=str(after["plan_line"]),
    )


def _output(snapshot: Snapshot) -> int:
    return int(snapshot["tokens"]["output"])


def _phase(name: str, before: Snapshot, after: Snapshot) -> PhaseDelta:
    old, new = before["total"][name], after["total"][name]
    return PhaseDelta(**{count: max(0, new[count] - old[count]) for count in _COUNTS})
