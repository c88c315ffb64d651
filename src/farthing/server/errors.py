"""What a client is told when something goes wrong: status, type, code and text, in OpenAI's shape.

Every FarthingError has its place in one table. Knows no routes; the Anthropic dialect writes the same facts its way.
"""

from collections.abc import Mapping

import msgspec

from farthing.errors import (
    BusyError,
    ChatTemplateError,
    ContextLengthError,
    EngineStoppedError,
    FarthingError,
    RequestError,
    RequestFailedError,
    UnsupportedError,
)

NO_RETRY = {"x-should-retry": "false"}  # the official clients would send again what ends with 409 or 5xx
_RETRY_SECONDS = 2


class ApiError(FarthingError):
    """An answer with a status of 400 or more. `code` is for programs, `param` the field that is wrong."""

    def __init__(
        self,
        status: int,
        what: str,
        *,
        fix: str = "",
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(what, fix=fix)
        self.status, self.type, self.code, self.param = status, type, code, param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        return error_body(self.status, str(self), type=self.type, code=self.code, param=self.param)


def error_body(
    status: int, message: str, *, type: str = "", code: str | None = None, param: str | None = None
) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}` as bytes of JSON."""
    kind = type or ("server_error" if status >= 500 else "invalid_request_error")
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def api_error(error: Exception) -> ApiError:
    """What a client is told of any exception; one that is ours alone tells nothing of itself."""
    match error:
        case ApiError():
            return error
        case ContextLengthError():
            return ApiError(400, error.what, fix=error.fix, code="context_length_exceeded")
        case RequestError() | ChatTemplateError() | UnsupportedError():
            return ApiError(400, error.what, fix=error.fix, code="invalid_value")
        case EngineStoppedError() | BusyError():
            return unavailable(error.what, fix=error.fix)
        case RequestFailedError():
            return ApiError(500, error.what, fix=error.fix, type="server_error", code="request_failed")
        case TimeoutError():
            what = "the request took too long"
            return ApiError(504, what, type="server_error", code="request_timeout", headers=NO_RETRY)
    return ApiError(500, "an internal error; the server's log has it", type="server_error", code="internal_error")


def unavailable(what: str, *, fix: str = "send the request again", seconds: int = _RETRY_SECONDS) -> ApiError:
    """503: not now, perhaps soon."""
    return ApiError(
        503, what, fix=fix, type="server_error", code="unavailable", headers={"retry-after": str(max(1, seconds))}
    )
