"""70B in 4 bits on four 24 GB cards, simulated: is a deeper pipeline better than two replicas where KV room is short?

    python scripts/kv_starvation.py [--quick]

Every layout of four cards serves closed loops of users who never think, for three lengths and both ways in which cards
talk. Written to benchmarks/kv-starvation.md with the verdict. Nothing is measured here: it is the forecast, under the
scheduler that serves. Needs no torch.
"""

import argparse
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from farthing.errors import UnsupportedError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.planner.formats import candidate_formats, precision_of
from farthing.planner.hardware import find_hardware
from farthing.planner.layout import Layout, layouts, place
from farthing.planner.request import PlanRequest
from farthing.planner.simulation.deployment import deployment_of
from farthing.planner.simulation.lengths import Lengths
from farthing.planner.simulation.simulation import Simulation, summarize
from farthing.planner.simulation.simulator import Run, simulate
from farthing.planner.simulation.workload import by_users

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "kv-starvation.md"
MODEL = "llama-3.1-70b"
CARDS = ("rtx-3090", "rtx-4090")
LENGTHS = ((500, 250), (1000, 500), (4000, 500))
USERS = (4, 16, 64, 128)
MEMORY = "90%"  # as vLLM by default: about 1.5 GB a card are left for KV where two cards hold the model
CONTEXT = 8192
REPLICAS, PIPELINE = "2 x PP2", "PP4"
NAMES = {(1, 2, 2): REPLICAS, (1, 4, 1): PIPELINE, (2, 2, 1): "TP2 x PP2", (2, 1, 2): "2 x TP2", (4, 1, 1): "TP4"}
WIDE = 1.2  # times the tokens: a wide margin


@dataclass(frozen=True, slots=True)
class Case:
    card: str
    p2p: bool
    input_tokens: int
    output_tokens: int
    users: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """`rate`: output tokens a second while as many users as there are ask. `kv_tokens` of all replicas."""

    rate: float
    kv_tokens: int
    found: Simulation


def steady_rate(run: Run, users: int) -> float:
    """Output tokens a second from when each user has had an answer until the last request is sent."""
    ends = sorted(run.outcomes, key=lambda outcome: outcome.ended)
    begin, end = ends[users - 1].ended, max(outcome.arrival for outcome in run.outcomes)
    tokens = sum(outcome.output_tokens for outcome in ends[users:] if outcome.ended <= end)
    return tokens / (end - begin)


def outcomes(case: Case) -> dict[str, Outcome]:
    """By layout; one that does not fit is absent."""
    request = PlanRequest(
        on=f"4x{case.card}",
        format="int4",
        memory=MEMORY,
        context=CONTEXT,
        p2p=case.p2p,
        input_tokens=case.input_tokens,
        output_tokens=case.output_tokens,
    )
    published, hardware = find_published(MODEL), find_hardware(request)
    assert published is not None
    config = ConfigReader(published.config, published.name)
    (weight_format,) = candidate_formats(request, config, hardware.devices)
    spec = describe(config, precision_of(request, weight_format, config, hardware.devices))
    lengths = (Lengths.parse(f"{case.input_tokens}", "input"), Lengths.parse(f"{case.output_tokens}", "output"))
    workload = by_users(case.users, 0.0, max(40, 5 * case.users), *lengths)
    found = {}
    for layout in layouts(spec, 4, request):
        placement = place(layout, hardware.devices, request, CONTEXT)
        if placement.fits:
            deployment = deployment_of(placement, hardware, request)
            run = simulate(workload, deployment)
            rate = steady_rate(run, case.users)
            found[name_of(layout)] = Outcome(rate, placement.kv_tokens, summarize(run, deployment))
    return found


def name_of(layout: Layout) -> str:
    return NAMES[layout.tp, layout.pp, layout.replicas]


def cases(quick: bool) -> Iterator[Case]:
    for card in CARDS[:1] if quick else CARDS:
        for p2p in (False, True):
            for input_tokens, output_tokens in LENGTHS[:1] if quick else LENGTHS:
                for users in USERS[:2] if quick else USERS:
                    yield Case(card, p2p, input_tokens, output_tokens, users)


def is_starved(found: Simulation) -> bool:
    """Requests wait for KV room most of the time."""
    return found.pool.short_of_blocks > 0.5


def table(results: dict[Case, dict[str, Outcome]], card: str, p2p: bool) -> Iterator[str]:
    titles = (*NAMES.values(), f"{PIPELINE} to {REPLICAS}", f"{REPLICAS}: short of KV", "run at a time")
    yield f"| in / out | users | {' | '.join(titles)} |"
    yield f"|---|--:|{'--:|' * (len(NAMES) + 3)}"
    for case, found in results.items():
        if (case.card, case.p2p) != (card, p2p):
            continue
        best = max(found.values(), key=lambda one: one.rate)
        rates = []
        for name in NAMES.values():
            text = f"{found[name].rate:,.0f}" if name in found else "-"
            rates.append(f"**{text}**" if name in found and found[name] is best else text)
        pair = found[REPLICAS], found[PIPELINE]
        pools = [one.found.pool for one in pair]
        yield (
            f"| {case.input_tokens} / {case.output_tokens} | {case.users} | {' | '.join(rates)} | "
            f"{pair[1].rate / pair[0].rate:.2f} | {pools[0].short_of_blocks:.0%} | "
            f"{pools[0].running:.0f}, {pools[1].running:.0f} |"
        )


def latency_table(results: dict[Case, dict[str, Outcome]], card: str) -> Iterator[str]:
    titles = (f"first token, {REPLICAS}", PIPELINE, "TP4", f"per token, {REPLICAS}", PIPELINE, "TP4")
    yield f"| in / out | users | {' | '.join(titles)} |"
    yield f"|---|--:|{'--:|' * 6}"
    for case, found in results.items():
        if case.card != card or case.p2p:
            continue
        chosen = [found[name].found for name in (REPLICAS, PIPELINE, "TP4")]
        firsts = " | ".join(f"{one.ttft.p50:.2f} s" for one in chosen)
        tokens = " | ".join(f"{1e3 * (one.tpot.p50 or 0.0):.0f} ms" for one in chosen)
        yield f"| {case.input_tokens} / {case.output_tokens} | {case.users} | {firsts} | {tokens} |"


def verdict(results: dict[Case, dict[str, Outcome]]) -> Iterator[str]:
    """What the figures say of the hypothesis."""
    starved, others = [], []
    for found in results.values():
        ratio = found[PIPELINE].rate / found[REPLICAS].rate
        (starved if is_starved(found[REPLICAS].found) else others).append(ratio)
    wide = sum(ratio >= WIDE for ratio in starved)
    answer = "confirmed" if wide == len(starved) else "confirmed in part" if wide > len(starved) / 2 else "refuted"
    yield f"**Verdict: {answer}.** "
    yield (
        f"Where two replicas of PP2 wait for KV room most of the time ({len(starved)} of {len(results)} cases), PP4 "
        f"gives {_range(starved)} times their tokens, and at least {WIDE:g} times in {wide}. Where they don't "
        f"({len(others)} cases), it gives {_range(others)} times. "
    )
    for p2p, link in ((False, "through host memory"), (True, "with P2P")):
        short = [one for case, one in results.items() if case.p2p == p2p and is_starved(one[REPLICAS].found)]
        best = [max(one, key=lambda name: one[name].rate) for one in short]
        if short:
            firsts = ", ".join(f"{name} in {best.count(name)}" for name in NAMES.values() if name in best)
            yield f"Of those that starve, {link}, most tokens come from {firsts}. "
    yield (
        "So the rule is to spread the model over all four cards; whether as a pipeline or with tensor parallelism is "
        "decided by the link. "
    )


def _range(ratios: Sequence[float]) -> str:
    if not ratios:
        return "no"
    return f"{min(ratios):.2f} to {max(ratios):.2f} (median {median(ratios):.2f})"


def winners(results: dict[Case, dict[str, Outcome]]) -> Iterator[str]:
    """Which layout gives most, by link and load."""
    for p2p in (False, True):
        for users in USERS:
            chosen = [found for case, found in results.items() if (case.p2p, case.users) == (p2p, users)]
            if not chosen:
                continue
            best = [max(found, key=lambda name: found[name].rate) for found in chosen]
            counts = ", ".join(f"{name} {best.count(name)}" for name in NAMES.values() if name in best)
            yield f"| {'P2P' if p2p else 'through host memory'} | {users} | {counts} |"


def page(results: dict[Case, dict[str, Outcome]], seconds: float) -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    pools = next(iter(results.values()))
    rooms = ", ".join(f"{name} {pools[name].kv_tokens:,}" for name in NAMES.values() if name in pools)
    lines = [
        "# KV starvation: a deeper pipeline or more replicas?",
        "",
        f"{MODEL} in 4 bits (w4a16) on four 24 GB cards: one copy over four cards as a pipeline (PP4) against two "
        "copies over two cards each (2 x PP2), and the other ways to divide them. The hypothesis: two cards that hold "
        "the model have so little room left for keys and values that few sequences run, and then one deeper pipeline "
        "beats two replicas by a wide margin.",
        "",
        "".join(verdict(results)).strip(),
        "",
        f"KV tokens of all replicas at {MEMORY} of the memory of {next(iter(results)).card}: {rooms}.",
        "",
        "Simulated by `farthing simulate`'s own parts: the scheduler that serves, steps priced by the forecast, 256 "
        "places a replica, 2,048 tokens a step. Users never think, so that as many requests as users are always there. "
        "Rates are output tokens a second of all four cards, between the first and the last answers; the largest is "
        "bold. Nothing here was measured, and Farthing's engine does not run more than one card yet.",
        "",
        "## What gives most tokens",
        "",
        "| link | users | the best layout, by number of cases |",
        "|---|--:|---|",
        *winners(results),
        "",
    ]
    for card in dict.fromkeys(case.card for case in results):
        for p2p in (False, True):
            lines += [f"## {card}, {'P2P' if p2p else 'through host memory'}", "", *table(results, card, p2p), ""]
        lines += [f"### What users wait, {card}, through host memory (medians)", "", *latency_table(results, card), ""]
    lines += [
        "## How",
        "",
        f"`python scripts/kv_starvation.py`, commit {commit}, {datetime.now(UTC):%Y-%m-%d}, {seconds:.0f} seconds.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four cases, nothing is written")
    flags = parser.parse_args(arguments)
    began, results = time.monotonic(), {}
    for case in cases(flags.quick):
        try:
            results[case] = outcomes(case)
        except UnsupportedError as error:
            raise SystemExit(f"{case}: {error}") from None
        rates = ", ".join(f"{name} {one.rate:,.0f}" for name, one in results[case].items())
        print(f"{case.card} {'p2p' if case.p2p else 'host'} {case.input_tokens}/{case.output_tokens} "
              f"{case.users} users: {rates}", flush=True)  # fmt: skip
    text = page(results, time.monotonic() - began)
    if flags.quick:
        print(text)
    else:
        PAGE.write_text(text, encoding="utf-8")
        print(f"written to {PAGE.name}")


if __name__ == "__main__":
    main()
