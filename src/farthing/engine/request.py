"""One request on its way through the engine: its samples, their text so far, and what goes out.

Knows tokens and text. Knows no scheduling and no tensors: engine.py moves tokens between those and here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from farthing.engine.detokenizer import Detokenizer
from farthing.sampling_params import SamplingParams, TokenLogprobs


@dataclass(frozen=True, slots=True)
class Request:
    """`prompt_ids` are what the model sees, special tokens included. Requests share cached prefixes only if their
    `salt` is equal. A smaller `priority` is more urgent. Control tokens are not part of the text, but for `visible_ids`
    (the marks of tool calls, say)."""

    request_id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    seed: int
    priority: int = 0
    salt: str = ""
    visible_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new of sample `index` of a request. `text` never splits a character and may be empty; the ids and
    log-probabilities are of the tokens since the last delta. The last delta of a sample has a `finish_reason`
    ("stop", "length") and `stop_reason`, the string or token id that ended it."""

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    num_cached_tokens: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(slots=True)
class Completion:
    """A finished sample: `token_ids` without a stop token, `text` without a stop string."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)


@dataclass(slots=True)
class RequestOutput:
    """All samples of a finished request, in order of `index`."""

    request_id: str
    prompt_ids: tuple[int, ...]
    completions: list[Completion]
    num_cached_tokens: int = 0
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Text of the first sample."""
        return self.completions[0].text

    def add(self, delta: Delta) -> None:
        completion = self.completions[delta.index]
        completion.text += delta.text
        completion.token_ids.extend(delta.token_ids)
        completion.logprobs.extend(delta.logprobs)
        completion.finish_reason = delta.finish_reason
        completion.stop_reason = delta.stop_reason
        self.num_cached_tokens = max(self.num_cached_tokens, delta.num_cached_tokens)
        self.prompt_logprobs.extend(delta.prompt_logprobs)

    @property
    def finished(self) -> bool:
        return all(completion.finish_reason is not None for completion in self.completions)


def empty_output(request: Request) -> RequestOutput:
    return RequestOutput(request.request_id, request.prompt_ids, [Completion(i) for i in range(request.params.n)])


@dataclass(slots=True)
class Sample:
    """A running sample: its sequence in the scheduler, and its text. Without a tokenizer its text is its ids."""

    request: Request
    index: int
    seq_id: int
    detokenizer: Detokenizer | None

    def delta(
        self,
        token_id: int | None,
        finish_reason: str | None,
        *,
        stop_token: int | None = None,
        num_cached_tokens: int = 0,
        logprobs: TokenLogprobs | None = None,
        prompt_logprobs: Sequence[TokenLogprobs] = (),
    ) -> Delta:
        """Take in one token; a token that ends the sample by its id is not part of its text."""
        is_text = token_id is not None and token_id != stop_token
        text, stop_reason = f"{token_id} " if is_text else "", stop_token if finish_reason == "stop" else None
        if self.detokenizer is not None:
            text = self.detokenizer.push(token_id) if is_text and token_id is not None else ""
            if self.detokenizer.stop_found is not None:
                finish_reason, stop_reason = "stop", self.detokenizer.stop_found
            elif finish_reason is not None:
                text += self.detokenizer.finish()
        return Delta(
            self.request.request_id,
            self.index,
            text,
            (token_id,) if is_text and token_id is not None else (),
            finish_reason,
            stop_reason,
            num_cached_tokens,
            (logprobs,) if is_text and logprobs is not None else (),
            tuple(prompt_logprobs),
        )
