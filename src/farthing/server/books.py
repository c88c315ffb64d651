"""What the server keeps of its engine's work: the ledger, the bill, latencies, the flight recorder - one of each.

Metrics, page, `farthing top`, usage and bill read their figures here, so they agree. Dollars are seconds times the
price of the machine; what no request took is idle. Knows no HTTP: serve.py fills it, snapshot.py reads it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec
from prometheus_client import CollectorRegistry

from farthing.engine.accounts.bill import BillBook
from farthing.engine.accounts.incident import FlightRecorder
from farthing.engine.accounts.ledger import Ledger
from farthing.engine.accounts.step_record import Charge, StepRecord
from farthing.engine.process.engine_client import EngineClient, Loss
from farthing.engine.process.messages import Planned
from farthing.errors import FarthingError
from farthing.planner.money.price import HourlyPrice
from farthing.server.gpus import Gpus
from farthing.server.latencies import Latencies

_HOUR_SECONDS = 3600.0
NO_PRICE = HourlyPrice(None, "no price per hour is known; say yours with --price-per-hour")
NOTHING_PLANNED = Planned("", "", 0, 0, 1, 0)


@dataclass(slots=True)
class Spending:
    """Seconds since the start: of steps, charged to requests, and of the clock."""

    request_seconds: float = 0.0
    clock_seconds: float = 0.0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0


class Books:
    """`tick` is called about once a second, and at the end of each request. `model`: the name on the bill. `reports`:
    the page of the plan that is served, by language; none without a plan file. `measures`: whether the engine tells of
    its steps; without, no seconds and dollars are known. `on_problem`: the bill can't be written any more, once."""

    def __init__(
        self,
        *,
        model: str = "",
        bill: BillBook | None = None,
        recorder: FlightRecorder | None = None,
        reports: Mapping[str, str] = MappingProxyType({}),
        measures: bool = True,
        on_problem: Callable[[str], None] = lambda problem: None,
    ) -> None:
        self.model, self.price, self.planned = model, NO_PRICE, NOTHING_PLANNED
        self.ledger = Ledger()
        self.registry = CollectorRegistry()
        self.latencies = Latencies(self.registry)
        self.gpus = Gpus()
        self.spent = Spending()
        self.recorder = recorder or FlightRecorder(msgspec.structs.asdict)
        self.reports = reports
        self.measures = measures
        self._bill, self._on_problem = bill, on_problem
        self._problem: str | None = None  # of the bill, as it was told
        self._started = self._ticked = time.monotonic()

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self._started

    def plan(self, planned: Planned, price: HourlyPrice) -> None:
        """What runs, and what it costs from the start on."""
        self.planned, self.price = planned, price
        if planned.device_kind == "cuda":
            self.gpus.start()
        self.tick()

    def steps(self, steps: Sequence[StepRecord], charges: Sequence[Charge]) -> None:
        """Steps of the engine have ended."""
        for step in steps:
            self.ledger.record(step)
            self.recorder.step(step)
        for charge in charges:
            self.spent.request_seconds += charge.seconds
            if self._bill is not None:
                self._bill.charge(
                    key=charge.owner, model=self.model, seconds=charge.seconds, dollars=self.dollars(charge.seconds)
                )

    def finished(self, *, key: str, num_prompt_tokens: int, num_cached_tokens: int, num_output_tokens: int) -> None:
        """A request has ended, in whatever way."""
        self.spent.num_prompt_tokens += num_prompt_tokens
        self.spent.num_cached_tokens += num_cached_tokens
        if self._bill is not None:
            self._bill.finished(
                key=key,
                model=self.model,
                prompt_tokens=num_prompt_tokens,
                cached_tokens=num_cached_tokens,
                output_tokens=num_output_tokens,
            )
            self.tick()  # so that it stands on the disk when its client has the answer

    def tick(self) -> None:
        """Time has passed. Until the plan says what it costs, nothing is written of it."""
        if self.planned is NOTHING_PLANNED:
            return
        now = time.monotonic()
        seconds, self._ticked = now - self._ticked, now
        self.spent.clock_seconds += seconds
        if self._bill is not None:
            self._bill.clock(model=self.model, seconds=seconds, dollars=self.dollars(seconds))

    def flush(self) -> None:
        """What has gathered goes to the disk."""
        self.tick()
        if self._bill is not None:
            self._bill.flush()
            self._tell_problem(self._bill.problem)

    def close(self) -> None:
        self.tick()
        if self._bill is not None:
            self._bill.close()
            self._tell_problem(self._bill.problem)

    def _tell_problem(self, problem: str | None) -> None:
        if problem is not None and problem != self._problem:
            self._on_problem(problem)
        self._problem = problem

    def dollars(self, seconds: float) -> float | None:
        """What so much time of the machine costs; None without a price."""
        price = self.price.dollars_per_hour
        return None if price is None else seconds * price / _HOUR_SECONDS

    def lost(self, loss: Loss, engine: EngineClient, say: Callable[[str], None]) -> None:
        """Keep what is known of an engine that was lost."""
        path = self.recorder.write(
            kind=loss.kind,
            reason=loss.reason,
            exit_code=loss.exit_code,
            about={
                "model": self.model,
                "plan_line": self.planned.line,
                "device": self.planned.device,
                "uptime_seconds": self.uptime_seconds,
                "num_restarts": engine.num_restarts,
                "stall_seconds": engine.stall_seconds,
                "status": msgspec.structs.asdict(loss.status),
            },
        )
        say(str(self.recorder.problem) if path is None else "what happened: farthing doctor --last")


def open_bill(path: Path, say: Callable[[str], None]) -> BillBook | None:
    """None, and said, where it can't be kept: a server without a bill still serves."""
    try:
        return BillBook(path)
    except FarthingError as error:
        say(f"note: no bill is kept: {error}")
        return None
