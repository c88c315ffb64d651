"""What probes and clients ask beside answers: health by HEAD, the list of models, token counts and their limits."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from load import completion, exchange
from server_process import ServerProcess, serving

from farthing.server.desk import RequestCancelledError
from farthing.server.errors import api_error

HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def full_server() -> Iterator[ServerProcess]:
    """One request may wait, and nothing is ever answered."""
    with serving(script="mute.py", max_queued_requests=1) as running:
        yield running


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/v1/models"])
def test_head_says_what_get_would_without_its_body(server: ServerProcess, path: str) -> None:
    asked, told = httpx.head(server.url + path), httpx.get(server.url + path)
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == told.headers["content-length"]


def test_tokenize_names_the_fields_that_it_ignores(server: ServerProcess) -> None:
    reply = httpx.post(f"{server.url}/tokenize", json={"prompt": "Once", "return_token_strs": True})
    assert reply.status_code == 200 and reply.headers["x-farthing-ignored"] == "return_token_strs"


def test_counting_tokens_is_refused_where_no_more_may_wait(full_server: ServerProcess) -> None:
    async def play() -> None:
        async with (
            exchange(full_server.url, "/v1/completions", completion(full_server.model, "Once")) as stuck,
            httpx.AsyncClient(base_url=full_server.url) as client,
        ):
            await stuck.head()
            for path in ("/tokenize", "/v1/messages/count_tokens"):
                reply = await client.post(path, json={"messages": HELLO})
                assert reply.status_code == 429 and int(reply.headers["retry-after"]) >= 1

    asyncio.run(play())
    assert full_server.await_idle()["num_queued_requests"] == 0


def test_a_count_of_tokens_gives_its_place_back(full_server: ServerProcess) -> None:
    for path in ("/tokenize", "/v1/messages/count_tokens"):
        for messages in (HELLO, [{"role": "user", "content": "a fox " * 20_000}]):
            httpx.post(full_server.url + path, json={"messages": messages})
    status = full_server.status()
    assert (status["num_active_requests"], status["num_queued_requests"]) == (0, 0)


def test_far_too_long_a_conversation_is_counted_all_the_same(server: ServerProcess) -> None:
    url = f"{server.url}/v1/messages/count_tokens"
    counts = []
    for words in (10_000, 20_000):
        reply = httpx.post(url, json={"messages": [{"role": "user", "content": "a fox " * words}]}, timeout=60)
        assert reply.status_code == 200, reply.text
        counts.append(reply.json()["input_tokens"])
    assert counts[0] > 10_000 and 1.8 < counts[1] / counts[0] < 2.2


def test_official_clients_do_not_send_again_what_can_not_succeed(server: ServerProcess) -> None:
    reply = httpx.post(f"{server.url}/v1/embeddings", json={"input": "a"})
    assert (reply.status_code, reply.headers["x-should-retry"]) == (501, "false")
    for error in (api_error(TimeoutError()), RequestCancelledError()):
        assert error.headers["x-should-retry"] == "false"
