"""Kernels in Triton for NVIDIA GPUs of capability 8.0 and up, behind the interface of kernels/reference.py.

Nothing is read back to the host and no grid depends on lengths: a decode step can be captured as a CUDA graph. Which
kernel multiplies by a matrix is settled when the matrix is prepared (linear.py). Shapes as in reference.py.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import replace

import torch
import triton

from farthing.kernels.activations import Activations
from farthing.kernels.histories import History
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.adjusting import count_drawn
from farthing.kernels.triton.attention_decode import attend_few
from farthing.kernels.triton.attention_prefill import attend_many
from farthing.kernels.triton.attention_shapes import FEW_ROWS
from farthing.kernels.triton.choice import Chooser
from farthing.kernels.triton.halves import LAYOUT, to_halves
from farthing.kernels.triton.kv_write import rope_and_store
from farthing.kernels.triton.largest import largest
from farthing.kernels.triton.launch import Chip, Launcher, Now
from farthing.kernels.triton.linear import Plan, linear, supports
from farthing.kernels.triton.norms import add_norm, rms_norm
from farthing.kernels.triton.paged_kv import PagedKV
from farthing.kernels.triton.quantize import in_halves, write_rows
from farthing.kernels.triton.sampling import sample
from farthing.kernels.triton.swiglu import silu_mul
from farthing.kernels.weight import TORCH_DTYPES, Weight
from farthing.kernels.wishes import Wishes
from farthing.quantization.base import WeightFormat, resolve

LEAST_CAPABILITY = 80


def chip_of(device: torch.device) -> Chip:
    """The chip of a CUDA device."""
    properties = torch.cuda.get_device_properties(device)
    return Chip(10 * properties.major + properties.minor, properties.multi_processor_count)


def open_kernels(
    *, batch_invariant: bool, weight_formats: Sequence[str], activation_dtype: str, kv_dtype: str
) -> "TritonKernels":
    """Kernels for the current CUDA device. ValueError, with the reason, if there are none for it."""
    chip = chip_of(torch.device("cuda"))
    if chip.capability < LEAST_CAPABILITY:
        raise ValueError(f"Triton kernels need compute capability 8.0, and this card has {chip.capability / 10:.1f}")
    try:
        triton.runtime.driver.active.get_current_target()
    except (RuntimeError, subprocess.CalledProcessError) as error:  # it compiles what starts kernels
        raise ValueError(f"Triton finds no C compiler or no headers of Python ({str(error).splitlines()[0]})") from None
    if kv_dtype == "fp8_e4m3" and not chip.has_fp8:
        raise ValueError(f"sm_{chip.capability} has no units for a KV cache of fp8; --kv-format int8 is as small")
    dtype = TORCH_DTYPES[activation_dtype]
    for name in weight_formats:
        if not supports(resolve(name, "cuda"), dtype):
            raise ValueError(f"Triton kernels have no {name} beside activations in {activation_dtype}")
    return TritonKernels(Now(chip), batch_invariant=batch_invariant)


class TritonKernels(ReferenceKernels):
    """`batch_invariant`: attention and products keep to instructions and an order of sums that give a row the same bits
    in a batch of any size."""

    layout = LAYOUT
    skips_padding = True
    widens_quantized = False
    joins = True
    draws = True

    def __init__(self, launch: Launcher, *, batch_invariant: bool) -> None:
        self.name = f"triton sm_{launch.chip.capability}"
        self.batch_invariant = batch_invariant
        self._launch = launch
        self._chooser = Chooser(launch, batch_invariant=batch_invariant)
        self._laid_out: set[int] = set()  # weights in halves, by address
        self._plans: dict[tuple[int, int, torch.dtype], Plan] = {}  # by address, rows, dtype of activations

    def write_rows(self, weight: Weight, first_row: int, w_RK: torch.Tensor) -> torch.Tensor:
        self.adopt(weight)
        return write_rows(self._launch, weight, first_row, w_RK)

    def adopt(self, weight: Weight) -> None:
        self._laid_out.add(weight.codes.data_ptr())

    def prepare(self, weight: Weight) -> Weight:
        address = weight.codes.data_ptr()
        if in_halves(weight.format) and address not in self._laid_out:
            to_halves(weight)
            self._laid_out.add(address)
        return replace(weight, packed=True)

    def linear(self, x_TK: Activations, weight: Weight, bias_N: torch.Tensor | None = None) -> torch.Tensor:
        assert weight.packed, "prepare the weight first"
        key = weight.codes.data_ptr(), weight.codes.shape[0], x_TK.dtype
        if key not in self._plans:  # before any step is captured: a step runs once before that
            self._plans[key] = self._chooser.plan(weight, x_TK.dtype)
        if isinstance(x_TK, torch.Tensor):
            x_TK = x_TK.contiguous()
        return linear(self._launch, x_TK, weight, bias_N, self._plans[key])

    def draw(
        self, logits_RV: torch.Tensor, wishes: Wishes, history: History | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        token_R, top_R = sample(self._launch, logits_RV, wishes, history)
        if history is not None:
            count_drawn(self._launch, history, token_R)
        return top_R, token_R

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return largest(self._launch, logits_RV)

    def rms_norm(self, x_TK: torch.Tensor, weight_K: torch.Tensor, eps: float) -> torch.Tensor:
        return rms_norm(self._launch, x_TK, weight_K, eps)

    def add_norm(
        self,
        x_TK: torch.Tensor,
        added_TK: torch.Tensor | None,
        weight_K: torch.Tensor,
        eps: float,
        weight_format: WeightFormat | None = None,
    ) -> tuple[torch.Tensor, Activations]:
        return add_norm(self._launch, x_TK, added_TK, weight_K, eps, weight_format)

    def rope_and_store(
        self,
        q_THD: torch.Tensor,
        k_TJD: torch.Tensor,
        v_TJD: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        cache: tuple[torch.Tensor, torch.Tensor],
        slots_T: torch.Tensor,
    ) -> torch.Tensor:
        paged = PagedKV.of(*cache, k_TJD.shape[-1])
        return rope_and_store(self._launch, q_THD, k_TJD, v_TJD, *angles, paged, slots_T)

    def silu_mul(
        self, gate_TK: torch.Tensor, up_TK: torch.Tensor, weight_format: WeightFormat | None = None
    ) -> Activations:
        return silu_mul(self._launch, gate_TK, up_TK, weight_format)

    def attention(
        self,
        q_THD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        sequences: Sequences,
        window: int | None,
    ) -> torch.Tensor:
        """A step of few rows, or of no more than sequences, as a captured one, has few rows of each; in others each
        sequence goes to the kernels for its number of rows, which is known on the device alone."""
        out_THD = torch.empty_like(q_THD)
        cache = PagedKV.of(k_cache_BSJD, v_cache_BSJD, q_THD.shape[-1])
        if q_THD.shape[0] <= max(FEW_ROWS, len(sequences.starts_S)):
            attend_few(self._launch, out_THD, q_THD, cache, sequences, window)
            return out_THD
        attend_few(self._launch, out_THD, q_THD, cache, sequences, window, most_rows=FEW_ROWS)
        exact = self.batch_invariant
        attend_many(self._launch, out_THD, q_THD, cache, sequences, window, least_rows=FEW_ROWS + 1, exact=exact)
        return out_THD
