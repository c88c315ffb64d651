"""One request on its way through the engine: its samples, their text so far, and what goes out.

Knows tokens and text. Knows no scheduling and no tensors: engine.py moves tokens between those and here.
"""

from dataclasses import dataclass, field

from farthing.errors import ContextLengthError, RequestError
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


def check_request(request: Request, *, context: int, vocab_size: int) -> None:
    """RequestError if a model with this context and vocabulary can never serve the request."""
    params = request.params
    if not request.prompt_ids:
        raise RequestError("the prompt is empty", fix="give at least one token of text")
    if len(request.prompt_ids) >= context:
        raise ContextLengthError(len(request.prompt_ids), context)
    for token_id in (*request.prompt_ids, *params.stop_token_ids, *params.logit_bias):
        if type(token_id) is not int or not 0 <= token_id < vocab_size:
            raise RequestError(f"token id {token_id!r} is not a whole number from 0 to {vocab_size - 1}")
    if params.min_tokens and len(set(params.stop_token_ids)) == vocab_size:
        raise RequestError("every token is a stop token, and min_tokens forbids to stop", fix="leave one of them out")


@dataclass(frozen=True, slots=True)
class Delta:
    """What is new of sample `index` of a request. `text` never splits a character and may be empty; the ids and
    log-probabilities are of the tokens since the last delta. The last delta of a sample has a `finish_reason`
    ("stop", "length", "error") and `stop_reason`: the string or token id that ended it, or what failed."""

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
