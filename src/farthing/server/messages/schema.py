"""`POST /v1/messages` and its `count_tokens`: what a request may hold, what an answer and an error hold.

Source: Anthropic's API reference, messages. Blocks of all types share one shape here, as unknown types must pass; what
a block of its type needs is checked where it is read (translate.py).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from farthing.server.documented import Cost
from farthing.server.fields import MAX_LIST, Fields


class ResultPart(Fields):
    """Of the content of a tool's result."""

    type: str
    text: str | None = None


class Block(Fields):
    """Of the content of a message. `signature` and `data` are those of thoughts and mean nothing here."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: dict[str, Any] | str | None = None
    tool_use_id: str | None = None
    content: str | Annotated[list[ResultPart], Field(max_length=MAX_LIST)] | dict[str, Any] | None = None
    is_error: bool | None = None


class Message(Fields):
    role: Literal["user", "assistant", "system"]
    content: str | Annotated[list[Block], Field(max_length=MAX_LIST)] | None = None


class Tool(Fields):
    type: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class ToolChoice(Fields):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Fields):
    type: Literal["enabled", "adaptive", "disabled"]


class OutputFormat(Fields):
    type: Literal["json_schema"]
    schema_: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None


class OutputConfig(Fields):
    effort: str | None = None
    format: OutputFormat | None = None


class Metadata(Fields):
    user_id: str | None = None


class CountRequest(Fields):
    """A conversation whose tokens are to be counted."""

    model: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_LIST)]
    system: str | Annotated[list[Block], Field(max_length=MAX_LIST)] | None = None
    tools: Annotated[list[Tool], Field(max_length=512)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None


class MessagesRequest(CountRequest):
    """A conversation to continue."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: Annotated[list[str], Field(max_length=MAX_LIST)] | None = None
    stream: bool | None = None
    metadata: Metadata | None = None
    priority: int | None = None


class ThinkingBlock(BaseModel):
    type: Literal["thinking"]
    thinking: str
    signature: str


class TextBlock(BaseModel):
    type: Literal["text"]
    text: str


class ToolUseBlock(BaseModel):
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


class OutputDetails(BaseModel):
    thinking_tokens: int


class Usage(BaseModel):
    """The prompt has `input_tokens` and `cache_read_input_tokens` together."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: OutputDetails
    farthing: Cost


class MessageAnswer(BaseModel):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ThinkingBlock | TextBlock | ToolUseBlock]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]
    stop_sequence: str | None
    usage: Usage


class TokenCount(BaseModel):
    input_tokens: int


class ErrorDetail(BaseModel):
    type: str
    message: str


class AnthropicErrorBody(BaseModel):
    type: Literal["error"]
    error: ErrorDetail
    request_id: str | None
