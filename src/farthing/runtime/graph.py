"""Capture once, replay: a decoder's step over fixed buffers, as a tape of kernel calls or as graphs of the device.

The only file that knows capture. On a CPU a step of any size within the limits replays the same tape: the numbers of
tokens, sequences and logit rows stand in buffers, too. On a GPU a step of decodes replays the graph of the next larger
number of sequences, and those behind the batch compute nothing; steps with prompts, which are long, go call by call.
Backends that can do neither run the decoder itself. Shapes as in decoder.py.
"""

import ctypes
from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch

from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.native.timing import by_method
from farthing.kernels.reference import ReferenceKernels
from farthing.models.graph_memory import bucket_sizes
from farthing.runtime.decoder import Decoder
from farthing.runtime.inputs import InputBuffers, StepInputs

_Pool = tuple[int, int]  # memory that graphs share


class Steps(Protocol):
    """What computes a step. What a method returned is good until it is called again."""

    def prepare(self) -> None:
        """A step is about to come."""
        ...

    def hidden(self, inputs: StepInputs) -> torch.Tensor:
        """The normed last hidden states x_RH of the logit rows."""
        ...

    def logits(self, x_RH: torch.Tensor) -> torch.Tensor:
        """logits_RV of rows of `hidden`, in fp32."""
        ...

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The largest of each row of what `logits` returned last, and the lowest id that has it."""
        ...


def capture(decoder: Decoder, kernels: ReferenceKernels, buffers: InputBuffers, *, max_logits: int) -> Steps:
    """The inputs of its `hidden` must lie in `buffers`."""
    if isinstance(kernels, NativeKernels):
        return TapedDecoder(decoder, kernels, buffers, max_logits)
    if buffers.device.type == "cuda" and kernels.skips_padding:
        return GraphedDecoder(decoder, kernels, buffers, max_logits)
    return EagerDecoder(decoder, kernels)


class EagerDecoder:
    """The decoder as it is, call by call."""

    def __init__(self, decoder: Decoder, kernels: ReferenceKernels) -> None:
        self.hidden, self.logits, self.largest = decoder.hidden, decoder.logits, kernels.largest

    def prepare(self) -> None:
        pass


def timed(steps: Steps) -> list[tuple[str, float]] | None:
    """The last step again, part by part: the kernels' method that a part was recorded for, and seconds. None where
    steps are not recorded."""
    return steps.timed() if isinstance(steps, TapedDecoder) else None


class TapedDecoder:
    """Three tapes: to the hidden states of the rows that yield logits, from rows of these to logits, and to the largest
    of these."""

    def __init__(self, decoder: Decoder, kernels: NativeKernels, buffers: InputBuffers, max_logits: int) -> None:
        self._counts = (ctypes.c_int64 * 4)()  # of tokens, sequences, logit rows of the step, rows of logits
        tokens, sequences, rows, logits = (ctypes.addressof(self._counts) + 8 * index for index in range(4))
        self.prepare = kernels.wake
        whole = buffers.whole
        self._first_input = whole.token_ids_T.data_ptr()
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
        logits_RV = self._logits.outputs[0]
        recorder = kernels.recorder()
        recorder.count(logits_RV, logits)
        with kernels.recording(recorder):
            top_R, token_R = kernels.largest(logits_RV)
        self._largest = recorder.finish(top_R, token_R)

    def hidden(self, inputs: StepInputs) -> torch.Tensor:
        assert inputs.token_ids_T.data_ptr() == self._first_input, "a tape reads the buffers it was recorded over"
        num_rows = len(inputs.logit_rows)
        self._counts[:3] = len(inputs.token_ids_T), len(inputs.sequences.starts_S), num_rows
        self._hidden.run()
        return self._hidden.outputs[0][:num_rows]

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
        num_rows = self._counts[3] = len(x_RH)
        self._x_RH[:num_rows].copy_(x_RH)
        self._logits.run()
        return self._logits.outputs[0][:num_rows]

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._largest.run()
        num_rows = len(logits_RV)
        top_R, token_R = self._largest.outputs
        return top_R[:num_rows], token_R[:num_rows]


class GraphedDecoder:
    """A CUDA graph for each bucket of decodes: hidden states, logits and the largest of them in one replay.

    `taken_bytes`: of the device, by all of them; the memory plan says it beforehand.
    """

    def __init__(self, decoder: Decoder, kernels: ReferenceKernels, buffers: InputBuffers, max_logits: int) -> None:
        self._eager = EagerDecoder(decoder, kernels)
        self.prepare = self._eager.prepare
        self._first_input = buffers.whole.token_ids_T.data_ptr()
        self._sizes = bucket_sizes(max_logits)
        self._replayed: _Graph | None = None  # what computed the step that is at hand
        self._graphs: dict[int, _Graph] = {}
        free_bytes, _ = torch.cuda.mem_get_info(buffers.device)
        largest: _Graph | None = None
        for size in reversed(self._sizes):  # the largest first: the others fit in its memory
            graph = self._graphs[size] = _Graph(self._eager, buffers.first(size, size, size), largest)
            largest = largest or graph
        self.taken_bytes = free_bytes - torch.cuda.mem_get_info(buffers.device)[0]

    def hidden(self, inputs: StepInputs) -> torch.Tensor:
        assert inputs.token_ids_T.data_ptr() == self._first_input, "a graph reads the buffers it was captured over"
        num_rows = len(inputs.logit_rows)
        self._replayed = None
        if num_rows == len(inputs.token_ids_T) == len(inputs.sequences.starts_S) <= self._sizes[-1]:
            self._replayed = self._graphs[self._sizes[bisect_left(self._sizes, num_rows)]]
            self._replayed.graph.replay()
            return self._replayed.x_RH[:num_rows]
        return self._eager.hidden(inputs)

    def logits(self, x_RH: torch.Tensor) -> torch.Tensor:
        if self._replayed is not None and x_RH.data_ptr() == self._replayed.x_RH.data_ptr():
            return self._replayed.logits_RV[: len(x_RH)]
        self._replayed = None
        return self._eager.logits(x_RH)

    def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._replayed is None:
            return self._eager.largest(logits_RV)
        return self._replayed.top_R[: len(logits_RV)], self._replayed.token_R[: len(logits_RV)]


def captured(run: Callable[[], None], pool: _Pool | None = None) -> torch.cuda.CUDAGraph:
    """What `run` starts on the current GPU, to be replayed. It runs once before, which compiles what has to be."""
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # others may ask what memory is free
        run()
    return graph


class _Graph:
    """The decoder's step over these inputs, captured. Its results are the first rows of the largest graph's, so that
    logits, the largest of all, take memory once."""

    def __init__(self, steps: EagerDecoder, inputs: StepInputs, largest: "_Graph | None") -> None:
        pool = None if largest is None else largest.graph.pool()
        self.graph = captured(partial(self._compute, steps, inputs, largest), pool)

    def _compute(self, steps: EagerDecoder, inputs: StepInputs, largest: "_Graph | None") -> None:
        x_RH = steps.hidden(inputs)
        logits_RV = steps.logits(x_RH)
        top_R, token_R = steps.largest(logits_RV)
        if largest is not None:
            x_RH, logits_RV = _kept(x_RH, largest.x_RH), _kept(logits_RV, largest.logits_RV)
            top_R, token_R = _kept(top_R, largest.top_R), _kept(token_R, largest.token_R)
        self.x_RH, self.logits_RV, self.top_R, self.token_R = x_RH, logits_RV, top_R, token_R


def _kept(result: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """The result in the first rows of `whole`."""
    return whole[: len(result)].copy_(result)
