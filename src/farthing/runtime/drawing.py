"""From the logits of a step to its tokens: which rows the device draws and which the host, and what came of them.

The device draws the largest, and with kernels that can any other wish, too, penalties, bias and min_tokens included.
The host's sampler draws where it must look at tokens one by one: for grammars, log-probabilities and drafts, and where
the device has no room for a history. A row is drawn by the one or the other; where they meet in a batch, the device is
waited for once. Knows no scheduling and no decoder. Shapes: R rows that yield tokens, V vocabulary.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch

from farthing.errors import RequestError
from farthing.kernels.histories import NO_HISTORY
from farthing.kernels.reference import ReferenceKernels
from farthing.runtime.graph import Steps
from farthing.runtime.histories import Histories
from farthing.runtime.landing import Landing
from farthing.runtime.sampler import NOTHING_LEFT, RequestState, RowError, not_finite, sample, token_logprobs
from farthing.runtime.wish_buffers import WishBuffers
from farthing.sampling_params import SamplingParams, TokenLogprobs
from farthing.scheduler.batch import Batch, BatchItem, Done

Largest = tuple[torch.Tensor, torch.Tensor]
"""The largest value of each row, and its token."""


@dataclass(slots=True)
class InFlight:
    """A batch on its way. `finish` waits for it; `token_R` are its tokens on the device, by sequence at `row_of`.

    `needs_host`: some of its tokens are drawn when it lands, from logits that the next step overwrites; `token_R` has
    them from then on. `logprobs`, by sequence, are there when it has landed.
    """

    finish: Callable[[], Done]
    row_of: Mapping[int, int] = field(default_factory=dict)
    token_R: torch.Tensor | None = None
    logprobs: Mapping[int, TokenLogprobs] = field(default_factory=dict)
    needs_host: bool = False
    _done: Done | None = None

    def land(self) -> Done:
        """What came of it; the first time it is waited for."""
        if self._done is None:
            self._done = self.finish()
        return self._done


@dataclass(slots=True)
class Drawn:
    """What came of the rows of a batch, by sequence: the fields of Done, and log-probabilities."""

    token_ids: dict[int, int] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    num_accepted: dict[int, int] = field(default_factory=dict)
    logprobs: dict[int, TokenLogprobs] = field(default_factory=dict)

    def done(self, batch: Batch) -> Done:
        return Done(batch, self.token_ids, time.monotonic(), self.failed, self.num_accepted)

    def take(self, seq_id: int, state: RequestState, token: int | RowError) -> None:
        """The token of a sequence, or why there is none."""
        if isinstance(token, RowError):
            self.failed[seq_id] = token.reason
            return
        try:
            state.saw(token)
        except RequestError as error:
            self.failed[seq_id] = str(error)
            return
        self.token_ids[seq_id] = token

    def sample(
        self,
        items: Sequence[BatchItem],
        states: Sequence[RequestState],
        rows: Sequence[int],
        logits_RV: torch.Tensor,
        largest_R: Largest,
    ) -> None:
        """The host draws from the row of each item, and from those of its drafts behind it while these are right."""
        first_RV = logits_RV
        if len(rows) < len(logits_RV):
            first_RV, largest_R = logits_RV[rows], (largest_R[0][rows], largest_R[1][rows])
        tokens = sample(first_RV, states, [item.output_index for item in items], largest_R)
        for item, state, row, token in zip(items, states, rows, tokens, strict=True):
            self.take(item.seq_id, state, token)
            first = self.token_ids.get(item.seq_id)
            if first is None:
                continue
            if state.params.logprobs is not None:
                self.logprobs[item.seq_id] = token_logprobs(logits_RV[row], first, state.params.logprobs)
            if item.num_drafts:
                *_, self.token_ids[item.seq_id] = verified = _verify(item, state, logits_RV[row:], first)
                self.num_accepted[item.seq_id] = len(verified) - 1


def draw(steps: Steps, batch: Batch, states: Sequence[RequestState], logits_RV: torch.Tensor) -> InFlight:
    """By the host, at once. `states` of the batch's sampling items; behind the row of an item stand its drafts'."""
    items = [item for item in batch.items if item.samples]
    rows = list(accumulate((1 + item.num_drafts for item in items[:-1]), initial=0))
    drawn = Drawn()
    drawn.sample(items, states, rows, logits_RV, steps.largest(logits_RV))
    done = drawn.done(batch)
    return InFlight(lambda: done, logprobs=drawn.logprobs)


class Drawing:
    """For a runner with several batches on their way: the device draws what it can, and is not waited for."""

    def __init__(
        self, kernels: ReferenceKernels, max_rows: int, vocab_size: int, *, device: torch.device, depth: int
    ) -> None:
        self._kernels = kernels
        self._wishes = WishBuffers(max_rows, device=device, depth=depth)
        self._histories = Histories(max_rows, vocab_size, device=device, depth=depth) if kernels.draws else None

    def warm(self, logits_1V: torch.Tensor) -> None:
        """Draw a token that nobody wants, so that what draws is compiled before the first request."""
        if self._histories is not None:
            nobody = RequestState(
                SamplingParams(temperature=1.0), seed=0, sample_index=0, prompt_ids=(), stop_ids=frozenset()
            )
            wishes = self._wishes.fill([nobody], [0], logits_1V.shape[1])
            for history in (None, self._histories.of([NO_HISTORY])):
                self._kernels.draw(logits_1V, wishes, history)

    def remove(self, seq_id: int) -> None:
        """When the sequence has ended; unknown ids are ignored."""
        if self._histories is not None:
            self._histories.free(seq_id)

    def start(self, steps: Steps, batch: Batch, states: Sequence[RequestState], logits_RV: torch.Tensor) -> InFlight:
        """As `draw` says, without drafts. What is up to the host is drawn when the batch lands: before the next step is
        computed, and after the batches before it have landed."""
        items = [item for item in batch.items if item.samples]
        slots = [self._slot(item, state) for item, state in zip(items, states, strict=True)]
        by_host = [row for row, slot in enumerate(slots) if slot is None]
        largest_R, drawn_R = self._draw(steps, items, states, slots, logits_RV)
        token_R = drawn_R[1]
        landing = Landing(*largest_R) if drawn_R is largest_R else Landing(*largest_R, *drawn_R)
        drawn = Drawn()

        def finish() -> Done:
            read = landing.read()
            for row, (item, state, slot) in enumerate(zip(items, states, slots, strict=True)):
                if slot is not None:
                    drawn.take(item.seq_id, state, _verdict(read[0][row], read[-2][row], read[-1][row]))
            if by_host:
                with torch.inference_mode():
                    hosts, known = [items[row] for row in by_host], (torch.tensor(read[0]), torch.tensor(read[1]))
                    drawn.sample(hosts, [states[row] for row in by_host], by_host, logits_RV, known)
                    tokens = [drawn.token_ids.get(item.seq_id, 0) for item in hosts]  # one that failed goes no further
                    token_R[by_host] = torch.tensor(tokens, device=token_R.device)
            return drawn.done(batch)

        row_of = {item.seq_id: row for row, item in enumerate(items)}
        return InFlight(finish, row_of, token_R, drawn.logprobs, needs_host=bool(by_host))

    def _slot(self, item: BatchItem, state: RequestState) -> int | None:
        """Where the device finds the history of a row that it draws, or NO_HISTORY; None if the host draws it."""
        assert not item.num_drafts, "what comes after a token in flight can't be guessed"
        if state.constraint is not None or state.params.logprobs is not None:
            return None
        if not state.adjusts(item.output_index):
            return NO_HISTORY if state.params.greedy or self._kernels.draws else None
        return None if self._histories is None else self._histories.slot(item.seq_id, state, item.output_index)

    def _draw(
        self,
        steps: Steps,
        items: Sequence[BatchItem],
        states: Sequence[RequestState],
        slots: Sequence[int | None],
        logits_RV: torch.Tensor,
    ) -> tuple[Largest, Largest]:
        """The largest of each row as the model has it, which the host and the reasons of failures want to know, and
        what the device draws, with the largest that it draws from; both the same where they need not differ."""
        adjusts = any(slot is not None and slot != NO_HISTORY for slot in slots)
        if not adjusts and all(slot is None or state.params.greedy for state, slot in zip(states, slots, strict=True)):
            largest_R = steps.largest(logits_RV)
            return largest_R, largest_R
        history = None
        if adjusts and self._histories is not None:
            history = self._histories.of([NO_HISTORY if slot is None else slot for slot in slots])
        wishes = self._wishes.fill(states, [item.output_index for item in items], logits_RV.shape[1])
        drawn_R = self._kernels.draw(logits_RV, wishes, history)
        largest_R = steps.largest(logits_RV) if adjusts or None in slots else drawn_R
        return largest_R, drawn_R


def _verdict(top: float, adjusted_top: float, token: float) -> int | RowError:
    """On a token of the device: it means nothing where the largest, before or after penalties, is not finite."""
    if not math.isfinite(top):
        return not_finite(top)
    return int(token) if math.isfinite(adjusted_top) else NOTHING_LEFT


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
