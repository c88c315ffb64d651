"""The page: where and when it was measured, a table for each group beside the peers, and one of the floors."""

import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from farthing.hardware.calibration import cpu_key
from peers.results import Comparison, Outcome

HERE = Path(__file__).parent
VERDICTS = {True: "met", False: "**missed**", None: ""}

HOW = """\
Ratios are tokens/s of Farthing / tokens/s of the peer, round by round; in a round all engines of the group take turns
on the machine. Every engine keeps its model in memory and has {threads} threads, unless its name says otherwise. Decode
is after {context} tokens of context, 4k after {long_context:,}. Farthing's steps are those of its model runner, with
the making of their inputs; `LLM.generate` has scheduler, greedy sampling and text on top. llama.cpp is timed in
llama_decode alone, transformers in its forward pass; CTranslate2 and OpenVINO GenAI generate greedily, prefill with the
one token that they need for it. Before {disturbed:,} of {turns:,} turns something else was at work on the machine."""

FLOORS = """\
The floor of a step is the sum over the described ops of max(bytes / read bandwidth at the working set, operations /
peak of the op's math), both measured by kernels that do nothing else, just before Farthing's turn; share = floor /
measured, median of the rounds."""


def page(
    outcomes: Sequence[Outcome],
    *,
    command: str,
    versions: Iterable[str],
    problems: Sequence[str],
    how: str,
    picture: str,
) -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True).stdout
    device = cpu_key()
    about = [
        f"{datetime.now(UTC):%Y-%m-%d}", f"commit {commit.strip()}", f"{device.name}, {device.num_cores} cores",
        f"Python {platform.python_version()}", device.versions, *versions,
    ]  # fmt: skip
    lines = [
        "# Farthing beside other engines on a CPU",
        "",
        " · ".join(about),
        "",
        f"Command: `{command}`. {_line(how)}",
        "",
    ]
    lines += [f"![Ratios of all cases]({picture})", ""]
    for group in dict.fromkeys(outcome.group.title for outcome in outcomes):
        of_group = [outcome for outcome in outcomes if outcome.group.title == group]
        lines += [f"## {group}", "", *_table([one for outcome in of_group for one in outcome.comparisons()]), ""]
    floors = [outcome for outcome in outcomes if outcome.shares]
    if floors:
        lines += ["## Beside the machine", "", f"{_line(FLOORS)} {_limits(floors)}", "", *_floors(floors), ""]
    if problems:
        lines += ["## Left out", "", *(f"- {problem}" for problem in problems), ""]
    return "\n".join(lines)


def _table(comparisons: Sequence[Comparison]) -> list[str]:
    rows = [
        "| | Farthing tok/s | peer | its tok/s | ratio | least to greatest | rounds | wanted | |",
        "|---|--:|---|--:|--:|---|--:|---|---|",
    ]
    for one in comparisons:
        outcome = one.outcome
        ours, theirs = (outcome.tokens_per_second(name) for name in (outcome.group.ours.name, one.peer))
        cells = (
            outcome.case.title, _rate(ours), one.peer, _rate(theirs), f"**{one.ratio:.2f}x**",
            f"{min(one.ratios):.2f} to {max(one.ratios):.2f}", str(len(one.ratios)), one.wanted_text, VERDICTS[one.met],
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _floors(outcomes: Sequence[Outcome]) -> list[str]:
    rows = ["| | floor tok/s | measured tok/s | share | wanted | |", "|---|--:|--:|--:|---|---|"]
    for outcome in outcomes:
        case = outcome.case
        share = statistics.median(outcome.shares)
        alone = case.share is not None and not case.either
        wanted = "" if case.share is None else f"{case.share:.0%}{' (or the ratio)' if case.either else ''}"
        cells = (
            f"{outcome.group.name}: {case.title}", _rate(case.tokens / statistics.median(outcome.floors)),
            _rate(outcome.tokens_per_second(outcome.group.ours.name)), f"**{share:.0%}**", wanted,
            VERDICTS[outcome.share_met()] if alone else "",
        )  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _limits(outcomes: Sequence[Outcome]) -> str:
    """The medians of all rounds."""
    measured = [limits for outcome in outcomes for limits in outcome.limits]
    peaks = [
        f"{name} {statistics.median(one.operations_per_second[name] for one in measured) / 1e9:,.0f} G operations/s"
        for name in measured[0].operations_per_second
    ]
    read = [
        f"{size // 2**20:,} MiB {statistics.median(dict(one.bandwidth)[size] for one in measured) / 1e9:.1f} GB/s"
        for size, _ in measured[0].bandwidth
    ]
    return f"Medians of all rounds: {', '.join(peaks)}; read {', '.join(read)}."


def _rate(tokens_per_second: float) -> str:
    return f"{tokens_per_second:,.0f}" if tokens_per_second >= 100 else f"{tokens_per_second:.1f}"


def _line(text: str) -> str:
    return " ".join(text.split())
