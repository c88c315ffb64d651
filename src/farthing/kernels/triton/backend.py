"""Kernels in Triton for NVIDIA GPUs of capability 8.0 and up, behind the interface of kernels/reference.py.

Nothing is read back to the host and no grid depends on lengths: a decode step can be captured as a CUDA graph. Matrix
products are the vendor's, unless rows must not depend on their batch. Shapes as in reference.py.
"""

import torch

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.attention_decode import attend_few
from farthing.kernels.triton.attention_prefill import attend_many
from farthing.kernels.triton.kv_write import rope, store_kv
from farthing.kernels.triton.launch import Chip, Launcher, Now
from farthing.kernels.triton.norms import largest, rms_norm, silu_mul
from farthing.kernels.triton.paged_kv import PagedKV
from farthing.kernels.vendor import VendorKernels
from farthing.kernels.weight import Weight

LEAST_CAPABILITY = 80


def chip_of(device: torch.device) -> Chip:
    """The chip of a CUDA device."""
    properties = torch.cuda.get_device_properties(device)
    return Chip(10 * properties.major + properties.minor, properties.multi_processor_count)


def open_kernels(*, batch_invariant: bool, kv_dtype: str) -> "TritonKernels":
    """Kernels for the current CUDA device. ValueError, with the reason, if there are none for it."""
    chip = chip_of(torch.device("cuda"))
    if chip.capability < LEAST_CAPABILITY:
        raise ValueError(f"Triton kernels need compute capability 8.0, and this card has {chip.capability / 10:.1f}")
    if kv_dtype == "fp8_e4m3" and not chip.has_fp8:
        raise ValueError(f"sm_{chip.capability} has no units for a KV cache of fp8; --kv-format int8 is as small")
    return TritonKernels(Now(chip), batch_invariant=batch_invariant)


class TritonKernels(ReferenceKernels):
    """`batch_invariant`: attention keeps to instructions that give a row the same bits in a tile of any height, and
    matrix products go row by row."""

    def __init__(self, launch: Launcher, *, batch_invariant: bool) -> None:
        self.name = f"triton sm_{launch.chip.capability}"
        self.batch_invariant = batch_invariant
        self._launch = launch
        self._products = ReferenceKernels() if batch_invariant else VendorKernels()

    def linear(self, x_TK: torch.Tensor, weight: Weight, bias_N: torch.Tensor | None = None) -> torch.Tensor:
        return self._products.linear(x_TK, weight, bias_N)

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return largest(self._launch, logits_RV)

    def rms_norm(self, x_TK: torch.Tensor, weight_K: torch.Tensor, eps: float) -> torch.Tensor:
        return rms_norm(self._launch, x_TK, weight_K, eps)

    def rope(self, x_THD: torch.Tensor, cos_T1D2: torch.Tensor, sin_T1D2: torch.Tensor) -> torch.Tensor:
        return rope(self._launch, x_THD, cos_T1D2, sin_T1D2)

    def silu_mul(self, gate_TK: torch.Tensor, up_TK: torch.Tensor) -> torch.Tensor:
        return silu_mul(self._launch, gate_TK, up_TK)

    def store_kv(
        self,
        k_TJD: torch.Tensor,
        v_TJD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        slots_T: torch.Tensor,
    ) -> None:
        cache = PagedKV.of(k_cache_BSJD, v_cache_BSJD, k_TJD.shape[-1])
        store_kv(self._launch, k_TJD, v_TJD, cache, slots_T)

    def attention(
        self,
        q_THD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        sequences: Sequences,
        window: int | None,
    ) -> torch.Tensor:
        """A step of no more rows than sequences, as a captured one, is decode; in others each sequence goes to the
        kernels for its number of rows, which is known on the device alone."""
        out_THD = torch.empty_like(q_THD)
        cache = PagedKV.of(k_cache_BSJD, v_cache_BSJD, q_THD.shape[-1])
        if q_THD.shape[0] <= len(sequences.starts_S):
            attend_few(self._launch, out_THD, q_THD, cache, sequences, window)
            return out_THD
        attend_few(self._launch, out_THD, q_THD, cache, sequences, window, most_rows=1)
        exact = self.batch_invariant
        attend_many(self._launch, out_THD, q_THD, cache, sequences, window, least_rows=2, exact=exact)
        return out_THD
