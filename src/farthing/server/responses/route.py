"""`POST /v1/responses`: a request translated, its answer a response of OpenAI's newer API."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from farthing.server.desk import Desk
from farthing.server.documented import generation_responses
from farthing.server.fields import MAX_TOKENS, ignored, require_count, sampling_params
from farthing.server.json_route import json_router
from farthing.server.responses.dialect import ResponsesDialect
from farthing.server.responses.schema import ResponsesAnswer, ResponsesRequest
from farthing.server.responses.translate import (
    conversation_of,
    echo,
    grammar_of,
    num_logprobs,
    refuse_what_is_not_kept,
)


def router(desk: Desk) -> APIRouter:
    routes = json_router()

    @routes.post("/v1/responses", responses=generation_responses(ResponsesAnswer), tags=["generate"])
    async def responses(fields: ResponsesRequest, http: Request) -> Response:
        """Continue a conversation given as a list of items."""
        service = desk.service
        model = service.require_model(fields.model)
        refuse_what_is_not_kept(fields)
        conversation, names, unknown = conversation_of(fields)
        max_tokens = require_count("max_output_tokens", fields.max_output_tokens, 1, MAX_TOKENS)
        params = sampling_params(
            fields,
            service.text.generation_defaults,
            max_tokens=fields.max_tokens if max_tokens is None else max_tokens,
            logprobs=num_logprobs(fields),
            grammar=grammar_of(fields),
        )
        dialect = ResponsesDialect(
            model,
            echo(fields, params, conversation.choice, names),
            names=names,
            bytes_of=service.bytes_of,
        )
        return await desk.answer_conversation(
            "responses",
            conversation,
            params,
            dialect,
            priority=fields.priority or 0,
            streamed=bool(fields.stream),
            unknown_fields=[*ignored(fields), *unknown],
            key_id=http.state.key_id or "",
        )

    return routes
