"""Kernels that draw as a device does, on the CPU: from tensors alone, whatever the host knows of the requests."""

import torch

from farthing.kernels.histories import NO_HISTORY, History
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.wishes import Wishes
from farthing.runtime.sampler import RequestState, RowError, sample
from farthing.sampling_params import SamplingParams


class DrawingKernels(ReferenceKernels):
    draws = True

    def __init__(self) -> None:
        self.slots: list[list[int]] = []  # of the rows of each draw

    def draw(
        self, logits_RV: torch.Tensor, wishes: Wishes, history: History | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows = range(len(logits_RV))
        self.slots.append([NO_HISTORY for _ in rows] if history is None else history.slots_R.tolist())
        logits = [adjusted(logits_RV[row], history, slot) for row, slot in zip(rows, self.slots[-1], strict=True)]
        tokens = [drawn(logits_V, wishes, row) for row, logits_V in enumerate(logits)]
        for slot, token in zip(self.slots[-1], tokens, strict=True):
            if history is not None and slot != NO_HISTORY:
                history.counts_SV[slot, token] += 1
        return torch.stack([logits_V.max() for logits_V in logits]), torch.tensor(tokens)


def adjusted(logits_V: torch.Tensor, history: History | None, slot: int) -> torch.Tensor:
    if history is None or slot == NO_HISTORY:
        return logits_V
    counts_V, repetition = history.counts_SV[slot], history.repetition_S[slot]
    penalized_V = torch.where(logits_V > 0, logits_V / repetition, logits_V * repetition)
    logits_V = torch.where((counts_V > 0) | (history.prompt_SV[slot] != 0), penalized_V, logits_V)
    penalty_V = history.frequency_S[slot] * counts_V + history.presence_S[slot]
    return torch.where(counts_V > 0, logits_V - penalty_V, logits_V) + history.bias_SV[slot]


def drawn(logits_V: torch.Tensor, wishes: Wishes, row: int) -> int:
    """0 where there is none."""
    params = SamplingParams(
        temperature=float(wishes.temperature_R[row]),
        top_k=int(wishes.top_k_R[row]),
        top_p=float(wishes.top_p_R[row]),
        min_p=float(wishes.min_p_R[row]),
    )
    seed, sample_index = int(wishes.seeds_R[row]), int(wishes.sample_indices_R[row])
    state = RequestState(params, seed=seed, sample_index=sample_index, prompt_ids=(), stop_ids=frozenset())
    (token,) = sample(logits_V[None], [state], [int(wishes.token_indices_R[row])])
    return 0 if isinstance(token, RowError) else token
