"""The same request gives the same text: cold or cached, alone or in company, streamed or whole, interrupted or not.

Scenarios F15, F17, F18, F20, F21, F35 over HTTP; their halves below the server are in tests/scheduler, tests/runtime
and tests/engine. All answers are greedy, of a server whose rows do not depend on their batch.
"""

import asyncio
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from load import JSON, Reply, ask, completion, exchange
from server_process import ServerProcess, serving

STORY = "Once upon a time there was a little fox who lived in a wood near a river. " * 3
EXACT = {"batch_invariant": True, "max_num_seqs": 4, "max_batch_tokens": 64}
KEYS = ("alpha-0123456789abcdef", "beta-0123456789abcdef")
# Characters of two, three and four bytes: the tokenizer spells them byte by byte.
SCRIPTS = {
    "unicode": "Füchse 狐狸 🦊🦊 naïve 日本語 — ok. The END of it, and THE ENDING too 🦊!",
    "talk": "I went to the river. Then I went home. " * 20,
}


@pytest.fixture(scope="module")
def exact_server() -> Iterator[ServerProcess]:
    with serving(engine=EXACT, max_restarts=0) as running:
        yield running


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    scripts = tmp_path_factory.mktemp("scripts") / "scripts.json"
    scripts.write_text(json.dumps(SCRIPTS))
    with serving(script="scripted.py", arguments=[str(scripts)], max_restarts=0) as running:
        yield running


def texts(server: ServerProcess, *values: JSON) -> list[str]:
    """Of requests that are sent together."""

    async def play() -> list[Reply]:
        return await asyncio.gather(*(ask(server.url, "/v1/completions", value) for value in values))

    replies = asyncio.run(play())
    assert all(reply.is_complete for reply in replies), replies
    return [reply.text or reply.json()["choices"][0]["text"] for reply in replies]


def cached_tokens(server: ServerProcess, value: JSON) -> int:
    reply = asyncio.run(ask(server.url, "/v1/completions", {**value, "stream": False}))
    return int(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_a_text_is_the_same_cold_cached_after_a_stop_string_and_after_eviction(exact_server: ServerProcess) -> None:
    server, value = exact_server, completion(exact_server.model, STORY, max_tokens=40)
    (cold,) = texts(server, value)
    assert cached_tokens(server, value) > 0
    assert texts(server, value) == [cold]
    word = cold.split()[4]
    (stopped,) = texts(server, {**value, "stop": [word]})
    assert stopped == cold[: cold.index(word)]
    assert texts(server, value) == [cold]
    rng = random.Random(0)
    for _ in range(2):  # prompts of 480 tokens push everything else out of 128 blocks of 16
        ids = [rng.randrange(5, 2000) for _ in range(480)]
        texts(server, *(completion(server.model, ids[i:] + ids[:i], max_tokens=1) for i in (0, 100, 200, 300)))
    assert cached_tokens(server, value) == 0
    assert texts(server, value) == [cold]
    server.await_idle()


def test_a_text_is_the_same_alone_in_company_and_in_any_order(exact_server: ServerProcess) -> None:
    server = exact_server
    prompts = ["Once upon a time", "The fox", STORY * 2, "A boy and a girl", STORY + "And so", "In the wood"]
    values = [completion(server.model, prompt, max_tokens=24) for prompt in prompts]
    alone = [texts(server, value)[0] for value in values]
    assert texts(server, *values) == alone
    assert texts(server, *reversed(values)) == alone[::-1]
    server.await_idle()


def test_requests_that_do_not_fit_together_wait_for_each_other_and_lose_nothing(exact_server: ServerProcess) -> None:
    """KV for little more than one request of the full context: others are put off or taken back, and end as alone."""
    taken = re.search(r"([\d.]+) MiB of", exact_server.output())
    assert taken is not None
    memory = float(taken[1]) - (2048 - 700) * 2 / 1024  # it has room for 2,048 tokens of 2 KiB
    with serving(engine={**EXACT, "memory": f"{memory:.2f}MiB"}, max_restarts=0) as server:
        num_blocks = server.status()["engine"]["num_blocks"]
        assert 32 <= num_blocks < 64, num_blocks
        values = [completion(server.model, f"{story}, she", max_tokens=300) for story in ("A fox", "A dog", "A cat")]
        alone = [texts(server, value)[0] for value in values]
        assert texts(server, *values) == alone
        long = [completion(server.model, f"{name} " + STORY * 5, max_tokens=20) for name in "ABCDE"]
        assert all(texts(server, *long))
        status = server.await_idle()["engine"]
        assert 0 < status["num_preemptions"] < 50, status


def test_a_conversation_goes_on_after_its_answer_was_broken_off(exact_server: ServerProcess) -> None:
    """What was computed for the broken answer may be taken from the cache by the next turn, and must be right."""
    first = {"role": "user", "content": "Tell me a story about a fox."}
    body = {"temperature": 0, "max_tokens": 60, "messages": [first]}
    path = "/v1/chat/completions"

    def said(server: ServerProcess, messages: list[JSON]) -> tuple[str, int]:
        reply = asyncio.run(ask(server.url, path, {**body, "model": server.model, "messages": messages})).json()
        return reply["choices"][0]["message"]["content"], reply["usage"]["prompt_tokens_details"]["cached_tokens"]

    async def broken_off(server: ServerProcess) -> str:
        value = {**body, "model": server.model, "max_tokens": 300, "stream": True}
        async with exchange(server.url, path, value) as stream:
            async for _ in stream.chunks():
                if stream.body.count(b'"content":"') > 32:
                    break
            stream.leave()
            lines = [line[6:] for line in stream.body.split(b"\n") if line.startswith(b"data: ")]
            return "".join(json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines)

    answer = asyncio.run(broken_off(exact_server))
    turn = [first, {"role": "assistant", "content": answer}, {"role": "user", "content": "And then?"}]
    exact_server.await_idle()
    warm, num_cached = said(exact_server, turn)
    assert num_cached > 16
    assert said(exact_server, turn)[0] == warm
    with serving(engine={**EXACT, "prefix_caching": False}) as fresh:
        assert said(fresh, turn) == (warm, 0)


@pytest.mark.parametrize("stop", [None, "END of", "🦊!", "語 —", "naïve"], ids=str)
def test_a_stream_adds_up_to_the_whole_text_through_split_characters_and_stop_strings(
    scripted: ServerProcess, stop: str | None
) -> None:
    value = completion(scripted.model, "SCRIPT:unicode", max_tokens=300, ignore_eos=False)
    if stop is not None:
        value["stop"] = [stop]
    streamed, whole = texts(scripted, value, {**value, "stream": False})
    expected = SCRIPTS["unicode"] if stop is None else SCRIPTS["unicode"].partition(stop)[0]
    assert streamed == whole
    assert streamed.strip() == expected.strip()
    assert "\ufffd" not in streamed


def test_a_key_finds_nothing_of_what_another_key_computed(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("".join(f"{key.split('-')[0]}:{key}\n" for key in KEYS))
    path.chmod(0o600)
    with serving(api_keys=str(path)) as server:
        value = {**completion(server.model, STORY, max_tokens=2), "stream": False}

        def cached(key: str) -> int:
            reply = asyncio.run(ask(server.url, "/v1/completions", value, headers={"Authorization": f"Bearer {key}"}))
            return int(reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"])

        assert cached(KEYS[0]) == 0
        assert cached(KEYS[0]) > 0
        assert cached(KEYS[1]) == 0
        assert cached(KEYS[1]) > 0
