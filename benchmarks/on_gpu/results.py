"""What was measured, row by row, and what follows from it: floors, shares, and whether what was wanted is met.

    floor of a step = max(bytes moved / bandwidth, sum over the maths of operations / peak)

by the data sheet, or by the peaks that were measured just before. Knows no page and no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = "farthing.gpu-benchmark/1"
SHEET, MEASURED = "data sheet", "measured"
BF16, FP8, INT4 = "bf16", "fp8", "w4a16"
INVARIANT = f"{BF16} batch-invariant"
_DEVICE_SHARE, _DEVICE_BYTES = 0.05, 300 * 2**20  # that memory in use may be off the plan, the larger

Row = Mapping[str, Any]


@dataclass(slots=True)
class Results:
    """`about`: command, date, commit. `parts`: name, seconds, and why one was not measured, else None."""

    about: dict[str, Any]
    parts: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, file: Path) -> "Results":
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise ValueError(f"{file} is not of schema {SCHEMA}")
        return cls(**content)

    def write(self, file: Path) -> None:
        """Whole or not at all."""
        content = {"schema": SCHEMA, "about": self.about, "parts": self.parts, "rows": self.rows}
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(file)

    def of(self, section: str, **equal: Any) -> list[Row]:
        return [
            row
            for row in self.rows
            if row["section"] == section and all(row.get(key) == value for key, value in equal.items())
        ]

    def one(self, section: str, **equal: Any) -> Row | None:
        return next(iter(self.of(section, **equal)), None)

    def floor(self, row: Row, source: str) -> float | None:
        """Seconds of a row that has bytes and operations, or the sum over its steps. None where a peak is not known."""
        peaks = self.one("peaks", source=source)
        if peaks is None:
            return None
        steps = row["steps"] if "steps" in row else [(row["moved_bytes"], row["flops"])]
        rates = peaks["flops_per_second"]
        if any(math not in rates for _, flops in steps for math in flops):
            return None
        return sum(
            max(moved / peaks["bytes_per_second"], sum(count / rates[math] for math, count in flops.items()))
            for moved, flops in steps
        )

    def share(self, row: Row | None, source: str) -> float | None:
        """Floor / measured."""
        floor = self.floor(row, source) if row is not None else None
        return None if row is None or floor is None else floor / row["seconds"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`met` None: not measured."""

    what: str
    measured: str
    wanted: str
    met: bool | None


def wanted(results: Results) -> list[Wanted]:
    """The lines that a release is held to, with what was measured beside each."""
    first, batched = {"batch": 1, "context": 512}, {"batch": 64, "context": 1024}
    plain = results.one("decode", format=BF16, **first)
    return [
        _least("decode, batch 1, bf16: share of the data sheet", _sheet(results, "decode", BF16, **first), 0.80),
        _least("decode, batch 1, FP8: share of the data sheet", _sheet(results, "decode", FP8, **first), 0.68),
        _times("decode, batch 1, int4: tokens/s over bf16's", plain, results.one("decode", format=INT4, **first), 2.0),
        _least(
            "decode, batch 64 at 1k, bf16: share of the data sheet", _sheet(results, "decode", BF16, **batched), 0.72
        ),
        _least("prefill of 2k and 8k, bf16: share of the data sheet", _prefill_share(results), 0.60),
        _least("continuous batching, bf16: share of the bound", _sheet(results, "mixed", BF16), 0.70),
        _host_gap(results),
        _forecasts(results),
        _greedy(results),
        _memory(results),
    ]


def forecast_ratio(row: Row) -> float | None:
    """Measured / forecast."""
    return row["seconds"] / row["forecast_seconds"] if row.get("forecast_seconds") else None


def is_as_planned(row: Row) -> bool:
    """Law 3: to the byte what Farthing allocates, about what the device has in use."""
    allowed = max(_DEVICE_SHARE * row["planned_bytes"], _DEVICE_BYTES)
    exact = row["weights_bytes"] == row["planned_weights_bytes"] and row["kv_bytes"] == row["planned_kv_bytes"]
    return exact and abs(row["bytes_in_use"] - row["planned_bytes"]) <= allowed


def _sheet(results: Results, section: str, weight_format: str, **equal: Any) -> float | None:
    return results.share(results.one(section, format=weight_format, **equal), SHEET)


def _prefill_share(results: Results) -> float | None:
    shares = [_sheet(results, "prefill", BF16, tokens=tokens) for tokens in (2048, 8192)]
    known = [share for share in shares if share is not None]
    return min(known) if len(known) == len(shares) else None


def _least(what: str, share: float | None, least: float) -> Wanted:
    measured = "not measured" if share is None else f"{share:.1%}"
    return Wanted(what, measured, f"at least {least:.0%}", None if share is None else share >= least)


def _times(what: str, plain: Row | None, other: Row | None, least: float) -> Wanted:
    if plain is None or other is None:
        return Wanted(what, "not measured", f"at least {least:g}x", None)
    ratio = plain["seconds"] / other["seconds"]
    return Wanted(what, f"{ratio:.2f}x", f"at least {least:g}x", ratio >= least)


def _host_gap(results: Results) -> Wanted:
    what, most = "decode, batch 64, all formats: the device waits for the host", 0.03
    gaps = [row["host_share"] for row in results.of("decode", batch=64) if row["format"] != INVARIANT]
    if not gaps:
        return Wanted(what, "not measured", f"at most {most:.0%}", None)
    return Wanted(what, f"{max(gaps):.1%} at most", f"at most {most:.0%}", max(gaps) <= most)


def _forecasts(results: Results) -> Wanted:
    what, most = "forecasts of decode and prefill: measured / forecast", 0.10
    rows = [row for row in (*results.of("decode"), *results.of("prefill")) if row["format"] != INVARIANT]
    ratios = [ratio for row in rows if (ratio := forecast_ratio(row)) is not None]
    if not ratios:
        return Wanted(what, "not measured", f"within {most:.0%}", None)
    inside = sum(abs(ratio - 1) <= most for ratio in ratios)
    measured = f"{inside} of {len(rows)} within, {min(ratios):.2f} to {max(ratios):.2f}"
    return Wanted(what, measured, f"within {most:.0%}", inside == len(rows))


def _greedy(results: Results) -> Wanted:
    what, rows = "greedy answers: equal but for near ties", results.of("greedy")
    if not rows:
        return Wanted(what, "not measured", "none differs", None)
    wrong = sum(row["wrong"] for row in rows)
    return Wanted(what, f"{wrong} differ in {len(rows)} comparisons", "none differs", wrong == 0)


def _memory(results: Results) -> Wanted:
    what, rows = "law 3: memory as planned", results.of("memory")
    if not rows:
        return Wanted(what, "not measured", "all formats", None)
    kept = sum(map(is_as_planned, rows))
    return Wanted(what, f"{kept} of {len(rows)} loads", "all formats", kept == len(rows))
