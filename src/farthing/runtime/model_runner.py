"""One rank at work: an Executor of scheduler/loop.py that computes a batch with the decoder and draws its tokens.

Owns the weights, the KV cache and the sampling state of each sequence. Knows no text and no queues.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from farthing.errors import RequestError
from farthing.kernels.reference import ReferenceKernels
from farthing.models.memory import MemoryPlan
from farthing.models.spec import ModelSpec
from farthing.runtime.decoder import Decoder
from farthing.runtime.device import Memory, use_device
from farthing.runtime.graph import Steps, capture
from farthing.runtime.inputs import InputBuffers, Limits
from farthing.runtime.kv_cache import KVCache
from farthing.runtime.landing import Landing
from farthing.runtime.sampler import RequestState, RowError, not_finite, sample, token_logprobs
from farthing.runtime.warming import warm
from farthing.runtime.wish_buffers import WishBuffers
from farthing.sampling_params import TokenLogprobs
from farthing.scheduler.batch import PENDING_TOKEN, Batch, BatchItem, Done


class ModelRunner:
    """Runs batches in this process, at most `depth` at a time: with two, the device never waits for the scheduler.

    A batch whose tokens the device draws by itself is on its way when `submit` returns; of another one `submit` waits.
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
        self._kernels = kernels
        self._wishes = WishBuffers(limits.max_sequences, device=memory.device, depth=depth)
        self.steps = self.captured(decoder, kernels, limits)
        if memory.device.type == "cuda" and kernels.skips_padding:
            warm(self.steps, self.buffers)
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

    @torch.inference_mode()
    def submit(self, batch: Batch) -> None:
        assert len(self.flights) < self.depth, "too many batches on their way"
        use_device(self.buffers.device)  # whoever steps the engine may be on another thread than the last time
        self.steps.prepare()
        inputs = self.buffers.fill(batch, self.prompts.keys())
        if self.flights:
            self._put_pending(batch)
        x_RH = self.steps.hidden(inputs)
        draw = self._start_drawing if self.depth > 1 and self._draws_on_device(batch) else self._draw
        self.flights.append(draw(batch, x_RH))

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

    def _draws_on_device(self, batch: Batch) -> bool:
        states = [self.states[item.seq_id] for item in batch.items if item.samples]
        return not self.prompts and all(
            state.is_plain and (state.params.greedy or self._kernels.draws) for state in states
        )

    def _start_drawing(self, batch: Batch, x_RH: torch.Tensor) -> "InFlight":
        """Nothing is waited for: the tokens are read when the batch is collected."""
        sampling = [item for item in batch.items if item.samples]
        if not sampling:
            return self._without_tokens(batch)
        seq_ids = [item.seq_id for item in sampling]
        states = [self.states[seq_id] for seq_id in seq_ids]
        logits_RV = self.steps.logits(x_RH)
        if all(state.params.greedy for state in states):
            top_R, token_R = self.steps.largest(logits_RV)
        else:
            wishes = self._wishes.fill(states, [item.output_index for item in sampling], logits_RV.shape[1])
            top_R, token_R = self._kernels.draw(logits_RV, wishes)
        landing = Landing(top_R, token_R)

        def land() -> Done:
            tops, tokens = landing.read()
            drawn: dict[int, int] = {}
            failed: dict[int, str] = {}
            for seq_id, top, token in zip(seq_ids, tops, tokens, strict=True):
                if math.isfinite(top):
                    drawn[seq_id] = int(token)
                else:
                    failed[seq_id] = not_finite(top).reason
            return Done(batch, drawn, time.monotonic(), failed)

        return InFlight(land, {seq_id: row for row, seq_id in enumerate(seq_ids)}, token_R)

    def _without_tokens(self, batch: Batch) -> "InFlight":
        """The device is waited for all the same: what it reads of the host must stay until it has."""
        landing = Landing(self.buffers.whole.token_ids_T[:1])

        def land() -> Done:
            landing.read()
            return Done(batch, {}, time.monotonic())

        return InFlight(land)

    def _draw(self, batch: Batch, x_RH: torch.Tensor) -> "InFlight":
        """The token of each sampling item, or why there is none, how many drafts are right before it, and its
        log-probabilities."""
        logprobs: dict[int, TokenLogprobs] = {}
        rows: list[int] = []  # of those in x_RH, what tokens are drawn from
        row = 0
        for item in batch.items:
            if item.seq_id in self.prompts:
                self._record_prompt(item, x_RH[row : row + len(item.token_ids)])
                row += len(item.token_ids)
            elif item.samples:
                row += 1 + item.num_drafts
            if item.samples:
                rows.extend(range(row - 1 - item.num_drafts, row))
        sampling = [item for item in batch.items if item.samples]
        states = [self.states[item.seq_id] for item in sampling]
        if not sampling:
            return self._without_tokens(batch)
        logits_RV = self.steps.logits(x_RH if len(rows) == len(x_RH) else x_RH[rows])
        largest_R = self.steps.largest(logits_RV)
        firsts = list(accumulate((1 + item.num_drafts for item in sampling[:-1]), initial=0))
        first_RV = logits_RV
        if len(firsts) < len(rows):
            first_RV, largest_R = logits_RV[firsts], (largest_R[0][firsts], largest_R[1][firsts])
        tokens = sample(first_RV, states, [item.output_index for item in sampling], largest_R)
        drawn: dict[int, int] = {}
        failed: dict[int, str] = {}
        num_accepted: dict[int, int] = {}
        for item, state, row, token in zip(sampling, states, firsts, tokens, strict=True):
            if isinstance(token, RowError):
                failed[item.seq_id] = token.reason
                continue
            try:
                state.saw(token)
            except RequestError as error:
                failed[item.seq_id] = str(error)
                continue
            drawn[item.seq_id] = token
            if state.params.logprobs is not None:
                logprobs[item.seq_id] = token_logprobs(logits_RV[row], token, state.params.logprobs)
            if item.num_drafts:
                *_, drawn[item.seq_id] = tokens_after = _verify(item, state, logits_RV[row:], token)
                num_accepted[item.seq_id] = len(tokens_after) - 1
        done = Done(batch, drawn, time.monotonic(), failed, num_accepted)
        flight = InFlight(lambda: done, logprobs=logprobs)
        if self.depth > 1:
            flight.row_of = {item.seq_id: row for row, item in enumerate(sampling)}
            known = [drawn.get(item.seq_id, 0) for item in sampling]  # of one that failed, what follows is dropped
            flight.token_R = torch.tensor(known, device=self.buffers.device)
        return flight

    def _record_prompt(self, item: BatchItem, x_RH: torch.Tensor) -> None:
        """The row at position p tells of the prompt's token p + 1; each counts once, whatever is computed again."""
        prompt, num_top = self.prompts[item.seq_id], self.states[item.seq_id].params.prompt_logprobs
        for position, x_H in enumerate(x_RH, start=item.start + 1):
            if position == len(prompt.logprobs) + 1 and position < len(prompt.ids):
                logits_V = self.steps.logits(x_H[None])[0]  # row by row: a whole prompt's logits are gigabytes
                prompt.logprobs.append(token_logprobs(logits_V, prompt.ids[position], num_top or 0))


def _verify(item: BatchItem, state: RequestState, logits_RV: torch.Tensor, token: int) -> list[int]:
    """The tokens that an item yields, `token` being drawn from the first of its rows: while a draft is the token drawn
    before it, its row is what would be computed next, and another one is drawn. A row without a token only ends this:
    the next step computes it again, and fails."""
    tokens = [token]
    for index, draft in enumerate(item.token_ids[-item.num_drafts :], start=1):
        if draft != tokens[-1]:
            break
        (drawn,) = sample(logits_RV[index : index + 1], [state], [item.output_index + index])
        if isinstance(drawn, RowError):
            break
        state.saw(drawn)
        tokens.append(drawn)
    return tokens


@dataclass(slots=True)
class InFlight:
    """A batch on its way. `land` waits for it; `token_R` are its tokens on the device, by sequence at `row_of`."""

    land: Callable[[], Done]
    row_of: Mapping[int, int] = field(default_factory=dict)
    token_R: torch.Tensor | None = None
    logprobs: Mapping[int, TokenLogprobs] = field(default_factory=dict)


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
