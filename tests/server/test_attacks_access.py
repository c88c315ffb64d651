"""Who gets in, by which tricks not, and what others learn of it: keys, hosts, paths, headers, caches, the log.

The rule is in attack.py, the classes of attack in test_attacks_requests.py. `keyed` is a server with two keys, `server`
(of conftest.py) one without.
"""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from attack import Reply, Target, raw, under_attack
from server_process import ServerProcess, serving

from farthing.server.guard import HEALTH_PATHS

ALICE, BOB = "alice-0123456789abcdef", "bob-fedcba9876543210"
SECRET = "the-fox-hid-a-cake"
METHODS = ("get", "post", "put", "delete", "patch", "options", "head")


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory, long_folder: Path) -> Iterator[Target]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"alice:{ALICE}\nbob:{BOB}\n")
    keys.chmod(0o600)
    with (
        serving(long_folder, engine={"context": 8192}, api_keys=str(keys)) as server,
        under_attack(server, ALICE) as target,
    ):
        yield target


@pytest.fixture(scope="module")
def stranger(keyed: Target) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=keyed.url, timeout=10, trust_env=False) as client:
        yield client


def request(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def test_every_route_needs_a_key_but_those_that_tell_health(keyed: Target, stranger: httpx.Client):
    page: dict[str, Any] = keyed.client.get("/openapi.json").json()
    paths = [re.sub(r"\{[^}]*\}", "x", path) for path in page["paths"]]
    assert len(paths) > 9 and set(paths) >= HEALTH_PATHS
    others = ["/openapi.json", "/docs", "/redoc", "/metrics", "/debug", "/v1", "/farthing", "/static/x", "/favicon.ico"]
    for path in [*paths, *others]:
        for method in METHODS:
            answer = stranger.request(method, path)
            if path in HEALTH_PATHS:
                assert answer.status_code in (200, 405)
            else:
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
    assert stranger.get("/").status_code in (200, 404)


SPELLINGS = [
    "//v1/models", "/v1//models", "/v1/../livez/../v1/models", "/livez/../v1/models", "/v1/models/",
    "/v1/models?x=/livez",
    "/livez/", "/livez/v1/models", "/livez%2f..%2fv1/models", "/%76%31/models", "/v1%2fmodels", "/v1/%6dodels",
    "/V1/models",
    "/livez;/../v1/models", "/v1/models;/livez", "/livez\\..\\v1\\models", "/./v1/models", "/v1/models%00/livez",
    "/livez%3f/v1/models", "/livez%23/../../v1/models", "/livez/%2e%2e/v1/models", "/health/../farthing/status",
    "http://x/v1/models", "http://livez/v1/models", "http://x/livez/../v1/models", "https://127.0.0.1/v1/models", "*",
    "/farthing/status#/livez", "/livez?/../v1/models", "/%2e/v1/models", "/v1/models%20", "/v1/models%0d%0aX:%20y",
]  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
def test_no_spelling_of_a_path_opens_it(keyed: Target, path: str):
    """401, or what a probe of health may see: "ok" and no more."""
    for host in ("x", "localhost/livez", "livez", "127.0.0.1"):
        reply = keyed.raw(request(path, f"Host: {host}"))
        assert reply.status in (400, 401, 404) or reply.body == b"ok", (reply.status, reply.body[:200])
        assert b"bundled" not in reply.body


HOSTS = [
    "x/?",
    "x/livez?",
    "a@b",
    "livez#",
    "x\\livez",
    "[::1",
    "127.0.0.1:80/livez",
    "x:99999",
    "x y",
    "\xff",
    "",
    "a" * 5000,
]


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: ascii(host)[:20])
def test_a_host_header_opens_nothing(keyed: Target, server: ServerProcess, host: str):
    for path in ("/v1/models", "/farthing/status", "/openapi.json"):
        reply = keyed.withstands(lambda path=path: keyed.raw(request(path, f"Host: {host}")))
        assert reply.status in (400, 401)
        assert raw(server.url, request(path, f"Host: {host}")).status in (400, 403)
    smuggled = (
        "X-Forwarded-Host: localhost",
        "X-Original-URL: /livez",
        "X-Rewrite-URL: /livez",
        "Forwarded: host=localhost",
    )
    assert keyed.raw(request("/v1/models", "Host: x", *smuggled)).status == 401
    assert raw(server.url, request("/v1/models", "Host: evil.example", *smuggled)).status == 403


WRONG_KEYS = [
    "", "Bearer", "Bearer ", f"Basic {ALICE}", ALICE, f"Bearer {ALICE}x", f"Bearer {ALICE[:-1]}",
    f"Bearer alice:{ALICE}",
    f"Bearer {ALICE.upper()}", "Bearer null", "Bearer *", "Bearer \xff\xfe", f"Bearer {'x' * 50_000}",
    f"Bearer\x0b{ALICE}x",
]  # fmt: skip


@pytest.mark.parametrize("said", WRONG_KEYS, ids=lambda said: ascii(said)[:30])
def test_a_wrong_key_is_no_key(keyed: Target, said: str):
    reply = keyed.withstands(lambda: keyed.raw(request("/v1/models", "Host: x", f"Authorization: {said}")))
    assert reply.status in (400, 401)
    assert reply.status == 400 or ALICE not in reply.message


def test_a_key_in_the_address_is_no_key(keyed: Target, stranger: httpx.Client):
    for query in (f"key={ALICE}", f"api_key={ALICE}", f"access_token={ALICE}", f"authorization=Bearer%20{ALICE}"):
        assert stranger.get(f"/v1/models?{query}").status_code == 401
    assert stranger.get("/v1/models", headers={"cookie": f"authorization={ALICE}"}).status_code == 401


HEADERS = {
    "one of 10 MB": ["X: " + "a" * 10_000_000],
    "one of 100 kB": ["X: " + "a" * 100_000],
    "10,000": [f"X{i}: 1" for i in range(10_000)],
    "a name of 100 kB": ["a" * 100_000 + ": 1"],
    "a key of 60 kB": ["Authorization: Bearer " + "a" * 60_000],
    "ends of lines": ["X: a\nHost: b", "Y: \x00"],
    "two lengths": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "a negative length": ["Content-Length: -1"],
    "a length beyond 64 bits": ["Content-Length: 99999999999999999999999"],
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_beyond_the_limits(keyed: Target, name: str):
    data = "\r\n".join(["GET /v1/models HTTP/1.1", "Host: x", *HEADERS[name]]).encode("latin-1") + b"\r\n\r\n"
    keyed.withstands(lambda: keyed.raw(data))


def test_a_long_request_line(keyed: Target):
    assert keyed.withstands(lambda: keyed.raw(request("/" + "a" * 1_000_000, "Host: x"))).status == 414


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "0"]
)
def test_names_of_others_do_not_reach_a_server_without_keys(server: ServerProcess, host: str):
    """DNS rebinding: a page's own name points here."""
    body = b'{"prompt": "Once", "max_tokens": 1}'
    for path, method in (
        ("/v1/completions", "POST"),
        ("/v1/models", "GET"),
        ("/farthing/cancel/x", "POST"),
        ("/", "GET"),
    ):
        reply = raw(server.url, request(path, f"Host: {host}", method=method, body=body))
        assert reply.status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "file://", "http://localhost.evil.example", "https://127.0.0.1@evil.example"],
)
def test_pages_of_others_do_not_reach_a_server_without_keys(server: ServerProcess, origin: str):
    """A page may send text/plain anywhere without being asked first."""
    body = b'{"prompt": "Once", "max_tokens": 1}'
    headers = ("Host: localhost", f"Origin: {origin}", "Content-Type: text/plain")
    reply = raw(server.url, request("/v1/completions", *headers, method="POST", body=body))
    assert reply.status == 403 and "access-control-allow-origin" not in reply.headers
    asked = (*headers[:2], "Access-Control-Request-Method: POST")
    assert raw(server.url, request("/v1/completions", *asked, method="OPTIONS")).status == 403


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_compressed_bodies_are_not_opened(keyed: Target, encoding: str):
    bomb = gzip.compress(b'{"prompt": "' + b"a" * 50_000_000 + b'"}')
    reply = keyed.withstands(lambda: keyed.post("/v1/completions", bomb, {"content-encoding": encoding}))
    assert reply.status == 415


def test_two_keys_never_share_cached_blocks(keyed: Target):
    prompt = "the fox went home and saw a big dog in her tree so they had to play with all of it " * 10

    def cached(key: str) -> int:
        body = {"prompt": prompt, "max_tokens": 1}
        reply = keyed.post("/v1/completions", body, {"authorization": f"Bearer {key}"})
        return int(reply.json["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached(ALICE) == 0
    assert cached(ALICE) > 100
    assert cached(BOB) == 0
    assert cached(BOB) > 100


def test_a_key_does_not_end_the_requests_of_another(keyed: Target):
    body = {"prompt": "Once", "max_tokens": 4000, "ignore_eos": True, "stream": True}
    with keyed.client.stream("POST", "/v1/completions", json=body) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        path = f"/farthing/cancel/{answer.headers['x-request-id']}"
        assert keyed.client.post(path, headers={"authorization": f"Bearer {BOB}"}).json() == {"cancelled": False}
        assert b"data: " in next(chunks)
        assert keyed.client.post(path).json() == {"cancelled": True}


FORGED = '\r\n{"time": "now", "level": "info", "event": "forged"}\r\n\x1b[2J\x1b[31m\x00\u2028'


def test_a_name_with_line_ends_forges_no_line_of_the_log(keyed: Target):
    for fields in (
        {"model": FORGED},
        {"user": FORGED},
        {FORGED: 1},
        {"stop": FORGED},
        {"metadata": {"user_id": FORGED}},
    ):
        reply = keyed.complete(**fields)
        assert reply.status in (200, 404)
        assert all(ord(c) >= 32 for value in reply.headers.values() for c in value)
    assert keyed.raw(request(f"/v1/models/{SECRET}%0d%0a%1b[31m", "Host: x")).status == 401
    output = keyed.server.output()
    assert keyed.server.events("forged") == [] and "\x1b" not in output and "\x00" not in output
    assert all(line.startswith("{") or not line.lstrip().startswith('{"time"') for line in output.split("\n"))


def test_nothing_of_users_or_keys_is_logged(keyed: Target):
    """Errors of all kinds: of the body, of a field, of a grammar, of a template, of a length, of a key."""
    said = [{"role": "user", "content": SECRET}]
    wrong: list[object] = [
        b'{"prompt": "' + SECRET.encode() + b'"', {"prompt": SECRET, "n": SECRET}, {"prompt": SECRET, "seed": 2**99},
        {"prompt": SECRET * 10_000}, {"prompt": SECRET, "guided_regex": f"({SECRET}"}, {"prompt": SECRET, "model": "x"},
        {"prompt": [SECRET, 1]}, {"prompt": SECRET, "stop": [SECRET] * 99},
        {"prompt": SECRET, "logit_bias": {SECRET: 1}},
    ]  # fmt: skip
    for body in wrong:
        assert keyed.post("/v1/completions", body).status in (400, 404)
    chats: list[dict[str, Any]] = [
        {"messages": said, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": SECRET}}}},
        {"messages": said, "tools": [{"type": "function", "function": {"name": SECRET, "parameters": SECRET}}]},
        {"messages": [{"role": SECRET, "content": SECRET}]},
        {"messages": [*said, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": SECRET}}]}]},
    ]
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/tokenize"):
        for chat in chats:
            keyed.post(path, {"max_tokens": 1, "input": said, **chat})
    assert keyed.complete(prompt=SECRET).status == 200
    for header in ("authorization", "x-api-key"):
        assert keyed.post("/v1/completions", {}, {header: f"Bearer {SECRET}"}).status in (400, 401)
    keyed.client.get(f"/v1/models?key={BOB}&text={SECRET}")
    with keyed.client.stream("POST", "/v1/completions", json={"prompt": SECRET, "max_tokens": 4000, "stream": True}):
        pass  # gone at once
    output = keyed.server.output()
    assert len(keyed.server.events("request")) > 2
    for word in (SECRET, ALICE, BOB):
        assert word not in output


def test_an_error_repeats_no_more_than_a_little_of_what_was_sent(keyed: Target):
    for fields in ({"model": "x" * 100_000}, {"temperature": "x" * 100_000}, {"guided_regex": "(" + "x" * 50_000}):
        reply: Reply = keyed.complete(**fields)
        assert reply.status in (400, 404) and len(reply.body) < 1000, json.dumps(fields)[:60]
