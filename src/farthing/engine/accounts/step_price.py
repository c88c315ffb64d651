"""A step that was measured, priced: its limit on this machine, its forecast, and its time divided by the description.

    limit    = sum over ops of max(moved bytes / measured bandwidth, FLOPs / peak)
    forecast = sum over ops of what their kernels take (planner/timing/roofline.py) + calls * overhead + host

The time that passed in the executor is divided in proportion to what the description asks for: products at the speed of
their weights, attention at that of the cache, the small ops between them at that of activations (or all of them
arithmetic, where that is the limit), calls with the Python around them, and what is lost by computing with fewer
threads than the machine has. What a step takes beyond the best that steps like it have taken is `throttled`. Time
outside the executor is `host`. A request's share of a step is its share of these costs; the weights are read for all
tokens alike. Knows no tensors, no text and no prices in dollars.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from farthing.engine.accounts.step_record import Charge, Owner, Phase, StepRecord
from farthing.hardware.calibration import Calibration
from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec, Op
from farthing.models.step_cost import StepCost
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape, causal_pairs, touched_tokens
from farthing.ops.linear import Linear
from farthing.planner.timing.calls import Calls, calls_of, num_calls
from farthing.planner.timing.device import calibrated_device
from farthing.planner.timing.forecast import StepForecast, forecast_step
from farthing.planner.timing.op_lines import BatchSums, op_lines
from farthing.planner.timing.roofline import StepSize, op_seconds
from farthing.scheduler.batch import Batch

_BLOCK_STEPS = 16  # whose median counts: single steps are noise
_USUAL_SPREAD = 1.25  # of the times of equal steps on a shared machine; only beyond it is a step slow


@dataclass(frozen=True, slots=True)
class Measured:
    """What the engine measured of a step that ended at `time`. `owners`: of each sequence of the batch, in order."""

    time: float  # seconds since 1970
    batch: Batch
    num_outputs: int  # tokens that came: fewer than rows of logits, where drafts were wrong
    owners: Sequence[Owner]
    seconds: float
    executor_seconds: float
    num_waiting: int
    waiting_for: str
    used_blocks: int
    num_preemptions: int

    @property
    def shape(self) -> BatchShape:
        return self.batch.shape

    @property
    def num_drafts(self) -> list[int]:
        return [item.num_drafts for item in self.batch.items]

    @property
    def has_prompt(self) -> bool:
        """Whether a sequence has more than one new token, drafts aside."""
        return not self.batch.is_decode


class StepPricer:
    """`calibration` None: nothing is known of the machine, so there is no limit, and all of a step's time is `launch`.

    `num_threads`: those that compute; `matters`: whether more of them would help a model of this size.
    """

    def __init__(
        self, spec: ModelSpec, calibration: Calibration | None, *, num_threads: int = 1, threads_matter: bool = False
    ) -> None:
        self._spec, self._calibration = spec, calibration
        self._fewer = calibration.at_threads(num_threads) if calibration and threads_matter else None
        cost = StepCost.of(spec)
        assert cost is not None, "the engine runs dense models of one window"
        self._cost, self._lines = cost, op_lines(spec)
        self._usual: dict[tuple[int, ...], _Usual] = {}

    def price(self, step: Measured) -> tuple[StepRecord, list[Charge]]:
        """The record of a step, and the charges of its requests, which add up to its seconds."""
        records, charges = self.price_alike([step])
        return records[0], charges

    def price_alike(self, steps: Sequence[Measured]) -> tuple[list[StepRecord], list[Charge]]:
        """Of steps that followed each other with the same sequences, a few more tokens of each in every step: their
        costs differ by those positions alone, and are taken to be those of the step in the middle."""
        middle = steps[len(steps) // 2]
        sums = BatchSums.of_shape(middle.shape, self._cost.window)
        needs = self._needs(middle.shape, sums)
        records = [self._record(step, needs) for step in steps]
        return records, self._charges(middle, sums, needs, sum(step.seconds for step in steps), len(steps))

    def _record(self, step: Measured, needs: "_Needs") -> StepRecord:
        shape = step.shape
        in_executor = min(step.executor_seconds, step.seconds)
        throttled = in_executor - min(in_executor, self._usual_seconds(shape, in_executor, needs))
        stretch = (in_executor - throttled) / needs.seconds if needs.seconds else 0.0
        host = step.seconds - in_executor
        phase: Phase = "decode" if step.batch.is_decode else "prefill"
        return StepRecord(
            time=step.time,
            phase=phase,
            num_tokens=shape.num_tokens - shape.num_logits + step.num_outputs,
            num_sequences=shape.num_sequences,
            num_outputs=step.num_outputs,
            context_tokens=shape.context_tokens,
            seconds=step.seconds,
            executor_seconds=in_executor,
            limit_seconds=needs.limit,
            forecast_seconds=needs.forecast,
            fixed_seconds=(needs.weights + needs.launch_once) * stretch + host,
            weights=needs.weights * stretch,
            kv_cache=needs.kv_cache * stretch,
            activations=needs.activations * stretch,
            compute=needs.compute * stretch,
            communication=0.0,
            launch=needs.launch * stretch,
            host=host,
            threads=needs.threads * stretch,
            throttled=throttled,
            num_waiting=step.num_waiting,
            waiting_for=step.waiting_for,
            used_blocks=step.used_blocks,
            num_preemptions=step.num_preemptions,
        )

    def _needs(self, shape: BatchShape, sums: BatchSums) -> "_Needs":
        """What the description asks of this machine; of an unknown one only that something was launched."""
        machine, count = self._calibration, shape.num_sequences
        if machine is None:
            return _Needs(launch=1.0, launch_once=self._num_calls(0, "torch") / self._num_calls(count, "torch"))
        size = StepSize(count, sums.tokens, sums.logits, sums.attended, step_working_set_bytes(self._spec, shape))
        seconds = {"weights": 0.0, "kv_cache": 0.0, "activations": 0.0, "compute": 0.0}
        limit = with_fewer = 0.0
        for one in self._lines:
            flops = [(math, line.at(sums)) for math, line in one.flops]
            moved = one.moved.at(sums)
            time = op_seconds(one.op, moved, flops, size, machine)
            seconds["compute" if time.bound == "compute" else _part_of(one.op)] += one.count * time.seconds
            limit += one.count * time.limit
            if self._fewer is not None:
                with_fewer += one.count * op_seconds(one.op, moved, flops, size, self._fewer).seconds
        calls = calls_of(machine.device.kind, records=machine.records)
        overhead = machine.overhead_seconds_per_op
        return _Needs(
            **seconds,
            launch=self._num_calls(count, calls) * overhead + machine.host_seconds(sums.logits, self._spec.vocab_size),
            launch_once=self._num_calls(0, calls) * overhead + machine.host_seconds(0, self._spec.vocab_size),
            threads=max(0.0, with_fewer - sum(seconds.values())),
            limit=limit,
        )

    def _num_calls(self, num_sequences: int, calls: Calls) -> int:
        return sum(one.count * num_calls(one.op, num_sequences, calls) for one in self._lines)

    def _usual_seconds(self, shape: BatchShape, seconds: float, needs: "_Needs") -> float:
        """What a step like this one may take at most without being slow; learned from steps of about its size."""
        if not needs.seconds:
            return seconds
        context = shape.context_tokens // shape.num_sequences
        alike = (shape.num_tokens.bit_length(), shape.num_sequences.bit_length(), context.bit_length())
        usual = self._usual.setdefault(alike, _Usual())
        known = usual.best
        usual.add(seconds / needs.seconds)
        return seconds if known is None else known * needs.seconds * _USUAL_SPREAD

    def _charges(
        self, step: Measured, sums: BatchSums, needs: "_Needs", seconds: float, num_steps: int
    ) -> list[Charge]:
        """Of each sequence what it adds to the cost, and by its tokens its part of what is there for all; of `seconds`
        in so many steps like this one."""
        cost, window, shape = self._cost, self._cost.window, step.shape
        is_arithmetic = needs.compute > needs.weights + needs.kv_cache + needs.activations
        lines = [line for _, line in cost.flops] if is_arithmetic else [cost.read, cost.write]
        whole = sum(line.at(cost.sums(shape)) for line in lines)
        a_token = sum(line.token + line.constant / sums.tokens for line in lines)
        a_logit = sum(line.logit for line in lines)
        a_pair, a_position = sum(line.pair for line in lines), sum(line.attended for line in lines)
        by_request: dict[Owner, float] = {}
        for owner, item, (new, context) in zip(step.owners, step.batch.items, shape.sequences, strict=True):
            part = new * a_token + (item.samples + item.num_drafts) * a_logit
            part += touched_tokens(new, context, window) * a_position + causal_pairs(new, context, window) * a_pair
            by_request[owner] = by_request.get(owner, 0.0) + part / whole
        return [
            Charge(*owner[:2], share * seconds, share * needs.limit * num_steps, owner.queue_seconds)
            for owner, share in by_request.items()
        ]


@dataclass(frozen=True, slots=True)
class _Needs:
    """Seconds that the described work needs on this machine, by part. `limit`: of bytes or arithmetic alone."""

    weights: float = 0.0
    kv_cache: float = 0.0
    activations: float = 0.0
    compute: float = 0.0
    launch: float = 0.0
    launch_once: float = 0.0  # of it, whatever the number of sequences
    threads: float = 0.0
    limit: float = 0.0

    @property
    def forecast(self) -> float:
        """Of all threads of the machine; 0 where nothing is known of it."""
        return self.seconds - self.threads if self.limit else 0.0

    @property
    def seconds(self) -> float:
        return self.weights + self.kv_cache + self.activations + self.compute + self.launch + self.threads


@dataclass(slots=True)
class _Usual:
    """How many times the described seconds such steps take: the best median of a block of steps."""

    best: float | None = None
    block: list[float] = field(default_factory=list)

    def add(self, ratio: float) -> None:
        self.block.append(ratio)
        if len(self.block) == _BLOCK_STEPS:
            middle = median(self.block)
            self.best = middle if self.best is None else min(self.best, middle)
            self.block.clear()


def _part_of(op: Op) -> str:
    """What an op's bytes are, most of them."""
    if isinstance(op, Attention):
        return "kv_cache"
    return "weights" if isinstance(op, Linear) else "activations"


def forecast(spec: ModelSpec, shape: BatchShape, calibration: Calibration) -> StepForecast:
    """What one step should take on the machine that was measured."""
    here = calibrated_device(calibration, memory_bytes=1, accelerator=None)
    return forecast_step(spec, shape, here, (None, None))
