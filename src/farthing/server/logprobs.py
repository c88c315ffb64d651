"""Log-probabilities as OpenAI's two older APIs print them. Knows the tokenizer, which spells the tokens."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from farthing.sampling_params import TokenLogprobs

BytesOf = Callable[[int], bytes]
_FLOOR = -9999.0  # JSON has no infinity


def chat_logprobs(logprobs: Iterable[TokenLogprobs], bytes_of: BytesOf) -> dict[str, Any]:
    """`logprobs` of a choice of a chat completion."""
    content = [
        {
            **_entry(token.token_id, token.logprob, bytes_of),
            "top_logprobs": [_entry(token_id, logprob, bytes_of) for token_id, logprob in token.top],
        }
        for token in logprobs
    ]
    return {"content": content}


def completion_logprobs(
    logprobs: Sequence[TokenLogprobs], bytes_of: BytesOf, *, offset: int, first_id: int | None = None
) -> dict[str, Any]:
    """`logprobs` of a choice of a completion. `offset`: characters of the choice's text before the first of these
    tokens. `first_id`: a token before them of which nothing is known, as the first of an echoed prompt."""
    ids = [*([] if first_id is None else [first_id]), *(token.token_id for token in logprobs)]
    texts = [_text(bytes_of(token_id)) for token_id in ids]
    offsets, place = [], offset
    for text in texts:
        offsets.append(place)
        place += len(text)
    unknown: list[None] = [] if first_id is None else [None]
    return {
        "tokens": texts,
        "token_logprobs": [*unknown, *(_finite(token.logprob) for token in logprobs)],
        "top_logprobs": [
            *unknown,
            *({_text(bytes_of(i)): _finite(value) for i, value in token.top} for token in logprobs),
        ],
        "text_offset": offsets,
    }


def _entry(token_id: int, logprob: float, bytes_of: BytesOf) -> dict[str, Any]:
    data = bytes_of(token_id)
    return {"token": _text(data), "logprob": _finite(logprob), "bytes": list(data)}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _finite(logprob: float) -> float:
    return max(logprob, _FLOOR)
