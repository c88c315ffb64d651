"""What is served, and its tokenizer: `GET /v1/models`, `POST /tokenize`; and advice on what is not, `/v1/embeddings`.

One entry of a model has the keys of OpenAI's list and of Anthropic's, so that both clients read it.
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from farthing.server.chat.route import message_value
from farthing.server.chat.schema import Message
from farthing.server.desk import Desk
from farthing.server.documented import ErrorBody, error_responses
from farthing.server.errors import NO_RETRY, ApiError
from farthing.server.fields import MAX_LIST, Fields, ignored
from farthing.server.json_route import json_router
from farthing.server.service import Conversation


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["farthing"] = "farthing"
    context_length: int
    max_model_len: int
    type: Literal["model"] = "model"
    display_name: str
    created_at: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
    has_more: bool = False
    first_id: str
    last_id: str


class TokenizeRequest(Fields):
    """Text, or a conversation as the chat template writes it."""

    model: str | None = None
    prompt: str | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_LIST)] | None = None
    add_special_tokens: bool | None = None


class Tokens(BaseModel):
    count: int
    max_model_len: int
    tokens: list[int]


def router(desk: Desk) -> APIRouter:
    routes, service = json_router(), desk.service
    started = int(time.time())

    @routes.head("/v1/models", include_in_schema=False)
    @routes.get("/v1/models", responses=error_responses(), tags=["models"])
    async def list_models() -> ModelList:
        """The names under which the model is served."""
        cards = [_card(name) for name in service.names]
        return ModelList(data=cards, first_id=cards[0].id, last_id=cards[-1].id)

    @routes.get("/v1/models/{name:path}", responses=error_responses(), tags=["models"])
    async def one_model(name: str) -> ModelCard:
        """One of them."""
        return _card(service.require_model(name))

    @routes.post("/tokenize", responses=error_responses(), tags=["models"])
    async def tokenize(fields: TokenizeRequest, response: Response) -> Tokens:
        """Token ids of a text or of a conversation."""
        service.require_model(fields.model)
        response.headers.update(desk.ignored.take(ignored(fields)))
        if (fields.prompt is None) == (fields.messages is None):
            raise ApiError(400, "give either prompt or messages", param="prompt")
        with desk.admitted():
            if fields.messages is not None:
                ids = await service.chat_tokens(Conversation([message_value(message) for message in fields.messages]))
            else:
                ids = await service.tokenize(fields.prompt or "", add_special=fields.add_special_tokens is not False)
        return Tokens(count=len(ids), max_model_len=service.context, tokens=ids)

    @routes.post("/v1/embeddings", responses={501: {"model": ErrorBody, "description": "Not served."}}, tags=["models"])
    async def embeddings() -> None:
        """Not served: says what to use."""
        raise ApiError(
            501,
            "Farthing serves text generation, no embeddings",
            fix="use an embedding server, such as text-embeddings-inference or infinity, beside it",
            type="server_error",
            code="not_implemented",
            headers=NO_RETRY,
        )

    def _card(name: str) -> ModelCard:
        return ModelCard(
            id=name,
            created=started,
            context_length=service.context,
            max_model_len=service.context,
            display_name=name,
            created_at=datetime.fromtimestamp(started, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )

    return routes
