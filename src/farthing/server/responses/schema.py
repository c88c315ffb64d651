"""`POST /v1/responses`: what a request may hold and what an answer holds.

An item or a tool of a type that is not known is taken with whatever it holds, so that it can be left out and named.
Source: OpenAI's API reference, responses; `namespace` and `additional_tools` as coding agents send them.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from farthing.server.documented import Cost
from farthing.server.fields import MAX_LIST, Fields, SamplingFields

MAX_TOOLS = 512
_OTHER = "other"


def _form(value: Any) -> str:
    return "list" if isinstance(value, list) else "str"


_FORM = Discriminator(_form)  # so that an error names what is wrong in a list, not that it is no text


class Unknown(BaseModel):
    """Something of a type that is not served. Its `type` is all that is looked at."""

    model_config = ConfigDict(extra="ignore")

    type: str | None = None


class Part(Fields):
    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: Any = None
    logprobs: Any = None


Content: TypeAlias = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[Part], Field(max_length=MAX_LIST), Tag("list")], _FORM
]


class Item(Fields):
    """What every item may bear and what changes nothing here: answers come back with it."""

    id: str | None = None
    status: str | None = None


class MessageItem(Item):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content | None = None
    phase: str | None = None


class ReasoningItem(Item):
    type: Literal["reasoning"]
    content: Annotated[list[Part], Field(max_length=MAX_LIST)] | None = None
    summary: Any = None
    encrypted_content: Any = None


class FunctionCallItem(Item):
    type: Literal["function_call"]
    call_id: str | None = None
    name: str
    namespace: str | None = None
    arguments: str | dict[str, Any] | None = None


class FunctionOutputItem(Item):
    type: Literal["function_call_output"]
    call_id: str | None = None
    output: Content | None = None


class FunctionTool(Fields):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


def _tag_of(known: Iterable[str], value: Any) -> str:
    kind: object = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return kind if isinstance(kind, str) and kind in known else _OTHER


def _nested_tool_tag(value: Any) -> str:
    return _tag_of(("function",), value)


def _tool_tag(value: Any) -> str:
    return _tag_of(("function", "namespace"), value)


def _item_tag(value: Any) -> str:
    """Clients leave out the type of messages, which have a role."""
    if isinstance(value, dict) and value.get("type") is None and "role" in value:
        return "message"
    return _tag_of(("message", "reasoning", "function_call", "function_call_output", "additional_tools"), value)


class NamespaceTool(Fields):
    """Functions under a common name, as those of one MCP server are."""

    type: Literal["namespace"]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: str | None = None
    tools: Annotated[
        list[
            Annotated[
                Annotated[FunctionTool, Tag("function")] | Annotated[Unknown, Tag(_OTHER)],
                Discriminator(_nested_tool_tag),
            ]
        ],
        Field(max_length=MAX_TOOLS),
    ]


AnyTool: TypeAlias = Annotated[
    Annotated[FunctionTool, Tag("function")]
    | Annotated[NamespaceTool, Tag("namespace")]
    | Annotated[Unknown, Tag(_OTHER)],
    Discriminator(_tool_tag),
]


class AdditionalToolsItem(Item):
    """Tools that stand in the input rather than beside it."""

    type: Literal["additional_tools"]
    role: str | None = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_TOOLS)] | None = None


AnyItem: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[AdditionalToolsItem, Tag("additional_tools")]
    | Annotated[Unknown, Tag(_OTHER)],
    Discriminator(_item_tag),
]


Input: TypeAlias = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[AnyItem], Field(max_length=MAX_LIST), Tag("list")], _FORM
]


class NamedTool(Fields):
    """`name` is needed where the type is "function"; other types are not served."""

    type: str
    name: str | None = None


class TextFormat(Fields):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    schema_: Annotated[dict[str, Any] | bool | None, Field(alias="schema")] = None


class TextOptions(Fields):
    format: TextFormat | None = None
    verbosity: str | None = None


class ReasoningOptions(Fields):
    effort: str | None = None
    summary: str | None = None


class ResponsesRequest(SamplingFields):
    """A conversation to continue, as a list of items. `store` is accepted and nothing is kept."""

    input: Input | None = None
    instructions: str | None = None
    tools: Annotated[list[AnyTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    max_output_tokens: int | None = None
    top_logprobs: int | None = None
    include: Annotated[list[str], Field(max_length=MAX_LIST)] | None = None
    reasoning: ReasoningOptions | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    truncation: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    previous_response_id: str | None = None
    conversation: Any = None
    background: bool | None = None


class AnswerItem(BaseModel):
    """`reasoning` with `content` of reasoning_text, `message` with `content` of output_text, or `function_call`."""

    type: Literal["reasoning", "message", "function_call"]
    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    role: Literal["assistant"] | None = None
    summary: list[dict[str, Any]] | None = None
    content: list[dict[str, Any]] | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None


class InputDetails(BaseModel):
    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(BaseModel):
    reasoning_tokens: int


class Usage(BaseModel):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int
    farthing: Cost


class ResponsesAnswer(BaseModel):
    """Beside what is listed, the fields of the request that decided come back."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    model: str
    output: list[AnswerItem]
    usage: Usage | None
