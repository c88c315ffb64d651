"""KV pools that engines reported at their start, beside the memory rule of their profile.

From memory_fit_logs.csv. The share of the memory is the run's own (`util`); everything else is the profile's. Knows no
seconds.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from farthing.models.parallel import parallelize
from farthing.planner.engines.engine_profile import engine_of
from farthing.planner.validation.measured_row import SkippedRowError, spec_of

KV_TOKENS = "kv_tokens"


@dataclass(frozen=True)
class Pool:
    row: Mapping[str, str]
    engine: str
    known: bool
    measured: float
    forecast: float

    @property
    def error(self) -> float:
        return abs(self.forecast / self.measured - 1)


def pools(data: Path) -> Iterator[Pool]:
    """Every run whose tokens, memory and share are stated and whose model is known."""
    with (data / "memory_fit_logs.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not (row[KV_TOKENS] and row["total_gib"] and row["util"]):
                continue
            try:
                spec = spec_of(row)
            except SkippedRowError:
                continue
            engine, known = engine_of(row["engine"].lower(), row["engine_version"].lower())
            rule = replace(engine.memory, share=float(row["util"]))
            tp, memory_bytes = int(row["tp"]), float(row["total_gib"]) * 2**30
            rooms = [rule.kv_tokens(rank, memory_bytes, tp=tp) for rank in parallelize(spec, tp, int(row["pp"] or 1))]
            yield Pool(row, engine.name, known, float(row[KV_TOKENS]), min(rooms))
