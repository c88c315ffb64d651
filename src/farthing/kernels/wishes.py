"""What requests want of a draw, a row each, as a device reads it. Knows no logits and no requests."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Wishes:
    """Of each row: temperature (fp64; 0 is greedy), top_k (int64; the vocabulary for all), top_p (fp64; 1 for all),
    min_p (fp64), and what its random number is a function of (int64 each)."""

    temperature_R: torch.Tensor
    top_k_R: torch.Tensor
    top_p_R: torch.Tensor
    min_p_R: torch.Tensor
    seeds_R: torch.Tensor
    token_indices_R: torch.Tensor
    sample_indices_R: torch.Tensor
