"""What the compiled kernels reach here, as tasks to be timed: instructions alone, memory alone, products, attention,
the ops between them, and a call that has nothing to do.

All of it but the first two is recorded as a model's steps are, so what is timed is what a step does. Knows no clock and
no model; runtime/probe.py has the clock. Shapes as in kernels/reference.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from farthing.kernels.native.backend import NativeKernels, supports
from farthing.kernels.native.library import Call, Calls, Pool
from farthing.kernels.native.recorder import Recorder
from farthing.kernels.sequences import Sequences
from farthing.kernels.weight import TORCH_DTYPES, Weight
from farthing.quantization.base import WeightFormat, formats

_STEPS = 4000  # of a chain of instructions
_FLOPS_PER_STEP = {"fp32": 12 * 32, "bf16": 12 * 64, "int8": 12 * 128}
_READ_UNIT = 256  # bytes
_BLOCK_SIZE = 16
_NUM_CALLS = 200  # of a row so short that there is nothing to do
_KV_HEADS, _HEAD_DIM = 4, 64
_KV_BYTES_PER_POSITION = 2 * _KV_HEADS * _HEAD_DIM * 2


@dataclass(frozen=True, slots=True)
class Task:
    """`work`: bytes or FLOPs of one `run`, in so many calls of kernels."""

    work: int
    calls: int
    run: Callable[[], None]


class NativePeaks:
    """Tasks for all threads of a pool. `data`: fp32 memory of ones that tasks read parts of; its owner keeps it."""

    maths: Sequence[str] = tuple(_FLOPS_PER_STEP)
    kv_bytes_per_position, head_dim = _KV_BYTES_PER_POSITION, _HEAD_DIM  # of `attention`

    def __init__(self, pool: Pool, level: str, data: torch.Tensor) -> None:
        self._pool, self._data = pool, data
        self._kernels = NativeKernels(pool, level)
        self.formats = [one for one in formats().values() if supports(one.name, _activations(one), 64)]

    def peak(self, math: str) -> Task:
        """Multiplications and additions without memory."""
        rows, out = torch.tensor([self._pool.num_threads]), torch.zeros(16 * self._pool.num_threads)
        calls = Calls([Call(f"peak_{math}", rows.data_ptr(), (out.data_ptr(),), (_STEPS,), ())])
        return Task(self._pool.num_threads * _STEPS * _FLOPS_PER_STEP[math], 1, self._runner(calls, rows, out))

    def read(self, num_bytes: int) -> Task:
        """The first so many bytes of the data, an equal part for each thread."""
        num_threads = self._pool.num_threads
        part = num_bytes // num_threads // _READ_UNIT * _READ_UNIT
        rows, out = torch.tensor([num_threads]), torch.zeros(16 * num_threads)
        pointers = (out.data_ptr(), self._data.data_ptr())
        calls = Calls([Call("read_bytes", rows.data_ptr(), pointers, (part,), ())])
        return Task(num_threads * part, 1, self._runner(calls, rows, out))

    def product(self, weight_format: WeightFormat, *, rows: int, columns: int, outputs: int, num_bytes: int) -> Task:
        """Products with different matrices, one after the other, of so many bytes together; half of them round or widen
        their input first, as in a model."""
        each = -(-weight_format.nbytes(outputs, columns) // 64) * 64
        weights = [self._weight(weight_format, outputs, columns, at * each) for at in range(max(1, num_bytes // each))]
        x_TK = torch.ones(rows, columns, dtype=TORCH_DTYPES[_activations(weight_format)])
        counts = torch.tensor([rows])
        recorder = self._kernels.recorder()
        recorder.count(x_TK, counts.data_ptr())
        with self._kernels.recording(recorder):
            for at, weight in enumerate(weights):
                x_TK = x_TK[:] if at % 2 == 0 else x_TK
                y_TN = self._kernels.linear(x_TK, weight)
        return self._task(2 * rows * columns * outputs * len(weights), recorder, y_TN, counts)

    def attention(self, *, rows: int, group: int, positions: int, num_sequences: int) -> Task:
        """The last `rows` of so many positions of each sequence, `group` query heads to a KV head."""
        heads, blocks = _KV_HEADS * group, -(-positions // _BLOCK_SIZE)
        shape = (num_sequences * blocks, _BLOCK_SIZE, _KV_HEADS, _HEAD_DIM)
        k_cache, v_cache = torch.ones(shape, dtype=torch.bfloat16), torch.ones(shape, dtype=torch.bfloat16)
        tables = torch.arange(num_sequences * blocks).view(num_sequences, blocks)
        sequences = Sequences.of([(at * rows, rows, positions - rows, tables[at]) for at in range(num_sequences)])
        q_THD = torch.ones(num_sequences * rows, heads, _HEAD_DIM, dtype=torch.bfloat16)
        counts = torch.tensor([num_sequences * rows, num_sequences])
        recorder = self._kernels.recorder()
        recorder.count(q_THD, counts.data_ptr())
        recorder.count(sequences.starts_S, counts[1:].data_ptr())
        with self._kernels.recording(recorder):
            out_THD = self._kernels.attention(q_THD, k_cache, v_cache, sequences, None)
        pairs = num_sequences * (rows * (positions - rows) + rows * (rows + 1) // 2)
        return self._task(4 * pairs * heads * _HEAD_DIM, recorder, out_THD, counts)

    def small_ops(self, *, rows: int, columns: int) -> Task:
        """A norm, an addition and an activation: what all three read and write."""
        x_TK = torch.ones(rows, columns, dtype=torch.bfloat16)
        weight_K = torch.ones(columns, dtype=torch.bfloat16)
        counts = torch.tensor([rows])
        recorder = self._kernels.recorder()
        recorder.count(x_TK, counts.data_ptr())
        with self._kernels.recording(recorder):
            normed_TK = self._kernels.rms_norm(x_TK, weight_K, 1e-5)
            summed_TK = self._kernels.operator("add", (x_TK, normed_TK))
            assert summed_TK is not None
            out_TK = self._kernels.silu_mul(normed_TK, summed_TK)
        return self._task((2 + 3 + 3) * rows * columns * 2, recorder, out_TK, counts)

    def calls(self) -> Task:
        """Calls that have next to nothing to do, each after the one before it."""
        x_TK = torch.ones(1, 16, dtype=torch.bfloat16)
        counts = torch.tensor([1])
        recorder = self._kernels.recorder()
        recorder.count(x_TK, counts.data_ptr())
        with self._kernels.recording(recorder):
            for _ in range(_NUM_CALLS):
                summed_TK = self._kernels.operator("add", (x_TK, x_TK))
                assert summed_TK is not None
                x_TK = summed_TK
        return self._task(_NUM_CALLS, recorder, x_TK, counts)

    def _weight(self, weight_format: WeightFormat, outputs: int, columns: int, at: int) -> Weight:
        """A part of the data as if it were packed weights; scales are its beginning."""
        codes, *scales = weight_format.stored(outputs, columns)
        data = self._data.view(torch.uint8)
        parts = [
            data[start : start + stored.num_bytes].view(TORCH_DTYPES[stored.dtype]).view(stored.shape)
            for stored, start in ((codes, at), *((scale, 0) for scale in scales))
        ]
        return Weight(weight_format, columns, parts[0], parts[1] if scales else None, packed=True)

    def _task(self, work: int, recorder: Recorder, output: torch.Tensor, *kept: torch.Tensor) -> Task:
        held = (recorder.finish(output), kept)
        return Task(work, held[0].num_calls, lambda: held[0].run())

    def _runner(self, calls: Calls, *kept: torch.Tensor) -> Callable[[], None]:
        """Runs the calls; holds on to the memory that they point to."""
        held = (calls, kept)
        return lambda: self._pool.run(held[0])


def _activations(weight_format: WeightFormat) -> str:
    """The dtype of what weights in a format are multiplied with, where they are measured."""
    return weight_format.name if weight_format.name == "fp32" else "bf16"
