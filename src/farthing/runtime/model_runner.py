"""One rank at work: an Executor of scheduler/loop.py that computes a batch with the decoder and draws its tokens.

Owns the weights, the KV cache and the sampling state of each sequence. Knows no text and no queues.
"""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from farthing.kernels.reference import ReferenceKernels
from farthing.models.memory import MemoryPlan
from farthing.models.spec import ModelSpec
from farthing.runtime.decoder import Decoder
from farthing.runtime.device import Memory, use_device
from farthing.runtime.drawing import Drawing, InFlight, draw
from farthing.runtime.graph import Steps, capture
from farthing.runtime.inputs import InputBuffers, Limits
from farthing.runtime.kv_cache import KVCache
from farthing.runtime.landing import Landing
from farthing.runtime.sampler import RequestState, token_logprobs
from farthing.runtime.warming import warm
from farthing.sampling_params import TokenLogprobs
from farthing.scheduler.batch import PENDING_TOKEN, Batch, BatchItem, Done


class ModelRunner:
    """Runs batches in this process, at most `depth` at a time: with two, the device never waits for the scheduler.

    With several, a batch is on its way when `submit` returns, and its tokens are drawn on the device; if some are up to
    the host, the next `submit` waits for it.
    """

    def __init__(
        self,
        spec: ModelSpec,
        plan: MemoryPlan,
        tensors: Mapping[str, torch.Tensor],
        frequencies: torch.Tensor,
        kernels: ReferenceKernels,
        memory: Memory,
        limits: Limits,
        *,
        depth: int = 1,
    ) -> None:
        self.depth = depth
        cache = KVCache(spec, num_blocks=plan.num_blocks, block_size=plan.block_size, memory=memory)
        _assert_as_planned(memory, plan)
        decoder = Decoder(spec, tensors, kernels, cache, frequencies)
        self.block_size = plan.block_size
        self.buffers = InputBuffers(limits, block_size=plan.block_size, device=memory.device, depth=depth)
        self._drawing: Drawing | None = None
        if depth > 1:
            rows, device = limits.max_sequences, memory.device
            self._drawing = Drawing(kernels, rows, spec.vocab_size, device=device, depth=depth)
        self.steps = self.captured(decoder, kernels, limits)
        if memory.device.type == "cuda" and kernels.skips_padding:
            warm(self.steps, self.buffers)
            if self._drawing is not None:
                self._drawing.warm(torch.zeros((1, spec.vocab_size), device=memory.device))
        memory.take()
        self.states: dict[int, RequestState] = {}
        self.prompts: dict[int, _PromptLogprobs] = {}
        self.logprobs: Mapping[int, TokenLogprobs] = {}  # of the batch collected last, by sequence
        self.flights: deque[InFlight] = deque()

    def captured(self, decoder: Decoder, kernels: ReferenceKernels, limits: Limits) -> Steps:
        """What computes a step: recorded, where the kernels can be. A runner for a comparison may do without."""
        return capture(decoder, kernels, self.buffers, max_logits=limits.max_sequences)

    @property
    def in_flight(self) -> int:
        return len(self.flights)

    def add(self, seq_id: int, state: RequestState, prompt_ids: Sequence[int]) -> None:
        """Before the sequence is first scheduled."""
        self.states[seq_id] = state
        if state.params.prompt_logprobs is not None:
            self.prompts[seq_id] = _PromptLogprobs(prompt_ids)

    def prompt_logprobs(self, seq_id: int) -> Sequence[TokenLogprobs]:
        """Of the prompt's tokens from the second on, as far as they are computed; () if not asked for."""
        return self.prompts[seq_id].logprobs if seq_id in self.prompts else ()

    def remove(self, seq_id: int) -> None:
        """When the sequence has ended; unknown ids are ignored."""
        self.states.pop(seq_id, None)
        self.prompts.pop(seq_id, None)
        if self._drawing is not None:
            self._drawing.remove(seq_id)

    @torch.inference_mode()
    def submit(self, batch: Batch) -> None:
        assert len(self.flights) < self.depth, "too many batches on their way"
        use_device(self.buffers.device)  # whoever steps the engine may be on another thread than the last time
        if any(flight.needs_host for flight in self.flights):
            for flight in self.flights:
                flight.land()
        self.steps.prepare()
        inputs = self.buffers.fill(batch, self.prompts.keys())
        if self.flights:
            self._put_pending(batch)
        x_RH = self.steps.hidden(inputs)
        self.flights.append(self._draw(batch, x_RH))

    def collect(self) -> Done:
        flight = self.flights.popleft()
        done, self.logprobs = flight.land(), flight.logprobs
        return done

    def _put_pending(self, batch: Batch) -> None:
        """The tokens that the scheduler does not know yet, from the batch before."""
        newest = self.flights[-1]
        rows: list[int] = []
        sources: list[int] = []
        row = 0
        for item in batch.items:
            if item.token_ids[0] == PENDING_TOKEN:
                rows.append(row)
                sources.append(newest.row_of[item.seq_id])
            row += len(item.token_ids)
        if rows:
            assert newest.token_R is not None
            self.buffers.put_pending(rows, sources, newest.token_R)

    def _without_tokens(self, batch: Batch) -> InFlight:
        """The device is waited for all the same: what it reads of the host must stay until it has."""
        landing = Landing(self.buffers.whole.token_ids_T[:1])

        def land() -> Done:
            landing.read()
            return Done(batch, {}, time.monotonic())

        return InFlight(land)

    def _draw(self, batch: Batch, x_RH: torch.Tensor) -> InFlight:
        """The tokens of the sampling items; `x_RH` as `hidden` returned it. With one batch at a time they are there at
        once."""
        if self.prompts:
            x_RH = self._record_prompts(batch, x_RH)
        states = [self.states[item.seq_id] for item in batch.items if item.samples]
        if not states:
            return self._without_tokens(batch)
        logits_RV = self.steps.logits(x_RH)
        if self._drawing is None:
            return draw(self.steps, batch, states, logits_RV)
        return self._drawing.start(self.steps, batch, states, logits_RV)

    def _record_prompts(self, batch: Batch, x_RH: torch.Tensor) -> torch.Tensor:
        """Of prompts whose log-probabilities were asked for all rows are there. The rows that tokens are drawn from."""
        rows: list[int] = []
        row = 0
        for item in batch.items:
            if item.seq_id in self.prompts:
                self._record_prompt(item, x_RH[row : row + len(item.token_ids)])
                row += len(item.token_ids)
            elif item.samples:
                row += 1 + item.num_drafts
            if item.samples:
                rows.extend(range(row - 1 - item.num_drafts, row))
        return x_RH if len(rows) == len(x_RH) else x_RH[rows]

    def _record_prompt(self, item: BatchItem, x_RH: torch.Tensor) -> None:
        """The row at position p tells of the prompt's token p + 1; each counts once, whatever is computed again."""
        prompt, num_top = self.prompts[item.seq_id], self.states[item.seq_id].params.prompt_logprobs
        for position, x_H in enumerate(x_RH, start=item.start + 1):
            if position == len(prompt.logprobs) + 1 and position < len(prompt.ids):
                logits_V = self.steps.logits(x_H[None])[0]  # row by row: a whole prompt's logits are gigabytes
                prompt.logprobs.append(token_logprobs(logits_V, prompt.ids[position], num_top or 0))


@dataclass(slots=True)
class _PromptLogprobs:
    """A prompt whose log-probabilities were asked for, and those of its tokens from the second on."""

    ids: Sequence[int]
    logprobs: list[TokenLogprobs] = field(default_factory=list)


def _assert_as_planned(memory: Memory, plan: MemoryPlan) -> None:
    """Law 3: what was allocated is what the plan said, to the byte."""
    taken = memory.bytes_by_use
    assert taken.get("weights", 0) == plan.weights_bytes, (taken, plan)
    assert taken.get("kv", 0) == plan.kv_bytes, (taken, plan)
