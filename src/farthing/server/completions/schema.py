"""`POST /v1/completions`: what a request may hold and what an answer holds.

Source: OpenAI's API reference, completions (legacy).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from farthing.server.chat.schema import Usage
from farthing.server.fields import SamplingFields

MAX_PROMPTS = 128


class CompletionRequest(SamplingFields):
    """Text to continue: one or several prompts, as text or token ids."""

    prompt: (
        str
        | list[int]
        | Annotated[list[str], Field(max_length=MAX_PROMPTS)]
        | Annotated[list[list[int]], Field(max_length=MAX_PROMPTS)]
    )
    echo: bool | None = None
    logprobs: int | None = None
    add_special_tokens: bool | None = None


class CompletionLogprobs(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
