"""What this processor can do at most, measured by the native kernels that do nothing else, and the floor of a step.

    floor = sum over the ops of max(bytes / read bandwidth at the working set, operations / peak of the op's math)

The working set of an op that reads weights or KV is that of the whole step, which it streams; of any other op its own
bytes. The embedding is a lookup, and the head runs for the rows that yield a token: the description says so.
"""

import math
import statistics
import time
from dataclasses import dataclass

import torch

from farthing.kernels.native.compiler import best_level, compiled
from farthing.kernels.native.library import Call, Calls, Pool
from farthing.models.memory import step_working_set_bytes
from farthing.models.spec import ModelSpec, Op
from farthing.ops.attention import Attention
from farthing.ops.batch import BatchShape
from farthing.ops.linear import Linear

CHAINS = 12  # of one instruction beside each other, in src/peaks.cpp
OPERATIONS = {"fp32": 32, "bf16": 64, "int8": 128}  # of a step of a chain
PEAK_STEPS = 1_000_000
SIZES_MIB = (1, 4, 16, 64, 256, 1024)
READ_MIB = 64  # at least, in a measurement
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all threads together: operations/s by math, and (working set, bytes/s), ascending."""

    operations_per_second: dict[str, float]
    bandwidth: tuple[tuple[int, float], ...]

    def read_bandwidth(self, working_set_bytes: int) -> float:
        """Linear in the logarithm between two measured sizes, flat beyond them."""
        for (x0, y0), (x1, y1) in zip(self.bandwidth, self.bandwidth[1:], strict=False):
            if working_set_bytes < x1:
                share = max(0.0, math.log(working_set_bytes / x0) / math.log(x1 / x0))
                return y0 + (y1 - y0) * share
        return self.bandwidth[-1][1]

    def floor_seconds(self, spec: ModelSpec, shape: BatchShape) -> float:
        streamed = step_working_set_bytes(spec, shape)
        return sum(self._floor_of_op(op, shape, streamed) for _, op in spec.named_ops())

    def _floor_of_op(self, op: Op, shape: BatchShape, streamed_bytes: int) -> float:
        cost = op.cost(shape)
        working_set = streamed_bytes if isinstance(op, (Linear, Attention)) else max(1, cost.moved_bytes)
        arithmetic = sum(count / self.operations_per_second[name] for name, count in cost.flops.items())
        return max(arithmetic, cost.moved_bytes / self.read_bandwidth(working_set))


class LimitsMeter:
    """Holds the memory that is read and the threads that read it; idle threads sleep."""

    def __init__(self, num_threads: int) -> None:
        self._pool = Pool(compiled(best_level()), num_threads)
        self._rows = torch.tensor([num_threads])
        self._out = torch.zeros(64 * num_threads, dtype=torch.uint8)
        self._data = torch.ones(SIZES_MIB[-1] * 2**20, dtype=torch.uint8)
        self.measure()  # the first time, threads start

    def measure(self) -> Limits:
        """About a second: of a few repeats the best of arithmetic, which nothing but noise slows, and the median of
        reading, which the neighbours of this machine share."""
        operations = {
            name: self._rows.item() * PEAK_STEPS * CHAINS * each / min(self._seconds(f"peak_{name}", PEAK_STEPS))
            for name, each in OPERATIONS.items()
        }
        return Limits(operations, tuple((size * 2**20, self._bandwidth(size * 2**20)) for size in SIZES_MIB))

    def _bandwidth(self, working_set_bytes: int) -> float:
        part = working_set_bytes // int(self._rows.item()) // 256 * 256
        times = max(1, READ_MIB * 2**20 // working_set_bytes)
        return part * self._rows.item() * times / statistics.median(self._seconds("read_bytes", part, times))

    def _seconds(self, op: str, size: int, times: int = 1) -> list[float]:
        call = Call(op, self._rows.data_ptr(), (self._out.data_ptr(), self._data.data_ptr()), (size,), ())
        calls = Calls([call] * times)
        self._pool.run(calls)
        seconds = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            self._pool.run(calls)
            seconds.append(time.perf_counter() - begin)
        return seconds
