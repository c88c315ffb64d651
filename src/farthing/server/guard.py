"""Who may come in: a key where there are keys, else only what was addressed to this machine by its own name.

Pure ASGI, so that a disconnect reaches the application. Decides by `scope["path"]` alone, exactly as the router does,
and never by a URL put together from the Host header. Behind it, `scope["state"]["key_id"]` (`request.state.key_id`)
is the id of the key's owner, or empty where no key is asked for. Knows no route but the three that tell health.
"""

import ipaddress
import re
from collections.abc import Collection

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from farthing.errors import UsageError
from farthing.server.errors import ApiError
from farthing.server.keys import KeyRing
from farthing.server.refusal import ErrorBody, openai_body, refuse

HEALTH_PATHS = frozenset(("/livez", "/readyz", "/health"))
EXPOSED_HEADERS = ("retry-after", "x-request-id", "x-farthing-ignored")
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::\d{1,5})?")
_NO_KEY = ApiError(
    401,
    "this route needs an API key",
    fix="send it as 'Authorization: Bearer KEY' or 'x-api-key: KEY'",
    code="invalid_api_key",
    headers={"www-authenticate": "Bearer"},
)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+")


class Guard:
    """The middleware. `public_paths` are served without a key: static files, which hold no data."""

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing | None,
        *,
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
        public_paths: Collection[str] = (),
        error_body: ErrorBody = openai_body,
    ) -> None:
        self._app = app
        self._keys = keys
        self._hosts = frozenset(("localhost", "host.docker.internal", *(host.lower() for host in allowed_hosts)))
        self._origins = frozenset(allowed_origins)
        self._public_paths = frozenset(public_paths)
        self._error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope.setdefault("state", {})["key_id"] = ""
        if scope["path"] in HEALTH_PATHS:
            await self._app(scope, receive, send)
        elif self._keys is None:
            await self._admit_by_name(scope, receive, send)
        else:
            await self._admit_by_key(self._keys, scope, receive, send)

    async def _admit_by_key(self, keys: KeyRing, scope: Scope, receive: Receive, send: Send) -> None:
        found = [owner for key in presented_keys(scope) if (owner := keys.key_id(key)) is not None]
        if found:
            scope["state"]["key_id"] = found[0]
        elif scope["path"] not in self._public_paths:
            await self._refuse(scope, send, _NO_KEY)
            return
        await self._app(scope, receive, send)

    async def _admit_by_name(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Without keys: a page elsewhere could make a browser ask us, under a name that it pointed at this machine."""
        hosts = header_values(scope, b"host")
        if len(hosts) != 1:
            error = ApiError(400, "a request needs exactly one Host header", code="invalid_host")
            await self._refuse(scope, send, error)
            return
        origins = header_values(scope, b"origin")
        if not self._is_local(hosts[0]):
            what = f"Host {shown(hosts[0])} is not this machine"
            fix = "restart with --allowed-host NAME to serve it"
            await self._refuse(scope, send, ApiError(403, what, fix=fix, code="host_not_allowed"))
        elif not all(self._is_local_origin(origin) for origin in origins):
            what = f"pages of {shown(origins[0])} may not ask this server"
            fix = "restart with --cors-origin ORIGIN, or with --allowed-host NAME if it is this machine"
            await self._refuse(scope, send, ApiError(403, what, fix=fix, code="origin_not_allowed"))
        else:
            await self._app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send, error: ApiError) -> None:
        await refuse(scope, send, error, self._error_body)

    def _is_local(self, host: str) -> bool:
        match = _HOST.fullmatch(host.lower())
        name = match[1].removesuffix(".") if match else ""
        return name in self._hosts or is_loopback(name.strip("[]"))

    def _is_local_origin(self, origin: str) -> bool:
        scheme, _, host = origin.partition("://")
        return origin in self._origins or (scheme in ("http", "https") and self._is_local(host))


def protect(
    app: ASGIApp,
    keys: KeyRing | None,
    *,
    allowed_hosts: Collection[str] = (),
    cors_origins: Collection[str] = (),
    public_paths: Collection[str] = (),
    error_body: ErrorBody = openai_body,
) -> ASGIApp:
    """The guard, and around it the CORS headers where an origin was named: refusals need them too."""
    check_origins(cors_origins, keys)
    guard = Guard(
        app,
        keys,
        allowed_hosts=allowed_hosts,
        allowed_origins=cors_origins,
        public_paths=public_paths,
        error_body=error_body,
    )
    if not cors_origins:
        return guard
    return CORSMiddleware(
        guard,
        allow_origins=cors_origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),
        expose_headers=EXPOSED_HEADERS,
    )


def check_origins(origins: Collection[str], keys: KeyRing | None) -> None:
    """UsageError for what is no origin, and for all of them where no key protects the server."""
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise UsageError(f"--cors-origin {origin} is not an origin", fix="write scheme://host:port, without a path")
        if origin == "*" and keys is None:
            raise UsageError("--cors-origin '*' would let any web page ask this server", fix="add --api-keys FILE")


def refuse_public(host: str, keys: KeyRing | None) -> None:
    """UsageError where an address that others can reach would be served to everyone."""
    if keys is None and host != "localhost" and not is_loopback(host):
        raise UsageError(
            f"without a key file only loopback is served, and {host or 'an empty --host'} is not loopback",
            fix="add --api-keys FILE, or leave --host 127.0.0.1",
        )


def is_loopback(address: str) -> bool:
    """Of a literal address: a name may point anywhere."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def presented_keys(scope: Scope) -> list[str]:
    """What was sent as a key: by OpenAI's header, then by Anthropic's. A header sent twice counts as not sent."""
    bearer = [value.split(None, 1) for value in header_values(scope, b"authorization")]
    plain = header_values(scope, b"x-api-key")
    keys = [words[1] for words in bearer if len(bearer) == 1 and len(words) == 2 and words[0].lower() == "bearer"]
    return keys + (plain if len(plain) == 1 else [])


def header_values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key == name]


def shown(text: str) -> str:
    """A short ASCII form of what a client sent, to repeat in an answer."""
    return ascii(text[:100])
