"""The layout of 4-bit weights that these kernels read: the first half of a group's columns in the low halves of its
bytes, the second half in the high ones, so that the activations that one byte meets lie side by side in each half.

A group's bytes stay its own, so a matrix is laid out anew in its own memory. Knows no kernel.
Shapes: N rows, B bytes of a row, G groups, b bytes of a group.
"""

import torch

from farthing.kernels.weight import Weight

LAYOUT = "halves"
_PIECE_BYTES = 2**26  # of a matrix, laid out anew at a time


def to_halves(weight: Weight) -> None:
    """In place, from the layout of kernels/weight.py: the even column in the low half."""
    for codes_NGb in _groups(weight):
        codes_NGc = torch.stack((codes_NGb & 15, codes_NGb >> 4), -1).flatten(-2)
        first_NGb, second_NGb = codes_NGc.chunk(2, -1)
        codes_NGb.copy_(first_NGb | (second_NGb << 4))


def to_pairs(weight: Weight) -> None:
    """In place, back."""
    for codes_NGb in _groups(weight):
        codes_NGc = torch.cat((codes_NGb & 15, codes_NGb >> 4), -1)
        codes_NGb.copy_(codes_NGc[..., 0::2] | (codes_NGc[..., 1::2] << 4))


def _groups(weight: Weight) -> list[torch.Tensor]:
    """Views of the codes: pieces of the whole groups, then of what is left at the end of the rows."""
    codes_NB, group_bytes = weight.codes, (weight.format.group_size or 0) // 2
    whole = codes_NB.shape[1] // group_bytes * group_bytes
    rows = max(1, _PIECE_BYTES // max(codes_NB.shape[1], 1))
    pieces = codes_NB.split(rows)
    grouped = [piece[:, :whole].unflatten(1, (-1, group_bytes)) for piece in pieces] if whole else []
    return grouped + [piece[:, None, whole:] for piece in pieces if whole < codes_NB.shape[1]]
