"""`POST /v1/completions`: what a request may hold and what an answer holds.

Source: OpenAI's API reference, completions (legacy).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, WithJsonSchema

from farthing.server.chat.schema import Usage
from farthing.server.fields import SamplingFields

MAX_PROMPTS = 128


def _kind(prompt: object) -> str:
    """Of the four kinds of prompt the one that it can be, by its first item: trying all costs four times as much."""
    if not isinstance(prompt, list):
        return "text"
    first = prompt[0] if prompt else 0
    if isinstance(first, list):
        return "lists of token ids"
    return "token ids" if isinstance(first, int | float) else "texts"


# That they are whole numbers is checked with the context at hand (route.py): a million of them would be read in vain.
Ids = Annotated[list[Any], WithJsonSchema({"type": "array", "items": {"type": "integer"}})]
Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[Ids, Tag("token ids")]
    | Annotated[list[str], Field(fail_fast=True, max_length=MAX_PROMPTS), Tag("texts")]
    | Annotated[list[Ids], Field(fail_fast=True, max_length=MAX_PROMPTS), Tag("lists of token ids")],
    Discriminator(_kind),
]


class CompletionRequest(SamplingFields):
    """Text to continue: one or several prompts, as text or token ids."""

    prompt: Prompt
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
