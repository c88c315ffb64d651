"""The kernels in plain torch: the interface, and the oracle that every faster backend is tested against.

Tensors in, tensors out; knows no model. A row's result never depends on what else is in the batch: matrix products
and attention go row by row, attention over fixed chunks of KV positions, combined in order.

Shapes: T tokens of the step, K and N features, H query heads, J KV heads, D head_dim, B blocks, S slots of a block,
L positions of one sequence, C positions of a chunk.
"""

import torch

from farthing.kernels.activations import Activations
from farthing.kernels.histories import History
from farthing.kernels.kv_rows import load_rows, store_rows
from farthing.kernels.sequences import Sequences
from farthing.kernels.weight import Weight, dequantize, largest_stored, quantize, round_activations
from farthing.kernels.wishes import Wishes
from farthing.quantization.base import WeightFormat

ROWS = 1
"""Rows of one matrix product. BLAS libraries pick the order of a sum by the number of rows, and within a block by a
row's place: MKL on AVX2 takes 8 rows as 6 + 2, each with a kernel of its own."""
CHUNK = 256


class ReferenceKernels:
    """CPU and CUDA alike. A backend derives from this class once and overrides what it does better."""

    name = "reference"
    batch_invariant = True
    skips_padding = False
    """Whether rows without a slot and sequences without rows compute nothing, so that a step may be larger than its
    batch."""
    draws = False
    """Whether `draw` is there: tokens that are sampled without the host."""
    widens_quantized = True
    """Whether weights in a quantized format are widened, a matrix at a time, in every step."""

    joins = False
    """Whether matrices that read the same rows should lie one after the other, to be multiplied by as one."""

    layout = "rows"  # of a written weight, for whoever keeps it on disk
    rows_together = 1  # weights are written by a multiple of so many rows, except at their end

    def write_rows(self, weight: Weight, first_row: int, w_RK: torch.Tensor) -> torch.Tensor:
        """Round some rows of W to the format of `weight` and store them there, in this backend's layout. Returns the
        largest magnitude that the format gives them, a number on the device that nothing here waits for; it is not
        finite if one of them is not."""
        part = weight.part(slice(first_row, first_row + w_RK.shape[0]))
        part.store(quantize(w_RK.to(weight.codes.device), weight.format))
        return largest_stored(part)

    def adopt(self, weight: Weight) -> None:
        """`weight` holds what `write_rows` once wrote, in this layout."""

    def prepare(self, weight: Weight) -> Weight:
        """The weight as `linear` reads it best; a backend may lay it out anew in the same memory."""
        return weight

    def linear(self, x_TK: Activations, weight: Weight, bias_N: torch.Tensor | None = None) -> torch.Tensor:
        """x_TK @ W_NK^T + b_N in the dtype of activations; the sum of a row is a function of that row alone."""
        assert isinstance(x_TK, torch.Tensor), "only who rounds rows beforehand reads them so"
        operand_TK, w_NK = self._operands(x_TK, weight)
        y_TN = torch.cat([torch.nn.functional.linear(x_RK, w_NK) for x_RK in operand_TK.split(ROWS)]).to(x_TK.dtype)
        return y_TN if bias_N is None else y_TN + bias_N

    def _operands(self, x_TK: torch.Tensor, weight: Weight) -> tuple[torch.Tensor, torch.Tensor]:
        """Plain weights multiply as they are stored; quantized ones are widened to fp32."""
        if not weight.format.quantized:
            return x_TK, weight.codes
        return round_activations(x_TK, weight.format).float(), dequantize(weight)

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest value of each row and the lowest id that has it; NaN is larger than all."""
        top_R, token_R = logits_RV.max(-1)
        return top_R, token_R

    def draw(
        self, logits_RV: torch.Tensor, wishes: Wishes, history: History | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest value of each row, with penalties and bias of its history, and the token that is drawn from it,
        which that history counts from then on; where the largest is not finite, that token means nothing."""
        raise NotImplementedError("runtime/sampler.py draws, where `draws` is False")

    def rms_norm(self, x_TK: torch.Tensor, weight_K: torch.Tensor, eps: float) -> torch.Tensor:
        """x / sqrt(mean(x^2) + eps) * w over the last dimension, in fp32, rounded before the weight is applied."""
        wide_TK = x_TK.float()
        normed_TK = wide_TK * torch.rsqrt(wide_TK.square().mean(-1, keepdim=True) + eps)
        return weight_K * normed_TK.to(x_TK.dtype)

    def add_norm(
        self,
        x_TK: torch.Tensor,
        added_TK: torch.Tensor | None,
        weight_K: torch.Tensor,
        eps: float,
        weight_format: WeightFormat | None = None,
    ) -> tuple[torch.Tensor, Activations]:
        """x + added (x itself where nothing is), and RMSNorm of it as matrices of this format read it."""
        sum_TK = x_TK if added_TK is None else x_TK + added_TK
        return sum_TK, self.rms_norm(sum_TK, weight_K, eps)

    def rotary_angles(
        self, positions_T: torch.Tensor, frequencies_D2: torch.Tensor, factor: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin [T, 1, D/2] of position * frequency, times the attention factor of yarn; fp32."""
        angles_TD2 = positions_T.float()[:, None] * frequencies_D2
        return (angles_TD2.cos() * factor)[:, None], (angles_TD2.sin() * factor)[:, None]

    def rope(self, x_THD: torch.Tensor, cos_T1D2: torch.Tensor, sin_T1D2: torch.Tensor) -> torch.Tensor:
        """Rotate the pairs (i, i + D/2) of each head."""
        first, second = x_THD.float().chunk(2, dim=-1)
        rotated = torch.cat((first * cos_T1D2 - second * sin_T1D2, second * cos_T1D2 + first * sin_T1D2), dim=-1)
        return rotated.to(x_THD.dtype)

    def rope_and_store(
        self,
        q_THD: torch.Tensor,
        k_TJD: torch.Tensor,
        v_TJD: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        cache: tuple[torch.Tensor, torch.Tensor],
        slots_T: torch.Tensor,
    ) -> torch.Tensor:
        """q, rotated. k, rotated, and v are stored."""
        q_THD, k_TJD = self.rope(q_THD, *angles), self.rope(k_TJD, *angles)
        self.store_kv(k_TJD, v_TJD, *cache, slots_T)
        return q_THD

    def silu_mul(
        self, gate_TK: torch.Tensor, up_TK: torch.Tensor, weight_format: WeightFormat | None = None
    ) -> Activations:
        """silu(gate) * up, the first factor rounded; as matrices of this format read it. Row by row: torch's vector
        loop rounds the elements left over at its end differently, and with several rows the end lies elsewhere."""
        return torch.stack([torch.nn.functional.silu(gate_K) for gate_K in gate_TK]) * up_TK

    def store_kv(
        self,
        k_TJD: torch.Tensor,
        v_TJD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        slots_T: torch.Tensor,
    ) -> None:
        """Write the new keys and values at slot = block * S + offset; a cache of int8 has rows as kv_rows.py says."""
        if k_cache_BSJD.dtype == torch.int8:
            store_rows(k_TJD, k_cache_BSJD, slots_T)
            store_rows(v_TJD, v_cache_BSJD, slots_T)
            return
        k_cache_BSJD.flatten(0, 1)[slots_T] = k_TJD.to(k_cache_BSJD.dtype)
        v_cache_BSJD.flatten(0, 1)[slots_T] = v_TJD.to(v_cache_BSJD.dtype)

    def attention(
        self,
        q_THD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        sequences: Sequences,
        window: int | None,
    ) -> torch.Tensor:
        """Causal attention of each new token to its sequence's cache, itself included (already stored)."""
        out_THD = torch.empty_like(q_THD)
        for first_row, num_rows, start, block_table in sequences.each(k_cache_BSJD.shape[1]):
            k_BSJD, v_BSJD = k_cache_BSJD[block_table], v_cache_BSJD[block_table]
            if k_BSJD.dtype == torch.int8:
                k_BSJD, v_BSJD = (load_rows(rows_BSJR, q_THD.shape[-1]) for rows_BSJR in (k_BSJD, v_BSJD))
            k_LJD, v_LJD = (rows_BSJD.flatten(0, 1)[: start + num_rows] for rows_BSJD in (k_BSJD, v_BSJD))
            rows = slice(first_row, first_row + num_rows)
            out_THD[rows] = self._attend_sequence(q_THD[rows], k_LJD, v_LJD, start, window)
        return out_THD

    def _attend_sequence(
        self, q_RHD: torch.Tensor, k_LJD: torch.Tensor, v_LJD: torch.Tensor, start: int, window: int | None
    ) -> torch.Tensor:
        """All new rows of one sequence; row r stands at position start + r."""
        num_kv_heads = k_LJD.shape[1]
        k_JDL, v_JLD = k_LJD.float().permute(1, 2, 0), v_LJD.float().transpose(0, 1)
        q_RJGD = q_RHD.float().unflatten(1, (num_kv_heads, -1)) * q_RHD.shape[-1] ** -0.5
        rows = [
            self._attend_row(q_JGD, k_JDL, v_JLD, 0 if window is None else max(0, end - window), end)
            for end, q_JGD in enumerate(q_RJGD, start=start + 1)
        ]
        return torch.stack(rows).flatten(1, 2).to(q_RHD.dtype)

    def _attend_row(
        self, q_JGD: torch.Tensor, k_JDL: torch.Tensor, v_JLD: torch.Tensor, begin: int, end: int
    ) -> torch.Tensor:
        """One query against positions begin..end-1, chunk by chunk, with the running maximum and sum of flash attention
        (Dao et al. 2022, arXiv 2205.14135). Chunks lie at multiples of CHUNK whatever `begin` is."""
        out_JGD = top_JG1 = sum_JG1 = None
        for chunk in range(begin - begin % CHUNK, end, CHUNK):
            span = slice(max(chunk, begin), min(chunk + CHUNK, end))
            scores_JGC = torch.matmul(q_JGD, k_JDL[:, :, span])
            chunk_top_JG1 = scores_JGC.amax(-1, keepdim=True)
            new_top_JG1 = chunk_top_JG1 if top_JG1 is None else torch.maximum(top_JG1, chunk_top_JG1)
            weights_JGC = (scores_JGC - new_top_JG1).exp()
            chunk_sum_JG1, chunk_out_JGD = weights_JGC.sum(-1, keepdim=True), torch.matmul(weights_JGC, v_JLD[:, span])
            if out_JGD is None:
                out_JGD, sum_JG1 = chunk_out_JGD, chunk_sum_JG1
            else:
                kept_JG1 = (top_JG1 - new_top_JG1).exp()
                out_JGD, sum_JG1 = out_JGD * kept_JG1 + chunk_out_JGD, sum_JG1 * kept_JG1 + chunk_sum_JG1
            top_JG1 = new_top_JG1
        assert out_JGD is not None and sum_JG1 is not None
        return out_JGD / sum_JG1
