"""A group measured: its workers loaded, and in each round of each case every one of them asked in turn.

The order moves on by one from round to round. A worker that fails is left out of what it failed at, and said.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from peers.cases import Case, Group, System
from peers.environment import Environment
from peers.limits import LimitsMeter
from peers.models import Models
from peers.results import Outcome
from peers.workers import Worker, WorkerError, settle


class Measuring:
    """`problems`: what could not be measured, and why. `disturbed` of `turns`: something else ran when they began."""

    def __init__(self, environment: Environment, models: Models, meter: LimitsMeter, rounds: int) -> None:
        self._environment, self._models, self._meter, self._rounds = environment, models, meter, rounds
        self.problems = [f"{peer} is left out: {why}" for peer, why in environment.problems.items()]
        self.turns = self.disturbed = 0

    def group(self, group: Group, cases: Iterable[Case]) -> list[Outcome]:
        workers: dict[str, Worker] = {}
        try:
            for system in (group.ours, *group.peers):
                self._start(system, workers)
            return [self._case(group, case, workers) for case in cases]
        finally:
            for worker in workers.values():
                worker.close()

    def _start(self, system: System, workers: dict[str, Worker]) -> None:
        if system.engine in self._environment.problems:
            return
        say(f"  loading {system.name} ({system.model})")
        try:
            workers[system.name] = self._worker(system)
        except (WorkerError, RuntimeError) as error:
            self._problem(f"{system.name} ({system.model}) could not be loaded: {error}")

    def _worker(self, system: System) -> Worker:
        threads, python = str(system.threads), self._environment.python
        if system.engine == "Farthing":
            checkpoint = self._models.checkpoint(system.model)
            return Worker(sys.executable, system.worker, str(checkpoint), system.format, threads)
        files: dict[str, Path] = {}
        if system.engine == "transformers":
            files[system.engine] = self._models.checkpoint(system.model)
        elif system.engine == "CTranslate2":
            files[system.engine] = self._models.ctranslate2(system.model)
        else:
            files[system.engine] = self._models.gguf(system.model, system.format)
        return Worker(python, system.worker, str(files[system.engine]), threads)

    def _case(self, group: Group, case: Case, workers: dict[str, Worker]) -> Outcome:
        outcome = Outcome(group, case)
        engines = {system.name: system.engine for system in (group.ours, *group.peers)}
        names = [name for name in workers if engines[name] == "Farthing" or engines[name] in case.peers]
        for number in range(min(self._rounds, case.max_rounds)):
            if not names:
                break
            say(f"  {group.name}: {case.title}, round {number + 1}")
            order = names[number % len(names) :] + names[: number % len(names)]
            for name in order:
                self.turns += 1
                self.disturbed += not settle()
                if name == group.ours.name and case.shape is not None:
                    outcome.limits.append(self._meter.measure())
                try:
                    outcome.seconds.setdefault(name, []).append(workers[name].seconds(case.command))
                except (WorkerError, OSError) as error:
                    self._problem(f"{name} ({group.model}) failed at {case.title}: {error}")
                    names.remove(name)
                    outcome.seconds.pop(name, None)
        if case.shape is not None:
            spec = self._models.spec(group.model, group.ours.format)
            steps = case.tokens // case.shape.num_tokens
            outcome.floors = [steps * limits.floor_seconds(spec, case.shape) for limits in outcome.limits]
        return outcome

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        say(f"  {text}")


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
