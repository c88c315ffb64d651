"""Seconds of batches under an engine's profile, and what that engine would serve a model with: pool, limits, host time.

Prices what planner/timing/step_work.py adds up, with the sums of a batch in place of its sequences: equal to
`work_seconds` (tests/planner/engines/test_engine_pricer.py). Knows no arrivals and no scheduler's state.
"""

from collections.abc import Sequence
from dataclasses import astuple, fields, replace

from farthing.errors import DoesNotFitError, UnsupportedError
from farthing.hardware.accelerator import Accelerator
from farthing.models.spec import ModelSpec
from farthing.ops.batch import BatchShape
from farthing.planner.engines.engine_profile import EngineProfile
from farthing.planner.engines.engine_replica import Stage, replica_of
from farthing.planner.simulation.deployment import Dealing, Deployment
from farthing.planner.simulation.simulated_replica import ReplicaShape
from farthing.planner.timing.batch_pricer import Pricer, StageTime
from farthing.planner.timing.efficiency import (
    attention_seconds,
    host_seconds,
    message_seconds,
    product_seconds,
    small_op_seconds,
)
from farthing.planner.timing.op_lines import BASIS, BatchSums, line_of
from farthing.planner.timing.step_work import StepWork, step_work
from farthing.scheduler.batch import Batch

_LOG_RANKS = [field.name for field in fields(StepWork)].index("log_ranks")


class EngineStagePricer:
    """One rank of a stage as an engine runs it."""

    def __init__(self, stage: Stage) -> None:
        self._stage, spec = stage, stage.spec
        windows = {layer.attention.window for layer, _ in spec.distinct_layers}
        self._is_sum = not spec.experts and windows <= {None}
        if self._is_sum:
            columns = [astuple(step_work(spec, BatchShape.of(*shape))) for shape in BASIS]
            self._lines = [line_of(values) for values in zip(*columns, strict=True)]
            self._log_ranks = float(columns[0][_LOG_RANKS])

    def price(self, batch: Batch, sums: BatchSums) -> StageTime:
        if self._is_sum:
            work = StepWork(*[line.at(sums) for line in self._lines])
            work = replace(work, log_ranks=self._log_ranks, sequences=float(sums.sequences))
        else:
            work = step_work(self._stage.spec, batch.shape)
        return _time_of(work, self._stage)


def _time_of(work: StepWork, stage: Stage) -> StageTime:
    """The same seconds as `work_seconds`, by what they go to: where reading and computing overlap, to the longer."""
    speeds, one, link, send = stage.speeds, stage.efficiency, stage.link, stage.send
    bandwidth = small_op_seconds(work.other_bytes / speeds.bandwidth)
    compute = 0.0
    rows, head_rows = max(1.0, work.rows), max(1.0, work.head_rows)  # a chunk of a prompt has no logits
    filled, head_filled = rows / (rows + one.half_rows), head_rows / (head_rows + one.half_rows)
    layers = work.layer_bytes / speeds.bandwidth, work.layer_flops / speeds.layer_rate
    head = work.head_bytes / speeds.bandwidth, work.head_flops / speeds.plain_rate
    attention = work.kv_bytes / speeds.bandwidth, work.attention_flops / speeds.plain_rate
    for seconds, reading, computing in (
        (product_seconds(*layers, rows, one), layers[0] / one.weights, layers[1] / (one.gemm * filled)),
        (product_seconds(*head, head_rows, one), head[0] / one.weights, head[1] / (one.gemm * head_filled)),
        (attention_seconds(*attention, one), attention[0] / one.kv, attention[1] / one.attention),
    ):
        if reading >= computing:
            bandwidth += seconds
        else:
            compute += seconds
    messages = work.messages * message_seconds(0.0, work.log_ranks, link)
    messages += message_seconds(work.wire_bytes / speeds.link, 0.0, link)
    messages += work.sends * message_seconds(0.0, 1.0, send)
    messages += message_seconds(work.send_bytes / speeds.stage_link, 0.0, send)
    return StageTime(
        bandwidth, compute, messages, work.kernels * one.kernel_seconds + host_seconds(work.sequences, one)
    )


def engine_deployment(
    spec: ModelSpec,
    accelerators: Sequence[Accelerator],
    engine: EngineProfile,
    *,
    tp: int = 1,
    pp: int = 1,
    context: int,
    max_num_seqs: int | None = None,
    max_batch_tokens: int | None = None,
    kv_tokens: int | None = None,
    block_size: int = 16,
    dealing: Dealing = "least-loaded",
) -> Deployment:
    """Replicas of tp x pp on so many devices as they are given in order; limits and KV room are the engine's where none
    are said. DoesNotFitError, UnsupportedError for sizes that do not divide or what nobody knows."""
    size = tp * pp
    shapes, request_seconds = [], 0.0
    for first in range(0, len(accelerators) - size + 1, size):
        replica = replica_of(spec, accelerators[first : first + size], tp, pp, engine)
        room = kv_tokens if kv_tokens is not None else replica.kv_tokens
        if room is None:
            raise UnsupportedError(f"the memory of {accelerators[first].id} is not known", fix="name other hardware")
        seats = max_num_seqs or engine.max_num_seqs
        num_blocks = min(room // block_size, seats * -(-context // block_size))
        if num_blocks * block_size < context:
            raise DoesNotFitError(
                f"under {engine.name} there is room for {max(0, room):,} tokens of KV beside the weights, not for one "
                f"sequence of {context:,}",
                fix="a shorter --context, a narrower --format, or more memory",
            )
        pricers: dict[int, Pricer] = {}
        stages = tuple((pricers.setdefault(id(stage), EngineStagePricer(stage)),) for stage in replica.stages)
        request_seconds = replica.stages[0].efficiency.request_seconds
        shapes.append(
            ReplicaShape(
                stages, num_blocks, block_size, seats, max(seats, max_batch_tokens or engine.max_batch_tokens), context
            )
        )
    return Deployment(tuple(shapes), dealing, request_seconds)
