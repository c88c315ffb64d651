"""`POST /v1/messages` and `POST /v1/messages/count_tokens`: requests of Anthropic's API, and its answers."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from farthing.errors import ContextLengthError
from farthing.server.desk import Desk
from farthing.server.documented import error_responses, generation_responses
from farthing.server.errors import ApiError
from farthing.server.fields import ignored, sampling_params
from farthing.server.json_route import json_router
from farthing.server.messages.dialect import MessagesDialect
from farthing.server.messages.schema import (
    AnthropicErrorBody,
    CountRequest,
    MessageAnswer,
    MessagesRequest,
    TokenCount,
)
from farthing.server.messages.translate import conversation_of, requested_grammar, sampling_fields


def router(desk: Desk) -> APIRouter:
    routes = json_router()

    @routes.post("/v1/messages", responses=generation_responses(MessageAnswer, AnthropicErrorBody), tags=["generate"])
    async def messages(fields: MessagesRequest, http: Request) -> Response:
        """Continue a conversation, in Anthropic's shape."""
        service = desk.service
        model = service.require_model(fields.model)
        conversation, unknown = conversation_of(fields)
        params = sampling_params(
            sampling_fields(fields),
            service.text.generation_defaults,
            max_tokens=fields.max_tokens,
            grammar=requested_grammar(fields),
        )
        try:
            return await desk.answer_conversation(
                "messages",
                conversation,
                params,
                MessagesDialect(model),
                priority=fields.priority or 0,
                streamed=bool(fields.stream),
                unknown_fields=[*ignored(fields), *unknown],
                key_id=http.state.key_id or "",
            )
        except ContextLengthError as error:
            raise _too_long(error) from error

    @routes.post("/v1/messages/count_tokens", responses=error_responses(AnthropicErrorBody), tags=["generate"])
    async def count_tokens(fields: CountRequest, response: Response) -> TokenCount:
        """The number of tokens of a conversation, as the model would read it; an estimate if they are far too many."""
        desk.service.require_model(fields.model)
        conversation, unknown = conversation_of(fields)
        response.headers.update(desk.ignored.take([*ignored(fields), *unknown]))
        with desk.admitted():
            try:
                return TokenCount(input_tokens=len(await desk.service.chat_tokens(conversation)))
            except ContextLengthError as error:  # whoever asks wants to know by how much
                return TokenCount(input_tokens=error.num_tokens)

    return routes


def _too_long(error: ContextLengthError) -> ApiError:
    """In the words by which agents know that they have to shorten their conversation."""
    what = f"prompt is too long: {error.num_tokens} tokens > {error.context} maximum"
    return ApiError(400, what, fix=error.fix, code="context_length_exceeded", param="messages")
