"""What a caller may ask of one request: how tokens are drawn, when it ends, what is reported beside the text.

Frozen and checked once, here; scheduler, sampler, engine and server read it. Knows no tokenizer and no tensors:
stop strings are text and are found by engine/tokenization/detokenizer.py, stop token ids by scheduler/scheduler.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from farthing.errors import RequestError

MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 64
MAX_STOP_CHARACTERS = 1000
MAX_N = 128


@dataclass(frozen=True, slots=True)
class Grammar:
    """What the text of an answer must look like.

    `source`: "json_schema" the schema as JSON text, "regex" a regular expression of the whole answer, "choice" a JSON
    list of strings, "lark" a grammar in llguidance's dialect of Lark; "json_object" needs none.
    """

    kind: Literal["json_object", "json_schema", "regex", "choice", "lark"]
    source: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probability of the token and of the `top` most likely ones (id, log-probability), of the model itself:
    before temperature, penalties and bias. `rank` 1 is the most likely token."""

    token_id: int
    logprob: float
    rank: int
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Raises RequestError, naming field, value and range, if a field is out of range.

    temperature 0 is greedy (of equal logits the lowest id wins). Penalties follow the OpenAI and Hugging Face
    definitions: repetition divides or multiplies the logits of tokens in prompt and output, presence and frequency
    are subtracted for tokens of the output. `seed` None draws one per request. `logprobs` asks for that many
    alternatives beside the chosen token (0: the chosen one only); they are of the model's distribution, before
    temperature and penalties. `max_tokens` None means: until the context is full. Tokens that would break the `grammar`
    are never drawn.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0.0, 100.0)
        _require("top_p", self.top_p, 0.0, 1.0, open_low=True)
        _require("min_p", self.min_p, 0.0, 1.0)
        _require("repetition_penalty", self.repetition_penalty, 0.0, 100.0, open_low=True)
        _require("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _require("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _require_int("top_k", self.top_k, 1, 2**31 - 1)
        _require_int("seed", self.seed, -(2**63), 2**64 - 1)
        _require_int("n", self.n, 1, MAX_N, optional=False)
        _require_int("max_tokens", self.max_tokens, 1, 2**31 - 1)
        _require_int("min_tokens", self.min_tokens, 0, 2**31 - 1, optional=False)
        _require_int("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        _require_int("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}", fix="lower it")
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise RequestError(f"stop is {self.stop!r:.80}", fix="it must be a list of strings, none of them empty")
        if len(self.stop) > MAX_STOP_STRINGS:
            raise RequestError(f"stop has {len(self.stop)} strings", fix=f"it takes at most {MAX_STOP_STRINGS}")
        if any(len(text) > MAX_STOP_CHARACTERS for text in self.stop):
            raise RequestError("a stop string is too long", fix=f"it takes at most {MAX_STOP_CHARACTERS} characters")
        for token_id in self.stop_token_ids:
            _require_int("a token id of stop_token_ids", token_id, 0, 2**31 - 1, optional=False)
        for token_id in self.logit_bias:
            _require_int("a token id of logit_bias", token_id, 0, 2**31 - 1, optional=False)
        for bias in self.logit_bias.values():
            _require("a logit_bias", bias, -100.0, 100.0)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    @property
    def needs_history(self) -> bool:
        """Whether a row's logits depend on the tokens before it (penalties)."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def _require(name: str, value: float, low: float, high: float, *, open_low: bool = False) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (open_low and value == low):
        bounds = f"above {low:g} and at most {high:g}" if open_low else f"from {low:g} to {high:g}"
        raise RequestError(f"{name} is {value!r:.80}", fix=f"it must be a number {bounds}")


def _require_int(name: str, value: int | None, low: int, high: int, *, optional: bool = True) -> None:
    if value is None and optional:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{name} is {value!r:.80}", fix=f"it must be a whole number from {low} to {high}")
