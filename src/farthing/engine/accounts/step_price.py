"""A step that was measured, priced: its limit on this machine, its forecast, and its time divided by the description.

    limit    = max(moved bytes / measured bandwidth, FLOPs / measured rates)
    forecast = limit + kernel calls * measured overhead

The time that passed in the executor is divided in proportion to what the description asks for: bytes of weights, KV and
activations (or arithmetic, where that is the limit), kernel calls, and what is lost by computing with fewer threads
than the machine has. What a step takes beyond the best that steps like it have taken is `throttled`. Time outside the
executor is `host`. A request's share of a step is its share of these costs; the weights are read for all tokens alike.
Knows no tensors, no text and no prices in dollars.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from farthing.engine.accounts.step_record import Charge, Owner, Phase, StepRecord
from farthing.hardware.calibration import Calibration
from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec
from farthing.models.step_cost import StepCost, Sums
from farthing.ops.batch import BatchShape, causal_pairs, touched_tokens
from farthing.planner.timing.forecast import CALLS_PER_ATTENTION, CALLS_PER_OP
from farthing.planner.timing.roofline import StepTime, step_time
from farthing.scheduler.batch import Batch

_BLOCK_STEPS = 16  # whose median counts: single steps are noise
_MANY_ROWS = 2**20
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
        self._cost = cost
        self._usual: dict[tuple[int, ...], _Usual] = {}

    def price(self, step: Measured) -> tuple[StepRecord, list[Charge]]:
        """The record of a step, and the charges of its requests, which add up to its seconds."""
        records, charges = self.price_alike([step])
        return records[0], charges

    def price_alike(self, steps: Sequence[Measured]) -> tuple[list[StepRecord], list[Charge]]:
        """Of steps that followed each other with the same sequences, a few more tokens of each in every step: their
        costs differ by those positions alone, and are taken to be those of the step in the middle."""
        middle = steps[len(steps) // 2]
        sums = self._cost.sums(middle.shape)
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
            forecast_seconds=needs.limit + needs.launch,
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

    def _needs(self, shape: BatchShape, sums: Sums) -> "_Needs":
        """What the description asks of this machine; of an unknown one only that something was launched."""
        calls = num_torch_calls(self._spec, shape)
        if self._calibration is None:
            return _Needs(launch=1.0, launch_once=CALLS_PER_OP * self._spec.num_ops / calls)
        working_set = step_working_set_bytes(self._spec, shape)
        moved = self._cost.moved_bytes(sums)
        bandwidth, compute = self._times(self._calibration, sums, moved, shape.num_tokens, working_set)
        limit = max(bandwidth, compute)
        # A product of few rows is measured slow because it, too, reads its weights: at its best it is arithmetic.
        _, at_best = self._times(self._calibration, sums, moved, _MANY_ROWS, working_set)
        slower = 0.0
        if self._fewer is not None:
            slower = max(0.0, max(self._times(self._fewer, sums, moved, shape.num_tokens, working_set)) - limit)
        overhead = self._calibration.overhead_seconds_per_op
        weight_bytes, kv_bytes = self._cost.read.constant + self._cost.write.constant, self._cost.kv_bytes(sums)
        is_arithmetic = at_best > bandwidth
        kv_cache = 0.0 if is_arithmetic else bandwidth * kv_bytes / moved
        activations = 0.0 if is_arithmetic else bandwidth * (moved - weight_bytes - kv_bytes) / moved
        return _Needs(
            weights=0.0 if is_arithmetic else limit - kv_cache - activations,
            kv_cache=kv_cache,
            activations=activations,
            compute=limit if is_arithmetic else 0.0,
            launch=calls * overhead,
            launch_once=CALLS_PER_OP * self._spec.num_ops * overhead,
            threads=slower,
            limit=limit,
        )

    def _times(
        self, machine: Calibration, sums: Sums, moved: int, rows: int, working_set_bytes: int
    ) -> tuple[float, float]:
        """Seconds of the bytes, and of the arithmetic."""
        compute = sum(line.at(sums) / machine.flops_per_second(math, rows) for math, line in self._cost.flops)
        return moved / machine.read_bandwidth(working_set_bytes), compute

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

    def _charges(self, step: Measured, sums: Sums, needs: "_Needs", seconds: float, num_steps: int) -> list[Charge]:
        """Of each sequence what it adds to the cost, and by its tokens its part of what is there for all; of `seconds`
        in so many steps like this one."""
        cost, window, shape = self._cost, self._cost.window, step.shape
        lines = [line for _, line in cost.flops] if needs.compute else [cost.read, cost.write]
        whole = sum(line.at(sums) for line in lines)
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


def forecast(spec: ModelSpec, shape: BatchShape, calibration: Calibration) -> StepTime:
    """What one step should take on the machine that was measured, by the roofline."""
    return step_time(
        spec.cost(shape),
        machine=calibration,
        num_kernels=num_torch_calls(spec, shape),
        rows=shape.num_tokens,
        working_set_bytes=step_working_set_bytes(spec, shape),
    )


def num_torch_calls(spec: ModelSpec, shape: BatchShape) -> int:
    """Calls that the eager decoder makes in one step: attention goes sequence by sequence, all else batch by batch."""
    return CALLS_PER_OP * spec.num_ops + CALLS_PER_ATTENTION * len(spec.layers) * shape.num_sequences
