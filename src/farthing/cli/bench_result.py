"""What `farthing bench` found, as a value and as the JSON of its file. Reads such files back; knows no engine."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from farthing.cli.bench_compare import Comparison, compare, median, spread
from farthing.cli.bench_ops import StepOps
from farthing.errors import UsageError

SCHEMA = "farthing.bench/1"
_MAX_FILE_BYTES = 2**24

Kind = Literal["prefill", "decode"]


@dataclass(frozen=True, slots=True)
class Work:
    """What is timed in a round. Prefill: prompts of `tokens`, one after the other, `repeats` of them. Decode: `batch`
    sequences that had a prompt of `tokens`, `repeats` steps of one token each."""

    kind: Kind
    batch: int
    tokens: int
    repeats: int

    @property
    def name(self) -> str:
        return f"prefill, {self.tokens} tokens" if self.kind == "prefill" else f"decode, batch {self.batch}"

    @property
    def num_tokens(self) -> int:
        """Of a round."""
        return self.repeats * (self.tokens if self.kind == "prefill" else self.batch)


@dataclass(frozen=True, slots=True)
class Figure:
    """Tokens/s: each of the `rounds`, what was forecast, and what the measured limits of the machine allow."""

    work: Work
    rounds: tuple[float, ...]
    forecast: float
    limit: float

    @property
    def name(self) -> str:
        return self.work.name

    @property
    def median(self) -> float:
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Interquartile range of the rounds / median."""
        return spread(self.rounds)

    @property
    def share_of_limit(self) -> float:
        return self.median / self.limit

    @property
    def speed_to_forecast(self) -> float:
        return self.median / self.forecast

    def to_json_object(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **asdict(self.work),
            "tokens_per_second": {"median": self.median, "spread": self.spread, "rounds": list(self.rounds)},
            "forecast_tokens_per_second": self.forecast,
            "limit_tokens_per_second": self.limit,
            "share_of_limit": self.share_of_limit,
            "speed_to_forecast": self.speed_to_forecast,
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """What was measured. Only figures of the same model in the same format on the same machine are compared: the fields
    but `versions`, which an upgrade changes. `model`: its name, of a path the last part."""

    model: str
    num_parameters: int
    format: str
    device_kind: str
    device: str
    num_cores: int
    versions: str

    def differences(self, other: "Subject") -> list[str]:
        """In words, this one first."""
        mine, theirs = asdict(self), asdict(other)
        return [
            f"{name.replace('_', ' ')} {mine[name]} and {theirs[name]}"
            for name in mine
            if name != "versions" and mine[name] != theirs[name]
        ]


@dataclass(frozen=True, slots=True)
class BenchResult:
    """`command`: as it was typed. `date` is ISO 8601, UTC. `options`: of the engine, those that were said. `ops`: of
    one step of each figure, where they could be timed; not read back."""

    version: str
    command: str
    date: str
    subject: Subject
    options: Mapping[str, Any]
    num_threads: int
    figures: tuple[Figure, ...]
    ops: tuple[StepOps, ...] = ()

    def to_json_object(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "version": self.version,
            "command": self.command,
            "date": self.date,
            "subject": asdict(self.subject),
            "options": dict(self.options),
            "num_threads": self.num_threads,
            "figures": [figure.to_json_object() for figure in self.figures],
            "ops": [asdict(step) for step in self.ops],
        }


def compare_results(before: BenchResult, after: BenchResult) -> dict[str, Comparison]:
    """Of every figure that both have, by its name."""
    old = {figure.name: figure.rounds for figure in before.figures}
    return {figure.name: compare(old[figure.name], figure.rounds) for figure in after.figures if figure.name in old}


def read_result(path: Path) -> BenchResult:
    """What `farthing bench --save` wrote. UsageError for anything else."""
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
        if content["schema"] != SCHEMA:
            raise ValueError(content["schema"])
        return _result(content)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", fix="make one: farthing bench --save FILE"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UsageError(
            f"{path} is no file of farthing bench ({SCHEMA})", fix="make one: farthing bench --save FILE"
        ) from None


def _result(content: Mapping[str, Any]) -> BenchResult:
    return BenchResult(
        version=str(content["version"]),
        command=str(content["command"]),
        date=str(content["date"]),
        subject=Subject(**content["subject"]),
        options=dict(content["options"]),
        num_threads=int(content["num_threads"]),
        figures=tuple(_figure(figure) for figure in content["figures"]),
    )


def _figure(content: Mapping[str, Any]) -> Figure:
    if content["kind"] not in ("prefill", "decode"):
        raise ValueError(content["kind"])
    counts = [content[name] for name in ("batch", "tokens", "repeats")]
    if not all(type(count) is int and 0 < count < 10**6 for count in counts):
        raise ValueError(counts)
    rounds = _speeds(content["tokens_per_second"]["rounds"])
    forecast, limit = _speeds([content["forecast_tokens_per_second"], content["limit_tokens_per_second"]])
    return Figure(Work(content["kind"], *counts), rounds, forecast, limit)


def _speeds(values: Sequence[Any]) -> tuple[float, ...]:
    if not values or not all(isinstance(value, int | float) and 0 < value < math.inf for value in values):
        raise ValueError(values)
    return tuple(float(value) for value in values)
