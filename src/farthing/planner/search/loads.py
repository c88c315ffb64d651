"""What is asked of a deployment, as numbers: users or requests per second, tokens in and out, what a cache may hold.

Presets stand in workloads.toml, each figure with its source or the word "assumed"; a file of lengths gives the rest.
What is simulated from it is planner/simulation/workload.py's. Knows no hardware.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from farthing.errors import UsageError
from farthing.hardware.figure import TomlTable, read_toml
from farthing.planner.money.price_data import Given, given
from farthing.planner.search.slo import Slo
from farthing.planner.simulation.length_file import read_lengths

MAX_USERS = 1_000_000
MAX_RATE = 1e6
_FILE = Path(__file__).with_name("workloads.toml")
_FIGURES = (
    "least_context",
    "input_tokens",
    "output_tokens",
    "new_tokens",
    "think_seconds",
    "spread",
    "ttft_seconds",
    "tpot_seconds",
)
_MOST_OF_CONTEXT = 0.7  # of a window shorter than the workload's, what a prompt takes on average: assumed
_THINK_OF_FILE = 30.0  # assumed

PrefixOf = Literal["all", "user", "nobody"]


@dataclass(frozen=True, slots=True)
class Demand:
    """`users` at a time, each of whom waits for an answer and thinks, or `rate` requests per second, at random.

    Tokens are means of a request: `new_tokens` of `input_tokens` are in no cache; the others begin every prompt of
    `all` or of the same `user`. `longest`: of a whole sequence. `spread`: variance / mean^2 of the new tokens.
    `notes`: where each figure is from.
    """

    name: str
    users: int | None
    rate: float | None
    input_tokens: int
    new_tokens: int
    output_tokens: int
    prefix_of: PrefixOf
    think_seconds: float
    spread: float
    longest: int
    notes: tuple[str, ...] = ()

    @property
    def prefix_tokens(self) -> int:
        return self.input_tokens - self.new_tokens

    @property
    def amount(self) -> float:
        """Users, or requests per second."""
        return float(self.users) if self.users is not None else self.rate or 0.0

    @property
    def amount_text(self) -> str:
        if self.users is not None:
            return f"{self.users:,} user{'s' * (self.users != 1)}"
        return f"{self.rate:g} requests/s"

    @property
    def line(self) -> str:
        cached = f", {self.prefix_tokens:,} of them seen before" if self.prefix_tokens else ""
        think = f", {self.think_seconds:g} s between requests" if self.users is not None and self.think_seconds else ""
        return (
            f"{self.amount_text} · {self.name} · {self.input_tokens:,} tokens in{cached}, "
            f"{self.output_tokens:,} out{think}"
        )

    def times(self, factor: float) -> "Demand":
        """As many users or requests, times a factor; at least one user."""
        users = None if self.users is None else max(1, round(self.users * factor))
        return replace(self, users=users, rate=None if self.rate is None else self.rate * factor)

    def with_context(self, factor: float, max_positions: int) -> "Demand | None":
        """Prompts times a factor, new and cached alike; None where a sequence would be above the model's limit."""
        new, prefix = max(1, round(self.new_tokens * factor)), round(self.prefix_tokens * factor)
        longest = max(round(self.longest * factor), new + prefix + self.output_tokens)
        if new + prefix + self.output_tokens > max_positions:
            return None
        return replace(self, input_tokens=new + prefix, new_tokens=new, longest=min(longest, max_positions))


@dataclass(frozen=True, slots=True)
class Preset:
    """A workload by name; `figures` by the names of the file."""

    name: str
    what: str
    prefix_of: PrefixOf
    figures: dict[str, Given]


@cache
def presets() -> dict[str, Preset]:
    table = read_toml(_FILE)
    return {name: _preset(name, table.table(name)) for name in table}


def _preset(name: str, entry: TomlTable) -> Preset:
    prefix_of: PrefixOf = entry.text("prefix_of", ("all", "user", "nobody"))  # type: ignore[assignment]
    figures = {key: given(entry, key) for key in _FIGURES if key in entry}
    preset = Preset(name, entry.text("what"), prefix_of, figures)
    entry.close()
    return preset


def demand_of(
    max_positions: int,
    *,
    users: int | None = None,
    rate: float | None = None,
    workload: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    context: int | None = None,
    think_seconds: float | None = None,
) -> tuple[Demand, Slo]:
    """The load, and what its kind is usually promised. `max_positions`: of the model; `context`: a shorter limit.

    UsageError for numbers that are none, a workload that is not known, a file that can't be read, too long a sequence.
    """
    _check(users, rate, think_seconds)
    if users is None and rate is None:
        users = 1
    limit = min(context or max_positions, max_positions)
    name = workload or "chat"
    if name in presets():
        demand, slo = _of_preset(presets()[name], limit, input_tokens, output_tokens)
    else:
        demand, slo = _of_file(name, limit, input_tokens, output_tokens)
    if think_seconds is not None:
        kept = tuple(note for note in demand.notes if not note.startswith("think_seconds"))
        demand = replace(demand, think_seconds=think_seconds, notes=kept)
    demand = replace(demand, users=users, rate=rate)
    if demand.longest > limit:
        said = f"--context {context}" if context and context < max_positions else f"the model's {max_positions:,}"
        raise UsageError(
            f"the workload has sequences of {demand.longest:,} tokens, above {said}",
            fix="say shorter --input and --output, or plan a model with a longer context",
        )
    return demand, slo


def _check(users: int | None, rate: float | None, think_seconds: float | None) -> None:
    if users is not None and rate is not None:
        raise UsageError("--users and --rate are two ways to say a load", fix="give one of them")
    if users is not None and not 1 <= users <= MAX_USERS:
        raise UsageError(f"--users is {users}", fix=f"it lies between 1 and {MAX_USERS:,}")
    if rate is not None and not (math.isfinite(rate) and 0 < rate <= MAX_RATE):
        raise UsageError(f"--rate is {rate:g}", fix="requests per second, above 0: --rate 2.5")
    if think_seconds is not None and not (math.isfinite(think_seconds) and 0 <= think_seconds <= 86_400):
        raise UsageError(f"--think is {think_seconds:g}", fix="seconds between an answer and the next request")


def _of_preset(preset: Preset, limit: int, input_tokens: int | None, output_tokens: int | None) -> tuple[Demand, Slo]:
    figures = preset.figures
    number: Callable[[str], float] = lambda key: figures[key].value if key in figures else 0.0  # noqa: E731
    output = output_tokens or round(number("output_tokens"))
    whole, new = round(number("input_tokens")), round(number("new_tokens"))
    notes = [f"{key} {figure.value:g} ({figure.origin})" for key, figure in figures.items() if key != "least_context"]
    if input_tokens is None and limit < number("least_context"):
        raise UsageError(
            f"{preset.name} needs a context of {number('least_context'):,.0f} tokens, there are {limit:,}",
            fix="plan a model with a longer context, or say --input",
        )
    if input_tokens is not None:
        new = max(1, round(new * input_tokens / whole))
        whole = input_tokens
        longest = whole + output
    elif whole + output > limit:
        whole = max(1, min(round(_MOST_OF_CONTEXT * limit), limit - output))
        new, longest = min(new, whole), limit
        notes.append(
            f"prompts of {whole:,} tokens: {_MOST_OF_CONTEXT:.0%} of the {limit:,} that the model takes (assumed)"
        )
    else:
        longest = whole + output
    demand = Demand(
        name=preset.name,
        users=None,
        rate=None,
        input_tokens=whole,
        new_tokens=new,
        output_tokens=output,
        prefix_of=preset.prefix_of,
        think_seconds=number("think_seconds"),
        spread=number("spread"),
        longest=longest,
        notes=tuple(notes),
    )
    promised = (figures[key].value if key in figures else None for key in ("ttft_seconds", "tpot_seconds"))
    return demand, Slo(*promised)


def _of_file(name: str, limit: int, input_tokens: int | None, output_tokens: int | None) -> tuple[Demand, Slo]:
    """No two prompts of a file are taken to begin alike."""
    if not Path(name).expanduser().is_file():
        known = ", ".join(presets())
        raise UsageError(
            f"--workload {name!r:.60} is neither known nor a file", fix=f"use {known}, or a JSONL or CSV file"
        )
    lengths = read_lengths(name)
    if input_tokens is not None or output_tokens is not None:
        raise UsageError("--input and --output are those of the file", fix="leave them out, or name no file")
    inputs = [input for input, _ in lengths]
    mean = sum(inputs) / len(inputs)
    variance = math.fsum((value - mean) ** 2 for value in inputs) / len(inputs)
    output = sum(output for _, output in lengths) / len(lengths)
    demand = Demand(
        name=Path(name).name,
        users=None,
        rate=None,
        input_tokens=max(1, round(mean)),
        new_tokens=max(1, round(mean)),
        output_tokens=max(1, round(output)),
        prefix_of="nobody",
        think_seconds=_THINK_OF_FILE,
        spread=variance / mean**2,
        longest=max(input + output for input, output in lengths),
        notes=(
            f"lengths: {len(lengths):,} requests of {Path(name).name}",
            f"think_seconds {_THINK_OF_FILE:g} (assumed; --think says yours)",
            "no prompt of the file is taken to begin like another",
        ),
    )
    return demand, Slo()
