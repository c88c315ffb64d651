"""`POST /v1/chat/completions`: what a request may hold and what an answer holds.

Source: OpenAI's API reference, chat completions; `top_k`, `min_p` and the like as vLLM spells them.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from farthing.server.documented import Cost
from farthing.server.fields import MAX_LIST, Fields, SamplingFields

Name = Annotated[str, Field(max_length=1024)]


class ContentPart(Fields):
    type: str
    text: str | None = None
    refusal: str | None = None


class FunctionCall(Fields):
    name: Name
    arguments: str | dict[str, Any] | None = None


class ToolCall(Fields):
    id: Name | None = None
    type: str | None = None
    function: FunctionCall | None = None


class Message(Fields):
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[ContentPart], Field(fail_fast=True, max_length=MAX_LIST)] | None = None
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True, max_length=MAX_LIST)] | None = None
    tool_call_id: Name | None = None
    function_call: FunctionCall | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class Function(Fields):
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Fields):
    type: str
    function: Function | None = None


class NamedFunction(Fields):
    name: Name


class NamedTool(Fields):
    type: str = "function"
    function: NamedFunction | None = None


class ChatRequest(SamplingFields):
    """A conversation to continue."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=MAX_LIST)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: Annotated[list[Tool], Field(fail_fast=True, max_length=512)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class TopLogprob(BaseModel):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(BaseModel):
    content: list[TokenLogprob]


class AnswerFunction(BaseModel):
    name: str
    arguments: str


class AnswerToolCall(BaseModel):
    id: str
    type: Literal["function"]
    function: AnswerFunction


class AnswerMessage(BaseModel):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    tool_calls: list[AnswerToolCall] | None = None


class AnswerChoice(BaseModel):
    index: int
    message: AnswerMessage
    logprobs: ChoiceLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class PromptDetails(BaseModel):
    cached_tokens: int


class CompletionDetails(BaseModel):
    reasoning_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails
    farthing: Cost


class ChatAnswer(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[AnswerChoice]
    usage: Usage
