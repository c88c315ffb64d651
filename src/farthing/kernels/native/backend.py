"""Kernels in C++ for CPUs, behind the interface of kernels/reference.py; rows never depend on their batch.

A method says what is computed from what; a target (recorder.py) computes it now or notes it for later. Weights and the
KV cache have layouts of their own here (src/linear.cpp, src/kv_cache.h), of the same size.
Shapes as in reference.py; G groups of K that share a scale.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from farthing.kernels.activations import Activations
from farthing.kernels.native.library import Pool
from farthing.kernels.native.recorder import Immediate, Recorder, Target, Work
from farthing.kernels.reference import CHUNK, ReferenceKernels
from farthing.kernels.sequences import Sequences
from farthing.kernels.weight import Weight, largest_stored
from farthing.quantization.base import WeightFormat

_KINDS = {"fp32": 0, "bf16": 0, "w8a8": 1, "w4a8": 2}  # how the words of a panel are packed (src/linear.cpp)
_SUFFIXES = {torch.float32: "_fp32", torch.bfloat16: "_bf16"}
_PARTIAL_ROWS = 4  # rows whose chunks may be shared among threads


def supports(weight_format: str, activation_dtype: str, num_columns: int) -> bool:
    """Whether there are kernels for a matrix of so many columns in this format, beside these activations."""
    values = {"fp32": 1, "bf16": 2, "w8a8": 4, "w4a8": 8}.get(weight_format.partition("-")[0])
    if values is None or activation_dtype not in ("fp32", "bf16"):
        return False
    return num_columns % values == 0 and (values >= 4 or weight_format == activation_dtype)


@dataclass(frozen=True, slots=True)
class _Rounded:
    """Activations in 8 bits: the tensor that they come from, codes, a scale a row, sums of codes a row and group."""

    source: torch.Tensor
    group_size: int
    codes_TK: torch.Tensor
    scale_T: torch.Tensor
    sums_TG: torch.Tensor


class NativeKernels(ReferenceKernels):
    """`write_rows` and `prepare` pack weights: only these kernels can read them afterwards."""

    batch_invariant = True
    layout = "panels-16"
    rows_together = 16
    widens_quantized = False

    def __init__(self, pool: Pool, level: str) -> None:
        self.name = f"native {level}"
        self._widens = not level.endswith("bf16")  # bf16 is multiplied as fp32
        self._pool = pool
        self._target: Target = Immediate(pool)
        self._packed: dict[int, Weight] = {}  # by address
        self._rounded: _Rounded | None = None  # of the last rows that were rounded: q, k and v read the same
        self._widened: tuple[torch.Tensor, torch.Tensor] | None = None  # the last rows, and the same in fp32

    @contextmanager
    def recording(self, recorder: Recorder) -> Iterator[None]:
        """All calls inside go to the recorder instead of being computed."""
        before, self._target, self._rounded, self._widened = self._target, recorder, None, None
        try:
            with recorder.intercepting(self.operator):
                yield
        finally:
            self._target, self._rounded, self._widened = before, None, None

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        top_R = self._target.empty(logits_RV, (), torch.float32)
        token_R = self._target.empty(logits_RV, (), torch.int64)
        operands, sizes = (top_R, token_R, logits_RV), (logits_RV.shape[1],)
        self._target.call(Work("largest", logits_RV, operands, writes=2, sizes=sizes))
        return top_R, token_R

    def wake(self) -> None:
        """Calls are about to come."""
        self._pool.wake()

    def recorder(self) -> Recorder:
        return Recorder(self._pool)

    def write_rows(self, weight: Weight, first_row: int, w_RK: torch.Tensor) -> torch.Tensor:
        assert first_row % self.rows_together == 0, "whole panels"
        rows = slice(first_row, first_row + w_RK.shape[0])
        codes, columns = weight.codes[rows], w_RK.shape[1]
        self.adopt(weight)
        if weight.scale_NG is None:
            w_RK = w_RK.to(codes.dtype).contiguous()
            tops = torch.empty(-(-w_RK.shape[0] // self.rows_together))
            self._now("pack_rows" + _SUFFIXES[w_RK.dtype], w_RK, (codes, tops, w_RK), (columns,), writes=2)
            return tops.max()
        w_RK = (w_RK if w_RK.dtype in _SUFFIXES else w_RK.float()).contiguous()
        op = ("quantize_w4" if weight.format.bits == 4 else "quantize_w8") + _SUFFIXES[w_RK.dtype]
        sizes = (columns, weight.format.group_size or columns)
        self._now(op, w_RK, (codes, weight.scale_NG[rows], w_RK), sizes, writes=2)
        return largest_stored(weight.part(rows))

    def adopt(self, weight: Weight) -> None:
        self._packed[weight.codes.data_ptr()] = replace(weight, packed=True)

    def prepare(self, weight: Weight) -> Weight:
        codes = weight.codes
        if weight.packed or codes.data_ptr() in self._packed:
            return replace(weight, packed=True)
        kind = _KINDS[weight.format.name.partition("-")[0]]
        words = codes.shape[1] * codes.element_size() // 4
        self._now("pack", codes, (codes, codes), (words, codes.shape[0], kind))
        if kind == 2:
            scale_NG = weight.scale_NG
            assert scale_NG is not None
            self._now("pack_scales", scale_NG, (scale_NG, scale_NG), (scale_NG.shape[1], scale_NG.shape[0]))
        packed = replace(weight, packed=True)
        self._packed[codes.data_ptr()] = packed
        return packed

    def linear(self, x_TK: Activations, weight: Weight, bias_N: torch.Tensor | None = None) -> torch.Tensor:
        assert weight.packed, "prepare the weight first"
        assert isinstance(x_TK, torch.Tensor), "only who rounds rows beforehand reads them so"
        num_outputs, columns = weight.codes.shape[0], x_TK.shape[1]
        y_TN = self._target.empty(x_TK, (num_outputs,), x_TK.dtype)
        sizes = (columns, num_outputs, weight.format.group_size or columns)
        if weight.scale_NG is None:
            op, operand_TK = "linear" + _SUFFIXES[x_TK.dtype], x_TK
            if x_TK.dtype == torch.bfloat16 and self._widens:
                op, operand_TK = "linear_widened", self._widen(x_TK)
            operands = (y_TN, operand_TK, weight.codes, None, None, None, bias_N)
            self._target.call(Work(op, x_TK, operands, sizes=sizes))
            return y_TN
        rounded = self._round(x_TK, sizes[2])
        codes_and_scales = (rounded.codes_TK, weight.codes, weight.scale_NG, rounded.scale_T, rounded.sums_TG)
        op = "linear_w4a8" if weight.format.bits == 4 else "linear_w8a8"
        self._call(op, x_TK, (y_TN, *codes_and_scales, bias_N), sizes=sizes)
        return y_TN

    def rms_norm(self, x_TK: torch.Tensor, weight_K: torch.Tensor, eps: float) -> torch.Tensor:
        out_TK = self._target.empty(x_TK, x_TK.shape[1:], x_TK.dtype)
        columns = x_TK.shape[-1]
        groups = math.prod(x_TK.shape[1:]) // columns
        self._call("rms_norm", x_TK, (out_TK, x_TK, weight_K), sizes=(columns, groups), scalars=(eps,))
        return out_TK

    def rotary_angles(
        self, positions_T: torch.Tensor, frequencies_D2: torch.Tensor, factor: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        half = frequencies_D2.shape[0]
        cos_T1D2, sin_T1D2 = (self._target.empty(positions_T, (1, half), torch.float32) for _ in range(2))
        operands = (cos_T1D2, sin_T1D2, positions_T, frequencies_D2)
        self._target.call(Work("rotary_angles", positions_T, operands, writes=2, sizes=(half,), scalars=(factor,)))
        return cos_T1D2, sin_T1D2

    def rope(self, x_THD: torch.Tensor, cos_T1D2: torch.Tensor, sin_T1D2: torch.Tensor) -> torch.Tensor:
        out_THD = self._target.empty(x_THD, x_THD.shape[1:], x_THD.dtype)
        sizes = (x_THD.shape[1], x_THD.shape[2] // 2)
        self._call("rope", x_THD, (out_THD, x_THD, cos_T1D2, sin_T1D2), sizes=sizes)
        return out_THD

    def silu_mul(
        self, gate_TK: torch.Tensor, up_TK: torch.Tensor, weight_format: WeightFormat | None = None
    ) -> torch.Tensor:
        out_TK = self._target.empty(gate_TK, gate_TK.shape[1:], gate_TK.dtype)
        self._call("silu_mul", gate_TK, (out_TK, gate_TK, up_TK), sizes=(gate_TK.shape[1],))
        return out_TK

    def store_kv(
        self,
        k_TJD: torch.Tensor,
        v_TJD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        slots_T: torch.Tensor,
    ) -> None:
        op, sizes = _of_cache("store_kv", k_cache_BSJD), (*k_TJD.shape[1:], k_cache_BSJD.shape[1])
        self._call(op, k_TJD, (k_cache_BSJD, v_cache_BSJD, k_TJD, v_TJD, slots_T), writes=2, sizes=sizes)

    def attention(
        self,
        q_THD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        sequences: Sequences,
        window: int | None,
    ) -> torch.Tensor:
        _, block_size, num_kv_heads, _ = k_cache_BSJD.shape
        (num_heads, head_dim), stride = q_THD.shape[1:], sequences.tables_SP.shape[1]
        room = _PARTIAL_ROWS * num_heads * -(-stride * block_size // CHUNK)
        partials = self._target.scratch((room, head_dim + 2))
        out_THD = self._target.empty(q_THD, q_THD.shape[1:], q_THD.dtype)
        described = (sequences.first_rows_S, sequences.num_rows_S, sequences.starts_S, sequences.tables_SP)
        operands = (out_THD, partials, q_THD, k_cache_BSJD, v_cache_BSJD, *described)
        sizes = (num_heads, num_kv_heads, head_dim, block_size, window or 0, stride, room)
        for op in (_of_cache("attention", k_cache_BSJD), "combine_attention"):
            self._call(op, q_THD, operands, writes=2, sizes=sizes, rows_of=sequences.starts_S)
        return out_THD

    def operator(
        self, name: str, args: Sequence[object], options: Mapping[str, object] | None = None
    ) -> torch.Tensor | None:
        """What decoder.py writes as operators, as kernels: add, rows of a matrix, fp32 of a tensor. None: unknown."""
        given = {key: value for key, value in (options or {}).items() if value is not None}
        match name, args:
            case "add", (torch.Tensor() as a_TK, torch.Tensor() as b_TK) if not given and _alike(a_TK, b_TK):
                out_TK = self._target.empty(a_TK, a_TK.shape[1:], a_TK.dtype)
                self._call("add_rows", a_TK, (out_TK, a_TK, b_TK), sizes=(a_TK.shape[1],))
                return out_TK
            case "index", (torch.Tensor() as x_NK, [torch.Tensor() as rows_T]) if not given:
                return self._gather(x_NK, rows_T)
            case "_to_copy", (torch.Tensor() as x_TK,) if given == {"dtype": torch.float32}:
                return self._widen(x_TK)
        return None

    def _widen(self, x_TK: torch.Tensor) -> torch.Tensor:
        """x in fp32; the same tensor for the same x, one after the other."""
        if self._widened is None or self._widened[0] is not x_TK:
            out_TK = self._target.empty(x_TK, x_TK.shape[1:], torch.float32)
            self._call("widen", x_TK, (out_TK, x_TK), sizes=(x_TK.shape[1],))
            self._widened = (x_TK, out_TK)
        return self._widened[1]

    def _gather(self, x_NK: torch.Tensor, rows_T: torch.Tensor) -> torch.Tensor:
        num_rows, columns = x_NK.shape
        out_TK = self._target.empty(rows_T, (columns,), x_NK.dtype)
        width = x_NK.element_size()
        if x_NK.device.type == "cpu" and x_NK.data_ptr() in self._packed:
            operands, sizes = (out_TK, x_NK, rows_T), (columns, num_rows, width)
            self._target.call(Work("gather_packed", rows_T, operands, sizes=sizes))
        else:
            self._target.call(Work("gather", rows_T, (out_TK, x_NK, rows_T), sizes=(columns * width,)))
        return out_TK

    def _round(self, x_TK: torch.Tensor, group_size: int) -> _Rounded:
        found = self._rounded
        if found is None or found.source is not x_TK or found.group_size != group_size:
            columns = x_TK.shape[1]
            codes_TK = self._target.empty(x_TK, (columns,), torch.int8)
            scale_T = self._target.empty(x_TK, (), torch.float32)
            sums_TG = self._target.empty(x_TK, (-(-columns // group_size),), torch.int32)
            operands = (codes_TK, scale_T, sums_TG, x_TK)
            self._call("quantize_rows", x_TK, operands, writes=3, sizes=(columns, group_size))
            found = self._rounded = _Rounded(x_TK, group_size, codes_TK, scale_T, sums_TG)
        return found

    def _call(
        self,
        op: str,
        typed: torch.Tensor,
        operands: Sequence[torch.Tensor | None],
        *,
        writes: int = 1,
        sizes: Sequence[int] = (),
        scalars: Sequence[float] = (),
        rows_of: torch.Tensor | None = None,
    ) -> None:
        """A kernel of the dtype of `typed`. The first `writes` operands are written. `rows_of`: whose rows the kernel
        goes through; by default those of `typed`."""
        rows_of = typed if rows_of is None else rows_of
        self._target.call(Work(op + _SUFFIXES[typed.dtype], rows_of, operands, writes, sizes, scalars))

    def _now(
        self,
        op: str,
        rows_of: torch.Tensor,
        operands: Sequence[torch.Tensor],
        sizes: Sequence[int],
        *,
        writes: int = 1,
    ) -> None:
        Immediate(self._pool).call(Work(op, rows_of, operands, writes, sizes))


def _of_cache(op: str, cache_BSJD: torch.Tensor) -> str:
    """The kernel for a cache of this dtype."""
    return f"{op}_int8" if cache_BSJD.dtype == torch.int8 else op


def _alike(a_TK: torch.Tensor, b_TK: torch.Tensor) -> bool:
    return a_TK.shape == b_TK.shape and a_TK.dtype == b_TK.dtype
