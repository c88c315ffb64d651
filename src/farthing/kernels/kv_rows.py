"""Rows of an int8 KV cache: int8 codes and one fp32 scale for each row of a token and KV head.

Codes and scales lie in the one int8 tensor that a layer has for K, and another for V, of rows of D + 4 elements. A
block of it holds all its codes first, then all its scales, which may begin at any byte. native/src/kv_cache.h has an
order of its own within codes and scales.

Shapes: B blocks, S slots of a block, J KV heads, D head_dim, R = D + 4.
"""

import torch

_MAX_CODE = 127.0
_LEAST_SCALE = 2.0**-126  # smaller numbers have no finite inverse


def views(cache_BSJR: torch.Tensor, head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """codes_BSJD and scale_BSJ4, the four bytes of each scale; what is written to them is in the cache."""
    _, *block, row = cache_BSJR.shape
    assert row == head_dim + 4, "rows of codes and a scale"
    num_codes = block[0] * block[1] * head_dim
    cache_BX = cache_BSJR.flatten(1)
    return cache_BX[:, :num_codes].unflatten(1, (*block, head_dim)), cache_BX[:, num_codes:].unflatten(1, (*block, 4))


def round_rows(x_TJD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """codes_TJD, and scale_TJ so that the largest magnitude of a row becomes 127; NaN for a row that is not finite."""
    wide_TJD = x_TJD.float()
    top_TJ = wide_TJD.abs().amax(-1)
    scale_TJ = torch.where(top_TJ.isfinite(), top_TJ / _MAX_CODE, torch.nan)
    inverse_TJ = torch.where(scale_TJ < _LEAST_SCALE, 0.0, 1 / scale_TJ)
    codes_TJD = (wide_TJD * inverse_TJ[..., None]).nan_to_num(0.0).round().clamp(-_MAX_CODE, _MAX_CODE)
    return codes_TJD.to(torch.int8), scale_TJ


def store_rows(x_TJD: torch.Tensor, cache_BSJR: torch.Tensor, slots_T: torch.Tensor) -> None:
    """Round the rows and write them at slot = block * S + offset."""
    codes_BSJD, scale_BSJ4 = views(cache_BSJR, x_TJD.shape[-1])
    codes_TJD, scale_TJ = round_rows(x_TJD)
    block_size = cache_BSJR.shape[1]
    places = slots_T // block_size, slots_T % block_size
    codes_BSJD[places] = codes_TJD
    scale_BSJ4[places] = scale_TJ[..., None].view(torch.int8)


def load_rows(cache_BSJR: torch.Tensor, head_dim: int) -> torch.Tensor:
    """The rows in fp32, [B, S, J, D]."""
    codes_BSJD, scale_BSJ4 = views(cache_BSJR, head_dim)
    scale_BSJ1 = scale_BSJ4.clone(memory_format=torch.contiguous_format).view(torch.float32)  # now aligned
    return codes_BSJD.float().mul_(scale_BSJ1)
