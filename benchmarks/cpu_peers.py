"""Farthing beside llama.cpp, CTranslate2, transformers and OpenVINO GenAI on this CPU, in one run of engines in turn.

    python benchmarks/cpu_peers.py --output benchmarks/cpu/PAGE.md

Installs the peers in an environment of its own (llama.cpp is compiled for this CPU), makes what they read (checkpoints
of a 1.1B and a 15M LLaMA with random weights, each engine's own files of them: about 8 GB), loads an engine a process,
and asks them in turn, round by round. Writes the page and a picture beside it, anew after each group. Progress is on
standard error. Needs farthing[serve,report], a C++ compiler, 16 GB of memory, and a machine with nothing else to do.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import platformdirs
from peers.cases import LONG, SHORT, groups
from peers.environment import PEERS, prepare
from peers.limits import LimitsMeter
from peers.measuring import Measuring, say
from peers.models import Models
from peers.page import HOW, page
from peers.picture import draw
from peers.results import Outcome

CACHE = Path(platformdirs.user_cache_dir("farthing")) / "peers"
QUICK_ROUNDS = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="the page to write; the picture lies beside it")
    parser.add_argument("--environment", type=Path, default=CACHE / "environment", help="the peers' Python environment")
    parser.add_argument("--models", type=Path, default=CACHE / "models", help="checkpoints and what is made of them")
    parser.add_argument("--rounds", type=int, default=5, help="at most; the longest cases have fewer")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every engine")
    parser.add_argument("--only", action="append", metavar="NAME", help="a group, or a word of the cases; repeatable")
    parser.add_argument("--quick", action="store_true", help="one round of the shorter cases, to see that all runs")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)  # before 25 minutes of measuring, not after
    begin = time.monotonic()
    rounds = QUICK_ROUNDS if arguments.quick else arguments.rounds
    chosen = [
        (group, cases)
        for group in groups(arguments.threads, quick=arguments.quick)
        if (cases := [case for case in group.cases if _wanted(arguments.only, group.name, case.title)])
    ]
    if not chosen:
        parser.error(f"nothing is named {' or '.join(arguments.only)}")
    peers = {peer.engine for group, _ in chosen for peer in group.peers}
    assert peers <= PEERS.keys()
    environment = prepare(arguments.environment, peers)
    models = Models(arguments.models, environment.python)
    measuring = Measuring(environment, models, LimitsMeter(arguments.threads), rounds)
    outcomes: list[Outcome] = []
    for group, cases in chosen:
        say(f"{time.monotonic() - begin:5.0f} s  {group.title}")
        outcomes += measuring.group(group, cases)
        _write(arguments, outcomes, sorted(environment.versions.values()), measuring)
    say(f"{time.monotonic() - begin:5.0f} s  done")
    print(arguments.output.read_text(encoding="utf-8"))


def _wanted(only: list[str] | None, group: str, title: str) -> bool:
    return only is None or any(name == group or name in title for name in only)


def _write(arguments: argparse.Namespace, outcomes: list[Outcome], versions: list[str], measuring: Measuring) -> None:
    """What there is until now."""
    picture = arguments.output.with_suffix(".png")
    flags = [f"--rounds {arguments.rounds}", f"--threads {arguments.threads}"]
    flags += [f'--only "{name}"' for name in arguments.only or ()] + (["--quick"] if arguments.quick else [])
    text = page(
        outcomes,
        command=f"python benchmarks/cpu_peers.py --output PAGE.md {' '.join(flags)}",
        versions=versions,
        problems=measuring.problems,
        how=HOW.format(
            threads=arguments.threads,
            context=SHORT,
            long_context=LONG,
            disturbed=measuring.disturbed,
            turns=measuring.turns,
        ),
        picture=picture.name,
    )
    arguments.output.write_text(text, encoding="utf-8")
    if any(outcome.comparisons() for outcome in outcomes):
        draw(outcomes, picture)


if __name__ == "__main__":
    sys.exit(main())
