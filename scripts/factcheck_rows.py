"""Holds published claims and measured rows against farthing's fact check, and prints benchmarks/factcheck.md.

    python scripts/factcheck_rows.py --data DIR > benchmarks/factcheck.md

`--data` is a folder with measured_calibration.csv, whose rows carry no licence to be copied here. A row becomes a claim
by its columns; what it leaves open stays open. No measured row may be impossible: where one is, the check is wrong.
"""

import argparse
import csv
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from farthing.planner.claims.claim_text import parse_claim
from farthing.planner.claims.factcheck import Verdict, factcheck
from farthing.planner.validation.measured_row import SUSPECT, Row
from farthing.planner.validation.row_claim import claim_of

SEED = 3
SAMPLE = 100


@dataclass(frozen=True, slots=True)
class Published:
    """A published claim: as it is written (with the hardware named, where the page names it elsewhere)."""

    text: str
    expected: str
    source: str


PUBLISHED = (
    Published(
        "RTX 4090, llama-3.1-8b fp8, 195 tok/s at batch 1, no speculation", "impossible", "gigagpu.com: 4090, 8B FP8"
    ),
    Published('70B AWQ in "17 GB" on one 4090 at 23 tok/s', "impossible", "gigagpu.com, RTX 4090 70B pages"),
    Published('70B FP8 in "35 GB"', "impossible", "gigagpu.com ?p=34203"),
    Published("70B 6-bit at 250 tok/s on a '24 GB 5090'", "impossible", "craftrigs"),
    Published("EXL3 4-bit 70B in 22 GB", "impossible", "solosoft"),
    Published("RTX 4090, 8B Q4_K_M, 72 tok/s", "suspicious", "nelsahost (127.7 measured elsewhere): too low"),
    Published(
        "Kimi-K2 (1T params) on ONE H200, 6.83 ms ITL", "impossible", "llm-d-planner benchmarks_interpolated_v2.json"
    ),
    Published("TRT-LLM 7B fp16, 191 tok/s, one A100, batch 1", "impossible", "a README benchmark"),
    Published('"80 GB" card = 80 GiB', "impossible", "llm-d-planner results_raw.csv"),
    Published("FP8 405B = 406 GB", "suspicious", "vLLM #6746: Meta's checkpoint loads 496 GB"),
    Published("RTX 5090, Qwen3-8B Q8_0, 270 tok/s", "impossible", "imp README; llama.cpp 146 on that file"),
)

HEAD = """# Fact check against published claims and measured rows

Written by `python scripts/factcheck_rows.py --data DIR`. The laws are in `planner/claims/claim_laws.py`, the margins in
`planner/claims/claim_limits.py`. The measured rows are other people's (vendors' tables, READMEs, issues) and are not in
the repository; a row becomes a claim by its columns.

## Published claims

| claim | verdict | why | source |
|---|---|---|---|"""

NOTES = """
Two of these are wrong without breaking a law. 8B Q4_K_M at 72 tokens/s is slow, which nothing forbids. 406 GB is what
405.85 G weights of 8 bits come to, but published checkpoints do not store all of them so: with embedding and head in
16 bits it is 410 GB, and Meta's, which keeps more, loads 496 GB.

"80 GB card = 80 GiB" is said of every such card, and the H100 contradicts it; the drivers of A100 boards do report
80 GiB. The last claim was found by the check: 270 tokens/s would read more than the nominal bandwidth if the weights
were read as Q8_0, so either they are not (an engine may convert them), or a draft is not mentioned.
"""


def read_rows(data: Path) -> list[Row]:
    with (data / "measured_calibration.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def checked(rows: Iterable[Row]) -> list[tuple[Row, Verdict]]:
    """Every row that is a claim, with its verdict."""
    claims = ((row, claim_of(row)) for row in rows)
    return [(row, factcheck(claim)) for row, claim in claims if claim is not None]


def sample_of(verdicts: Sequence[tuple[Row, Verdict]]) -> list[tuple[Row, Verdict]]:
    return random.Random(SEED).sample(list(verdicts), SAMPLE)


def lines(rows: Sequence[Row]) -> Iterable[str]:
    """The page: published claims, the sample, every row, the suspect rows."""
    plausible = checked(row for row in rows if row["quality"] != SUSPECT)
    suspect = [row for row in rows if row["quality"] == SUSPECT]
    yield HEAD
    for published in PUBLISHED:
        verdict = factcheck(parse_claim(published.text))
        decisive = verdict.decisive
        assert decisive is not None
        yield f"| {published.text} | **{verdict.outcome}** | {decisive.law}: {decisive.says} | {published.source} |"
    yield NOTES
    yield f"## {SAMPLE} plausible measured rows (seed {SEED})"
    yield ""
    yield from _counts(sample_of(plausible))
    yield ""
    yield "The closest to a ceiling of speed:"
    yield ""
    yield from _closest(sample_of(plausible), 8)
    yield ""
    yield f"## All {len(plausible)} plausible rows that are claims"
    yield ""
    plausible_rows = len(rows) - len(suspect)
    yield f"Of {plausible_rows} rows; the others are of hardware that the catalogue does not have, or of watts."
    yield ""
    yield from _counts(plausible)
    yield ""
    yield from _closest(plausible, 12)
    yield ""
    yield "## Rows that the data call suspect"
    yield ""
    yield "All are prefill speeds far below those of the same card's neighbours: too low, which no law forbids."
    yield ""
    yield "| row | claim | verdict | against the ceiling |"
    yield "|---|---|---|---|"
    for row, verdict in checked(suspect):
        yield f"| {row['id']} | {_said(row)} | {verdict.outcome} | {_speed_closeness(verdict):.2f} |"


def _counts(verdicts: Sequence[tuple[Row, Verdict]]) -> Iterable[str]:
    counts = Counter(verdict.outcome for _, verdict in verdicts)
    yield "| possible | suspicious | impossible |"
    yield "|---|---|---|"
    yield f"| {counts['possible']} | {counts['suspicious']} | {counts['impossible']} |"
    laws = Counter(
        f"{verdict.decisive.law}, {'too close to the limit' if verdict.decisive.closeness > 0.5 else 'far below it'}"
        for _, verdict in verdicts
        if verdict.outcome != "possible" and verdict.decisive
    )
    if laws:
        yield ""
        yield f"Not plainly possible: {'; '.join(f'{law} {count}' for law, count in laws.most_common())}."


def _closest(verdicts: Sequence[tuple[Row, Verdict]], number: int) -> Iterable[str]:
    yield "| row | claim | claimed / ceiling | verdict |"
    yield "|---|---|---|---|"
    ranked = sorted(verdicts, key=lambda pair: _speed_closeness(pair[1]), reverse=True)
    for row, verdict in ranked[:number]:
        yield f"| {row['id']} | {_said(row)} | {_speed_closeness(verdict):.2f} | {verdict.outcome} |"


def _speed_closeness(verdict: Verdict) -> float:
    """How near the claim comes to a law of speed; how full a memory is says nothing here."""
    return max((finding.closeness for finding in verdict.findings if finding.unit != "B"), default=0.0)


def _said(row: Row) -> str:
    batch = f", batch {row['batch_or_concurrency']}" if row["batch_or_concurrency"] else ""
    setting = f"{row['model']} {row['weight_dtype']} on {row['num_gpus']}x {row['gpu']}{batch}"
    return f"{setting}: {row['metric']} {float(row['value']):.5g} {row['unit']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with measured_calibration.csv")
    print("\n".join(lines(read_rows(parser.parse_args().data))))


if __name__ == "__main__":
    main()
