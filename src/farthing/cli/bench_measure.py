"""Times the engine in this process: prefill, and decode of one sequence and of many, step by step on this thread.

The only file of the command that loads torch; it is loaded by name. Knows no flags and no terminal.
"""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from farthing.cli.bench_ops import OpRow, StepOps
from farthing.cli.bench_result import Figure, Subject, Work
from farthing.engine.accounts.step_price import forecast
from farthing.engine.engine import Engine, Progress
from farthing.engine.plan import EnginePlan
from farthing.engine.request import Request
from farthing.models.spec import ModelSpec, Op
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.elementwise import RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.planner.timing.forecast import StepForecast
from farthing.runtime.graph import timed
from farthing.sampling_params import SamplingParams

_PREFILL_TOKENS, _DECODE_PROMPT = 512, 32
_WARM_STEPS = 4
_FEWEST_STEPS, _MOST_STEPS, _MOST_PROMPTS = 8, 256, 64
_OPS_RUNS = 3
_KINDS: Mapping[str, str] = {  # of a kernels' method, what the table calls it
    "attention": "attention",
    "rms_norm": "norms",
    "rope": "rotary positions",
    "rotary_angles": "rotary positions",
    "silu_mul": "SwiGLU",
    "add": "residual additions",
    "gather": "embedding and rows of logits",
}


def subject_of(plan: EnginePlan) -> Subject:
    key = plan.key
    name = Path(plan.name).name if Path(plan.name).exists() else plan.name
    return Subject(
        model=name,
        num_parameters=plan.spec.num_parameters,
        format=plan.spec.precision.format.name,
        device_kind=key.kind,
        device=key.name,
        num_cores=key.num_cores,
        versions=key.versions,
    )


class EngineBench:
    """A loaded model. `seconds`: about what a round of one figure takes. Prompts are random: speed does not depend on
    them, and none is found in the prefix cache. Steps are timed, so each gives one token: nothing is speculated on."""

    def __init__(self, plan: EnginePlan, *, seconds: float, progress: Progress = lambda done, total: None) -> None:
        assert plan.calibration is not None
        self._plan, self._seconds = plan, seconds
        plain = replace(plan, config=replace(plan.config, speculation="off"))
        self._engine = Engine(plain, progress, with_template=False)
        self._rng = random.Random(0)
        self._num_requests = 0

    def close(self) -> None:
        self._engine.close()

    def works(self, known: Sequence[Work] = ()) -> list[Work]:
        """What is timed, each tried so that it is warm; as long as in `known`, where it is the same work."""
        repeats = {(work.kind, work.batch, work.tokens): work.repeats for work in known}
        found = []
        for work in self._wanted():
            self.round(work)
            enough = repeats.get((work.kind, work.batch, work.tokens)) or self._enough(work)
            found.append(replace(work, repeats=min(enough, self._most_repeats(work))))
        return found

    def round(self, work: Work) -> float:
        """Tokens/s."""
        timed = self._prefill if work.kind == "prefill" else self._decode
        return work.num_tokens / timed(work)

    def figure(self, work: Work, rounds: Sequence[float]) -> Figure:
        """With what the description and the measured machine say of it."""
        assert self._plan.calibration is not None
        calibration = self._plan.calibration.at_threads(self._plan.num_threads)
        forecast_seconds = limit_seconds = 0.0
        for shape in self._shapes(work):
            step = forecast(self._plan.spec, shape, calibration)
            forecast_seconds += step.seconds
            limit_seconds += step.limit_seconds
        tokens = work.num_tokens / work.repeats
        return Figure(work, tuple(rounds), tokens / forecast_seconds, tokens / limit_seconds)

    def ops(self, work: Work) -> StepOps | None:
        """Of the last step of a prompt, or of a decode step; None where steps are not recorded."""
        self._step_for_ops(work)
        runs = [timed(self._engine.runner.steps) or () for _ in range(_OPS_RUNS)]
        self._cancel_all()
        if not all(runs):
            return None
        seconds = [(parts[0][0], min(part[1] for part in parts)) for parts in zip(*runs, strict=True)]
        *_, shape = self._shapes(work)
        assert self._plan.calibration is not None
        calibration = self._plan.calibration.at_threads(self._plan.num_threads)
        return StepOps(work.name, op_rows(self._plan.spec, forecast(self._plan.spec, shape, calibration), seconds))

    def _step_for_ops(self, work: Work) -> None:
        for _ in range(work.batch):
            self._add(work.tokens, self._plan.context - work.tokens)
        started: set[str] = set()
        while len(started) < work.batch:
            started.update(delta.request_id for delta in self._engine.step())
        if work.kind == "decode":
            for _ in range(max(1, min(_WARM_STEPS + work.repeats // 2, self._most_repeats(work)))):
                self._engine.step()

    def _cancel_all(self) -> None:
        for number in range(self._num_requests):
            self._engine.cancel(f"bench-{number}")

    def _shapes(self, work: Work) -> Iterator[BatchShape]:
        """The steps of one prompt, or one decode step in the middle of a round."""
        if work.kind == "decode":
            yield BatchShape.decode(work.tokens + _WARM_STEPS + work.repeats // 2, work.batch)
            return
        chunk = self._plan.config.sizes.max_batch_tokens
        for start in range(0, work.tokens, chunk):
            yield BatchShape.of([(min(chunk, work.tokens - start), start)])

    def _wanted(self) -> Iterator[Work]:
        """A prompt; one sequence; as many as run at a time and have room. All start in one step."""
        memory, sizes, context = self._plan.memory, self._plan.config.sizes, self._plan.context
        yield Work("prefill", 1, min(_PREFILL_TOKENS, max(1, context - 2)), 1)
        longest = min(context, _DECODE_PROMPT + _WARM_STEPS + _MOST_STEPS + 1)
        room = max(1, memory.num_blocks // -(-longest // memory.block_size))
        for batch in sorted({1, min(sizes.max_num_seqs, room)}):
            prompt = max(1, min(_DECODE_PROMPT, context // 4, sizes.max_batch_tokens // batch))
            work = Work("decode", batch, prompt, _FEWEST_STEPS)
            yield replace(work, repeats=min(_FEWEST_STEPS, self._most_repeats(work)))

    def _most_repeats(self, work: Work) -> int:
        if work.kind == "prefill":
            return _MOST_PROMPTS
        return max(1, min(_MOST_STEPS, self._plan.context - work.tokens - _WARM_STEPS - 1))

    def _enough(self, work: Work) -> int:
        """How often the work is to be repeated in a round."""
        seconds_each = work.num_tokens / self.round(work) / work.repeats
        fewest = 1 if work.kind == "prefill" else _FEWEST_STEPS
        return max(fewest, round(self._seconds / seconds_each))

    def _prefill(self, work: Work) -> float:
        """Seconds of all repeats."""
        seconds = 0.0
        for _ in range(work.repeats):
            self._add(work.tokens, 1)
            started = time.perf_counter()
            while self._engine.has_unfinished:
                self._engine.step()
            seconds += time.perf_counter() - started
        return seconds

    def _decode(self, work: Work) -> float:
        """Seconds of as many steps as asked for, in each of which every sequence gets a token."""
        ids = [self._add(work.tokens, self._plan.context - work.tokens) for _ in range(work.batch)]
        started: set[str] = set()
        while len(started) < work.batch:
            started.update(delta.request_id for delta in self._engine.step())
        for _ in range(_WARM_STEPS):
            self._engine.step()
        num_tokens, start = 0, time.perf_counter()
        for _ in range(work.repeats):
            num_tokens += len(self._engine.step())
        seconds = time.perf_counter() - start
        assert num_tokens == work.num_tokens, f"{num_tokens} tokens in {work.repeats} steps of {work.batch}"
        for request_id in ids:
            self._engine.cancel(request_id)
        return seconds

    def _add(self, prompt_tokens: int, max_tokens: int) -> str:
        """A request of a random prompt; its id."""
        request_id = f"bench-{self._num_requests}"
        self._num_requests += 1
        prompt = tuple(self._rng.choices(range(self._plan.spec.vocab_size), k=prompt_tokens))
        params = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
        self._engine.add(Request(request_id, prompt, params, seed=0))
        return request_id


def op_rows(spec: ModelSpec, step: StepForecast, seconds: Sequence[tuple[str, float]]) -> tuple[OpRow, ...]:
    """Seconds of methods, in the order of their calls, beside the ops that the description has in that order. Products
    that are as many as described have their own names; others are one row."""
    linears = [op.name for op in _ops_in_order(spec) if isinstance(op, Linear)]
    apart = len(linears) == sum(method == "linear" for method, _ in seconds)
    names = iter(linears)
    measured: dict[str, float] = defaultdict(float)
    for method, taken in seconds:
        product = next(names) if apart and method == "linear" else "matrix products"
        measured[product if method == "linear" else _KINDS.get(method, method)] += taken
    kinds = {op.name: _kind(op, apart=apart) for op in _ops_in_order(spec)}
    found: dict[str, OpRow] = {name: OpRow(name, 0, 0.0, taken, 0.0) for name, taken in measured.items()}
    for op in step.ops:
        if (kind := kinds.get(op.name)) in found:
            row = found[kind]
            found[kind] = replace(
                row, count=row.count + op.count, predicted=row.predicted + op.seconds, limit=row.limit + op.limit
            )
    return tuple(found.values())


def _ops_in_order(spec: ModelSpec) -> list[Op]:
    return [*spec.entry_ops, *(op for layer in spec.layers for op in layer.ops()), *spec.exit_ops]


def _kind(op: Op, *, apart: bool) -> str:
    """What the table calls an op."""
    if isinstance(op, Linear):
        return op.name if apart else "matrix products"
    if isinstance(op, Attention):
        return _KINDS["attention"]
    if isinstance(op, RMSNorm):
        return _KINDS["rms_norm"]
    if isinstance(op, Embedding):
        return _KINDS["gather"]
    return _KINDS[{"rope": "rope", "swiglu": "silu_mul"}.get(op.name.rpartition(".")[2], "add")]
