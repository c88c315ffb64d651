"""What the sequences of a step want of their draws, as tensors on the device. Knows no logits; kernels draw."""

import struct
from collections.abc import Sequence

import torch

from farthing.kernels.wishes import Wishes
from farthing.runtime.int_buffer import IntBuffer
from farthing.runtime.sampler import RequestState

_IS_REAL = (True, False, True, True, False, False, False)
"""Of the fields of Wishes."""


class WishBuffers:
    """Room for `max_rows` rows of as many steps as may be on their way."""

    def __init__(self, max_rows: int, *, device: torch.device, depth: int) -> None:
        self._columns = [IntBuffer(max_rows, device=device, turns=depth) for _ in range(7)]
        self._depth, self._turn = depth, 0

    def fill(self, states: Sequence[RequestState], output_indices: Sequence[int], vocab_size: int) -> Wishes:
        """A row for each state; `output_indices` as in sampler.sample."""
        self._turn = (self._turn + 1) % self._depth
        params = [state.params for state in states]
        reals = iter(
            (
                [0.0 if each.greedy else each.temperature for each in params],
                [each.top_p for each in params],
                [each.min_p for each in params],
            )
        )
        numbers = iter(
            (
                [min(each.top_k or vocab_size, vocab_size) for each in params],
                [state.seed for state in states],
                output_indices,
                [state.sample_index for state in states],
            )
        )
        columns = []
        for buffer, is_real in zip(self._columns, _IS_REAL, strict=True):
            buffer.put(_bits(next(reals)) if is_real else next(numbers), turn=self._turn)
            column_R = buffer.tensor[: len(states)]
            columns.append(column_R.view(torch.float64) if is_real else column_R)
        return Wishes(*columns)


def _bits(values: Sequence[float]) -> tuple[int, ...]:
    """The bits of doubles, as integers."""
    return struct.unpack(f"{len(values)}q", struct.pack(f"{len(values)}d", *values))
