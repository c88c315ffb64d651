"""From logits to tokens: penalties, bias, constraint, temperature, top-k, top-p, min-p, one draw; log-probabilities.

Every row is worked on by itself, so a token never depends on its batch; the random number of a row is a pure function
of (request seed, sample, token index). A row that can't be drawn from becomes a RowError and leaves the others alone.
Knows requests by id; knows no text and no scheduling.

The order is that of Hugging Face's generation: penalties, bias and masks, temperature, top-k, top-p, min-p.
Sources: nucleus sampling Holtzman et al. 2019 (arXiv 1904.09751), min-p Nguyen et al. 2024 (arXiv 2407.01082).

Shapes: R rows, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from farthing.errors import RequestError
from farthing.kernels.philox import uniform
from farthing.sampling_params import SamplingParams, TokenLogprobs

LEANING_START = 0.3
"""Share of the room for an answer that passes before its constraint leans towards the end."""
LEANING_LOGITS = 50.0
"""What leaning adds and takes when all the room is gone: it rises from 0 to this in a straight line."""

_NEVER = float("-inf")


class Constraint(Protocol):
    """Which tokens may come next in one sequence. RequestError where it can't tell any more.

    `end_ids`: the tokens that end the sequence; they are allowed where the text may end, alone where it must.
    """

    @property
    def end_ids(self) -> torch.Tensor: ...

    def allowed(self) -> torch.Tensor:
        """bool [V], on the CPU."""
        ...

    def leanings(self) -> torch.Tensor:
        """float32 [V], on the CPU: above 0 for tokens that bring the end nearer, below for those that put it off."""
        ...

    def accept(self, token_id: int) -> None: ...

    def copy(self) -> "Constraint": ...


@dataclass(frozen=True, slots=True)
class RowError:
    """A row without a token, and why."""

    reason: str


def not_finite(largest: float) -> RowError:
    """Of a row whose largest logit is NaN or infinite."""
    return RowError(f"the model computed {largest} where a probability was due")


NOTHING_LEFT = RowError("penalties, bias and constraint together leave no token to draw")


class RequestState:
    """What the sampler keeps of one running sequence. `stop_ids` are masked while min_tokens is not reached.

    A `constraint` of its own (samples of one request take copies) rules over all else: only what it allows is drawn,
    and if that is the end alone, min_tokens and ignore_eos yield. `room`, the most tokens that the answer can have,
    tells when to lean towards an end, so that an answer is whole rather than cut off; all within the constraint.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        seed: int,
        sample_index: int,
        prompt_ids: Sequence[int],
        stop_ids: frozenset[int],
        constraint: Constraint | None = None,
        room: int | None = None,
    ) -> None:
        self.params = params
        self.seed = (seed + 2**63) % 2**64 - 2**63  # as a signed 64-bit value
        self.sample_index = sample_index
        self.stop_ids = torch.tensor(sorted(stop_ids), dtype=torch.int64)
        self.bias_ids = torch.tensor(list(params.logit_bias), dtype=torch.int64)
        self.biases = torch.tensor(list(params.logit_bias.values()), dtype=torch.float32)
        self.prompt_ids = torch.tensor(sorted(set(prompt_ids)) if params.needs_history else [], dtype=torch.int64)
        self.output_counts: dict[int, int] = {}
        self.constraint = constraint
        self.room = min((limit for limit in (room, params.max_tokens) if limit is not None), default=None)

    def masks_stops(self, output_index: int) -> bool:
        """Whether the token of this index must not be a stop."""
        return output_index < self.params.min_tokens and self.stop_ids.numel() > 0

    def adjusts(self, output_index: int) -> bool:
        """Whether the token of this index follows from other logits than the model's."""
        params = self.params
        changes = params.needs_history or bool(params.logit_bias) or self.masks_stops(output_index)
        return changes or self.constraint is not None

    def saw(self, token_id: int) -> None:
        """A token was drawn for this sequence. RequestError if its constraint can't go on from there."""
        if self.constraint is not None:
            self.constraint.accept(token_id)
        if self.params.needs_history:
            self.output_counts[token_id] = self.output_counts.get(token_id, 0) + 1


def sample(
    logits_RV: torch.Tensor,
    states: Sequence[RequestState],
    output_indices: Sequence[int],
    largest_R: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> list[int | RowError]:
    """One token a row. `output_indices`: how many tokens each sequence has put out before (fp32 logits, unchanged).
    `largest_R`: the largest of each row and the lowest id that has it, where these are known."""
    # The largest tells whether a row is sound: of NaN and infinity one is the largest, and negative infinity is it only
    # where there is nothing else.
    largest, greedy = (each.tolist() for each in largest_R or logits_RV.max(-1))
    tokens: list[int | RowError] = []
    for row, (state, output_index) in enumerate(zip(states, output_indices, strict=True)):
        if not math.isfinite(largest[row]):
            tokens.append(not_finite(largest[row]))
        elif state.params.greedy and not state.adjusts(output_index):
            tokens.append(greedy[row])
        else:
            tokens.append(_sample_adjusted(logits_RV[row], state, output_index))
    return tokens


def _sample_adjusted(logits_V: torch.Tensor, state: RequestState, output_index: int) -> int | RowError:
    try:
        logits_V = _adjusted(logits_V, state, output_index)
    except RequestError as error:
        return RowError(str(error))
    largest, token = logits_V.max(-1)
    if not math.isfinite(largest):
        return NOTHING_LEFT
    return int(token) if state.params.greedy else _draw(logits_V, state, output_index)


def _adjusted(logits_V: torch.Tensor, state: RequestState, output_index: int) -> torch.Tensor:
    """Penalties (Keskar et al. 2019, arXiv 1909.05858; OpenAI), logit bias, no end before min_tokens, constraint."""
    params, device = state.params, logits_V.device
    logits_V = logits_V.clone()
    if params.needs_history:
        output_ids = torch.tensor(list(state.output_counts), dtype=torch.int64)
        counts = torch.tensor(list(state.output_counts.values()), dtype=torch.float32, device=device)
        seen = torch.cat((state.prompt_ids, output_ids)).unique().to(device)
        values = logits_V[seen]
        penalty = params.repetition_penalty
        logits_V[seen] = torch.where(values > 0, values / penalty, values * penalty)
        logits_V[output_ids.to(device)] -= params.frequency_penalty * counts + params.presence_penalty
    if params.logit_bias:
        logits_V[state.bias_ids.to(device)] += state.biases.to(device)
    if state.constraint is not None:
        return _constrained(logits_V, state, state.constraint, output_index)
    if output_index < params.min_tokens:
        logits_V[_inside(state.stop_ids, logits_V).to(device)] = _NEVER
    return logits_V


def _constrained(
    logits_V: torch.Tensor, state: RequestState, constraint: Constraint, output_index: int
) -> torch.Tensor:
    """Only what the constraint allows; of that no end that is not wanted yet, unless there is nothing else."""
    allowed_V = constraint.allowed()
    wanted_V = allowed_V.clone()
    if output_index < state.params.min_tokens:
        wanted_V[_inside(state.stop_ids, logits_V)] = False
    if output_index < state.params.min_tokens or state.params.ignore_eos:
        wanted_V[_inside(constraint.end_ids, logits_V)] = False
    if wanted_V.any():
        allowed_V = wanted_V
    urge = 0.0
    if state.room is not None:
        urge = LEANING_LOGITS * (output_index / state.room - LEANING_START) / (1 - LEANING_START)
    if urge > 0.0:
        logits_V += urge * constraint.leanings().to(logits_V.device)
    return logits_V.masked_fill(~allowed_V.to(logits_V.device), _NEVER)


def _inside(token_ids: torch.Tensor, logits_V: torch.Tensor) -> torch.Tensor:
    """Without ids beyond the vocabulary, which are never drawn anyway."""
    return token_ids[token_ids < logits_V.numel()]


def _draw(logits_V: torch.Tensor, state: RequestState, output_index: int) -> int:
    """Inverse of the cumulative distribution at one Philox number, in float64 and in order of token ids."""
    probabilities_V = torch.softmax(_filtered(_tempered(logits_V, state.params), state.params).double(), dim=-1)
    cumulative_V = probabilities_V.cumsum(-1)
    index = torch.tensor([output_index])
    number = uniform(torch.tensor([state.seed]), index, torch.tensor([state.sample_index]))
    token = torch.searchsorted(cumulative_V, number.to(cumulative_V.device) * cumulative_V[-1], right=True)
    last_possible = probabilities_V.nonzero()[-1]
    return int(torch.minimum(token, last_possible))


def _tempered(logits_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The largest becomes 0, so that no temperature above 0, however small, makes infinity minus infinity."""
    return ((logits_V - logits_V.max()).double() / params.temperature).to(logits_V.dtype)


def _filtered(logits_V: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    if params.top_k is not None and params.top_k < logits_V.numel():
        kth = logits_V.topk(params.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < kth, _NEVER)
    if params.top_p < 1.0:
        ordered = logits_V.sort(descending=True, stable=True)
        beyond = (ordered.values.softmax(-1).cumsum(-1) >= params.top_p).roll(1)
        beyond[0] = False  # the most likely token stays, however small top_p is
        logits_V = logits_V.masked_fill(torch.empty_like(beyond).scatter(0, ordered.indices, beyond), _NEVER)
    if params.min_p > 0.0:
        probabilities_V = logits_V.softmax(-1)
        logits_V = logits_V.masked_fill(probabilities_V < params.min_p * probabilities_V.max(), _NEVER)
    return logits_V


def token_logprobs(logits_V: torch.Tensor, token_id: int, num_top: int) -> TokenLogprobs:
    """Natural logarithms, fp32; equal ones in order of token ids."""
    logprobs_V = logits_V.log_softmax(-1)
    chosen = logprobs_V[token_id]
    rank = int((logprobs_V > chosen).sum()) + 1
    values, ids = logprobs_V.sort(descending=True, stable=True) if num_top else (logprobs_V[:0], logprobs_V[:0])
    top = zip(ids[:num_top].tolist(), values[:num_top].tolist(), strict=True)
    return TokenLogprobs(token_id, float(chosen), rank, tuple((int(token), value) for token, value in top))
