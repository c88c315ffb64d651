"""What the OpenAPI page says of every route beside its own answer: the errors, and that answers may be streams."""

from typing import Any

from pydantic import BaseModel

_ERRORS = {
    400: "The request is wrong: a field, the prompt's length, a schema.",
    401: "No key, or a wrong one.",
    403: "Host or Origin is not allowed.",
    404: "The model is not served here.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body is compressed or no JSON.",
    429: "Too many requests wait; Retry-After says when to try again.",
    500: "The answer failed.",
    503: "No engine at the moment; Retry-After says when to try again.",
    504: "The request took too long.",
}


class Cost(BaseModel):
    """What an answer took of the machine: `seconds` of its steps, their `dollars` (null without a price), the share of
    them that the machine's measured peaks would allow (null where nothing was measured), tokens from the cache."""

    seconds: float
    dollars: float | None
    share_of_limit: float | None
    cached_tokens: int


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


def error_responses(error: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    documented: dict[int | str, dict[str, Any]] = {
        status: {"model": error, "description": text} for status, text in _ERRORS.items()
    }
    return {**documented, "default": {"model": error, "description": "Any other error."}}  # instead of FastAPI's 422


def generation_responses(
    answer: type[BaseModel], error: type[BaseModel] = ErrorBody
) -> dict[int | str, dict[str, Any]]:
    """Of a route that generates: the whole answer, or a stream of events."""
    stream: dict[str, Any] = {"text/event-stream": {}}
    return {200: {"model": answer, "description": "The answer.", "content": stream}, **error_responses(error)}
