"""Rows that a matrix multiplies: as they are, or in 8 bits, for formats that multiply them so.

Shapes: T rows, K columns.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Rounded:
    """`codes_TK`, int8 or e4m3, times `scale_T` (fp32) are the activations; `dtype`: what they were before."""

    codes_TK: torch.Tensor
    scale_T: torch.Tensor
    dtype: torch.dtype


Activations = torch.Tensor | Rounded
"""What a backend's own norms and products hand to its `linear`."""
