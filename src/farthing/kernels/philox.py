"""Philox4x32-10: random numbers as a pure function of (key, counter), in integer arithmetic, bit-equal everywhere.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (SC11); known answers from Random123.
A 64-bit product of two 32-bit values wraps in int64 without losing bits, so signed tensors do for unsigned arithmetic.
"""

import torch

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

Words = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def philox(counter: Words, key: tuple[torch.Tensor, torch.Tensor]) -> Words:
    """Four int64 tensors [R] of 32-bit words from four counter words and two key words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product_0, product_1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high_0, high_1 = (product_0 >> 32) & _MASK, (product_1 >> 32) & _MASK
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, product_1 & _MASK, high_0 ^ c3 ^ k1, product_0 & _MASK
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def uniform(seeds_R: torch.Tensor, token_indices_R: torch.Tensor, sample_indices_R: torch.Tensor) -> torch.Tensor:
    """One float64 in [0, 1) per row, of 53 random bits, from (request seed int64, token index, sample index)."""
    zero_R = torch.zeros_like(seeds_R)
    key = (seeds_R & _MASK, (seeds_R >> 32) & _MASK)
    high, low, _, _ = philox((token_indices_R, sample_indices_R, zero_R, zero_R), key)
    return ((high >> 5) * 2**26 + (low >> 6)).double() / 2**53
