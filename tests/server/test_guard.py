"""The guard: which requests reach the application, and what the others are told."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from farthing.errors import UsageError
from farthing.server.guard import Guard, protect, refuse_public
from farthing.server.keys import KeyRing, load_keys

KEY = "alice-0123456789abcdef"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the id of the key."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["key_id"].encode()})


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    path = tmp_path / "keys"
    path.write_text(f"alice:{KEY}")
    path.chmod(0o600)
    return load_keys(path)


def ask(
    app: ASGIApp,
    path: str = "/v1/models",
    *headers: tuple[str, str],
    method: str = "GET",
    host: str | None = "localhost",
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    fields = [
        (name.lower().encode(), value.encode()) for name, value in (*headers, *([("host", host)] if host else []))
    ]
    scope: dict[str, Any] = {"type": "http", "method": method, "path": path, "headers": fields, "query_string": b""}
    asyncio.run(app(scope, receive, send))
    head = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:])


def said(body: bytes) -> str:
    return str(json.loads(body)["error"]["message"])


@pytest.mark.parametrize(
    "header", [("Authorization", f"Bearer {KEY}"), ("authorization", f"bearer  {KEY}"), ("x-api-key", KEY)]
)
def test_a_key_is_taken_from_the_header_of_either_api_and_names_its_owner(keys: KeyRing, header: tuple[str, str]):
    assert ask(Guard(application, keys), "/v1/models", header)[::2] == (200, b"alice")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", f"Basic {KEY}")],
        [("authorization", KEY)],
        [("authorization", "Bearer wrong-0123456789")],
        [("x-api-key", f"{KEY}\x00")],
        [("x-api-key", KEY), ("x-api-key", KEY)],
        [("cookie", f"key={KEY}")],
    ],
)
def test_without_a_right_key_the_answer_is_an_openai_error(keys: KeyRing, headers: list[tuple[str, str]]):
    status, head, body = ask(Guard(application, keys), "/v1/models", *headers)
    assert (status, head["www-authenticate"]) == (401, "Bearer")
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert json.loads(body)["error"]["code"] == "invalid_api_key"
    assert KEY not in body.decode()


def test_a_client_that_sends_both_headers_needs_one_that_is_right(keys: KeyRing):
    headers = [("authorization", "Bearer of-something-else"), ("x-api-key", KEY)]
    assert ask(Guard(application, keys), "/v1/messages", *headers)[0] == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
def test_health_needs_neither_key_nor_host(keys: KeyRing, path: str):
    assert ask(Guard(application, keys), path, host=None)[0] == 200
    assert ask(Guard(application, None), path, host="10.0.0.7:8000")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/livez/", "//livez", "/livez/../v1/models", "/LIVEZ", "/metrics", "/docs", "/openapi.json", "/tokenize", ""],
)
def test_every_other_path_needs_a_key(keys: KeyRing, path: str):
    assert ask(Guard(application, keys), path)[0] == 401


@pytest.mark.parametrize("host", ["x/livez?", "localhost/health?", "livez", "a/?", "/livez#"])
def test_a_host_header_does_not_change_which_path_is_asked_for(keys: KeyRing, host: str):
    assert ask(Guard(application, keys), "/v1/models", host=host)[0] == 401


def test_static_files_need_no_key_but_where_there_is_none_they_need_the_right_host(keys: KeyRing):
    assert ask(Guard(application, keys, public_paths=["/"]), "/", host="example.org")[0] == 200
    assert ask(Guard(application, None, public_paths=["/"]), "/", host="example.org")[0] == 403


def test_with_keys_any_host_is_served(keys: KeyRing):
    assert ask(Guard(application, keys), "/v1/models", ("x-api-key", KEY), host="llm.example.org")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "localhost.",
        "127.0.0.1:1",
        "127.8.9.1",
        "[::1]:8000",
        "host.docker.internal:80",
        "box.lan:9",
    ],
)
def test_without_keys_this_machine_is_served_by_its_names(host: str):
    assert ask(Guard(application, None, allowed_hosts=["Box.lan"]), host=host)[::2] == (200, b"")


@pytest.mark.parametrize(
    "host",
    (
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "a@localhost"),
        *("x/?", "localhost:8000:1", "0.0.0.0", "", "localhost evil.example", "[localhost]x", "127.0.0.1\u00b2"),
    ),
)
def test_without_keys_another_host_is_refused_with_the_flag_that_allows_it(host: str):
    status, _, body = ask(Guard(application, None), host=host or " ")
    assert status == 403
    assert "--allowed-host" in said(body)


def test_no_host_or_two_are_refused():
    assert ask(Guard(application, None), host=None)[0] == 400
    assert ask(Guard(application, None), "/v1/models", ("host", "evil.example"))[0] == 400


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:8000", "https://chat.example"]
)
def test_pages_of_this_machine_and_of_a_named_origin_may_ask(origin: str):
    guard = Guard(application, None, allowed_origins=["https://chat.example"])
    assert ask(guard, "/v1/models", ("origin", origin))[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://localhost.evil.example", "file://", "chrome-extension://abc"]
)
def test_pages_of_others_may_not_ask(origin: str):
    status, _, body = ask(Guard(application, None), "/v1/models", ("origin", origin))
    assert status == 403
    assert "--cors-origin" in said(body) and "--allowed-host" in said(body)


def preflight(app: ASGIApp, origin: str) -> dict[str, str]:
    headers = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key"),
    ]
    return ask(app, "/v1/models", *headers, method="OPTIONS")[1]


def test_no_origin_is_allowed_by_default(keys: KeyRing):
    for ring in (keys, None):
        head = preflight(protect(application, ring), "http://localhost:3000")
        assert not [name for name in head if name.startswith("access-control")]


def test_a_named_origin_is_told_so_before_it_has_a_key_and_another_is_not(keys: KeyRing):
    for ring in (keys, None):
        app = protect(application, ring, cors_origins=["https://chat.example"])
        assert preflight(app, "https://chat.example")["access-control-allow-origin"] == "https://chat.example"
        assert "access-control-allow-origin" not in preflight(app, "https://evil.example")


def test_a_named_origin_can_read_why_it_was_refused(keys: KeyRing):
    app = protect(application, keys, cors_origins=["https://chat.example"])
    status, head, _ = ask(app, "/v1/models", ("origin", "https://chat.example"))
    assert (status, head["access-control-allow-origin"]) == (401, "https://chat.example")


@pytest.mark.parametrize("origin", ["chat.example", "https://chat.example/", "https://a b", "*"])
def test_what_is_no_origin_is_no_value_of_the_flag(origin: str):
    with pytest.raises(UsageError, match="--cors-origin"):
        protect(application, None, cors_origins=[origin])


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.2", "example.org", "::ffff:10.0.0.1", "localhost.evil.example"]
)
def test_an_address_that_others_reach_needs_keys(keys: KeyRing, host: str):
    refuse_public(host, keys)
    with pytest.raises(UsageError, match="--api-keys FILE"):
        refuse_public(host, None)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback_needs_none(host: str):
    refuse_public(host, None)


def test_a_websocket_is_refused(keys: KeyRing):
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(Guard(application, keys)({"type": "websocket", "path": "/livez", "headers": []}, None, send))  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]
