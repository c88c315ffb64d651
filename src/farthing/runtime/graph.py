"""Capture once, replay: a decoder's step recorded as a tape of kernel calls over fixed buffers.

The only file that knows capture. A step of any size within the limits replays the same tape: the numbers of tokens,
sequences and logit rows stand in buffers, too. Backends that can't record run the decoder itself. Shapes as in
decoder.py.
"""

from typing import Protocol

import torch

from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.native.timing import by_method
from farthing.kernels.reference import ReferenceKernels
from farthing.runtime.decoder import Decoder
from farthing.runtime.inputs import InputBuffers, StepInputs


class Steps(Protocol):
    """What computes a step: the decoder, or a recording of it. What `hidden` returned is good until it is called
    again, and so with `logits`."""

    def hidden(self, inputs: StepInputs) -> torch.Tensor: ...

    def logits(self, x_RH: torch.Tensor) -> torch.Tensor: ...


def capture(decoder: Decoder, kernels: ReferenceKernels, buffers: InputBuffers, *, max_logits: int) -> Steps:
    """`inputs` of the result must lie in `buffers`."""
    return TapedDecoder(decoder, kernels, buffers, max_logits) if isinstance(kernels, NativeKernels) else decoder


def timed(steps: Steps) -> list[tuple[str, float]] | None:
    """The last step again, part by part: the kernels' method that a part was recorded for, and seconds. None where
    steps are not recorded."""
    return steps.timed() if isinstance(steps, TapedDecoder) else None


class TapedDecoder:
    """Two tapes: to the hidden states of the rows that yield logits, and from rows of these to logits."""

    def __init__(self, decoder: Decoder, kernels: NativeKernels, buffers: InputBuffers, max_logits: int) -> None:
        self._counts = torch.zeros(4, dtype=torch.int64)
        tokens, sequences, rows, logits = (self._counts[index].data_ptr() for index in range(4))
        whole = buffers.whole
        recorder = kernels.recorder()
        for tensor in (whole.token_ids_T, whole.positions_T, whole.slots_T):
            recorder.count(tensor, tokens)
        recorder.count(whole.sequences.starts_S, sequences)
        recorder.count(whole.logit_rows, rows)
        with kernels.recording(recorder):
            x_RH = decoder.hidden(whole)
        self._hidden = recorder.finish(x_RH)
        self._x_RH = torch.empty((max_logits, x_RH.shape[1]), dtype=x_RH.dtype)
        recorder = kernels.recorder()
        recorder.count(self._x_RH, logits)
        with kernels.recording(recorder):
            logits_RV = decoder.logits(self._x_RH)
        self._logits = recorder.finish(logits_RV)

    def hidden(self, inputs: StepInputs) -> torch.Tensor:
        num_rows = inputs.logit_rows.shape[0]
        self._counts[0], self._counts[1] = inputs.token_ids_T.shape[0], inputs.sequences.starts_S.shape[0]
        self._counts[2] = num_rows
        self._hidden.run()
        return self._hidden.output[:num_rows]

    def timed(self) -> list[tuple[str, float]]:
        """As the function says."""
        return by_method([*self._hidden.timed(), *self._logits.timed()])

    @property
    def arena_bytes(self) -> int:
        """Of all that lives within a step; the memory plan calls them activations."""
        return self._hidden.arena.numel() + self._logits.arena.numel()

    @property
    def num_calls(self) -> int:
        return self._hidden.num_calls + self._logits.num_calls

    def logits(self, x_RH: torch.Tensor) -> torch.Tensor:
        num_rows = x_RH.shape[0]
        self._x_RH[:num_rows].copy_(x_RH)
        self._counts[3] = num_rows
        self._logits.run()
        return self._logits.output[:num_rows]
