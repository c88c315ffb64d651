"""`/v1/completions`: prompts echoed and scored, offsets that point at their tokens, and what is refused by name."""

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import pytest
from server_process import BUNDLED, ServerProcess

from farthing.engine.model_text import load_model_text
from farthing.engine.process.stream import Stream
from farthing.engine.request import Delta, Request
from farthing.engine.tool_calls.answer_parser import AnswerParser
from farthing.models.auto import read_config
from farthing.sampling_params import SamplingParams, TokenLogprobs
from farthing.server.admission import Admission
from farthing.server.answer import Answer, Call, Event
from farthing.server.app import build_app
from farthing.server.books import Books
from farthing.server.completions.dialect import CompletionDialect
from farthing.server.config import ServerConfig
from farthing.server.desk import Desk
from farthing.server.errors import ApiError
from farthing.server.ignored import IgnoredFields
from farthing.server.log import Log
from farthing.server.logprobs import Spelling, TextPlaces
from farthing.server.service import Service
from farthing.server.stream import AnswerResponse

PROMPT = "Once upon a time"
TOKENS = {0: b"<s>", 1: b" One", 2: b" two", 3: "é".encode()[:1], 4: "é".encode()[1:], 5: b"!"}


def asked(server: ServerProcess, path: str = "completions", **body: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/{path}", json=body, timeout=60)


def completed(server: ServerProcess, **body: Any) -> dict[str, Any]:
    answer = asked(server, **{"prompt": PROMPT, "max_tokens": 6, "seed": 3, **body})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def streamed(server: ServerProcess, **body: Any) -> dict[int, dict[str, Any]]:
    """Text and log-probabilities of each choice, put together from the chunks."""
    answer = asked(server, **{"prompt": PROMPT, "max_tokens": 6, "seed": 3, **body, "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    choices: dict[int, dict[str, Any]] = {}
    for line in lines:
        for part in json.loads(line)["choices"]:
            choice = choices.setdefault(part["index"], {"text": "", "logprobs": {}})
            choice["text"] += part["text"]
            for name, values in part["logprobs"].items():
                choice["logprobs"].setdefault(name, []).extend(values)
    return choices


def places(ids: Sequence[int], *, before: Sequence[int] = (), strips_space: bool = False) -> list[int]:
    found = TextPlaces(Spelling(TOKENS.__getitem__, frozenset([0]), strips_space), before)
    return [found.take(token_id) for token_id in ids]


def test_every_sample_of_an_echoed_prompt_has_its_log_probabilities(server: ServerProcess):
    whole = completed(server, echo=True, logprobs=2, n=3)
    scores = [choice["logprobs"]["token_logprobs"][:3] for choice in whole["choices"]]
    assert scores[0][0] is None and None not in scores[0][1:]
    assert scores[1] == scores[2] == scores[0]
    for choice in whole["choices"]:
        assert "".join(choice["logprobs"]["tokens"]).removeprefix("<s>") == choice["text"]
        assert len({len(values) for values in choice["logprobs"].values()}) == 1


def test_the_streamed_samples_are_the_whole_ones(server: ServerProcess):
    body = {"prompt": [PROMPT, "The fox"], "echo": True, "logprobs": 2, "n": 2}
    whole = completed(server, **body)
    chunks = streamed(server, **body)
    for choice in whole["choices"]:
        assert chunks[choice["index"]] == {"text": choice["text"], "logprobs": choice["logprobs"]}


@pytest.mark.parametrize("echo", [False, True])
def test_offsets_point_at_the_tokens_while_stop_strings_hold_text_back(server: ServerProcess, echo: bool):
    """Almost every text may be the beginning of one of these."""
    stop = [f"{letter}#" for letter in "abcdefghilmnoprstuvwy .,"]
    choice = streamed(server, echo=echo, logprobs=0, max_tokens=20, stop=stop)[0]
    scored = choice["logprobs"]
    assert len(scored["tokens"]) >= 20
    for token, offset in zip(scored["tokens"], scored["text_offset"], strict=True):
        assert token == "<s>" or choice["text"][offset:].startswith(token)


def test_control_tokens_and_parts_of_a_character_take_no_room_in_a_text():
    assert places([0, 1, 2, 0, 5]) == [0, 0, 4, 8, 8]
    assert places([3, 4, 5]) == [0, 0, 1]
    assert places([0, 1, 2], strips_space=True) == [0, 0, 3]


def test_a_text_that_continues_another_begins_at_nothing():
    assert places([1, 2], before=[0, 5], strips_space=True) == [0, 4]
    assert places([4, 5], before=[5, 3]) == [0, 1]


def test_scoring_alone_counts_no_token_of_an_answer(server: ServerProcess):
    answer = completed(server, echo=True, max_tokens=0, logprobs=1)
    usage = answer["usage"]
    assert usage["completion_tokens"] == 0
    assert usage["total_tokens"] == usage["prompt_tokens"] == len(answer["choices"][0]["logprobs"]["tokens"])


def test_a_prompt_is_left_without_the_token_that_begins_a_sequence(server: ServerProcess):
    for prompt in (PROMPT, [PROMPT]):
        answer = completed(server, prompt=prompt, echo=True, max_tokens=0, logprobs=1, add_special_tokens=False)
        assert "".join(answer["choices"][0]["logprobs"]["tokens"]) == PROMPT
    refused = asked(server, prompt="", add_special_tokens=False)
    assert refused.status_code == 400 and "the prompt is empty" in refused.text


def test_the_prompt_goes_out_though_two_tokens_come_at_once():
    prompt = Request("r", (0, 1), SamplingParams(), 0)
    call = Call([prompt], lambda: AnswerParser(None))
    answer = Answer(call, Stream([prompt], lambda request_id: None))
    dialect = CompletionDialect(
        "model", call, spelling=Spelling(TOKENS.__getitem__), logprobs=False, include_usage=False,
        echoes=["One"], scores_only=False,
    )  # fmt: skip
    events = [answer._event(Delta("r", 0, " two", (2,)), 0.0), answer._event(Delta("r", 0, "!", (5,), "length"), 0.0)]
    chunks = dialect.take(answer, events).decode().split("\n\n")
    texts = [json.loads(chunk.removeprefix("data: "))["choices"][0]["text"] for chunk in chunks if chunk]
    assert texts == ["One two", "!"]


class InstantEngine:
    """Answers each sample with its end."""

    def submit(self, requests: Sequence[Request]) -> Stream:
        stream = Stream(requests, lambda request_id: None)
        for request in requests:
            for index in range(request.params.n):
                stream.push(Delta(request.request_id, index, "", (), "stop"))
        return stream


def test_an_echo_is_decoded_once_for_all_samples_and_beside_the_streams():
    text = load_model_text(BUNDLED, read_config(BUNDLED), 2048)
    tokenizer, decoded_by = text.tokenizer, []
    assert tokenizer is not None
    decode = tokenizer.decode

    def noted(ids: Sequence[int]) -> str:
        decoded_by.append(threading.current_thread())
        return decode(ids)

    tokenizer.decode = noted
    admission = Admission(max_requests=8, max_tokens=4096)
    service = Service(InstantEngine(), text, context=512, names=["bundled"], admission=admission)

    async def ask() -> list[str]:
        desk = Desk(service, IgnoredFields(strict=False, on_new=lambda name: None), log, Books(), timeout=10)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(build_app(desk, ServerConfig(), None)), base_url="http://localhost"
        ) as client:
            answer = await client.post("/v1/completions", json={"prompt": [PROMPT, "Fox"], "n": 3, "echo": True})
        return [choice["text"] for choice in answer.json()["choices"]]

    with Log() as log:
        assert asyncio.run(ask()) == [PROMPT] * 3 + ["Fox"] * 3
    service.close()
    assert len(decoded_by) == 2 and threading.main_thread() not in decoded_by


class Threads:
    """A dialect that notes on which thread a whole answer is written."""

    def __init__(self) -> None:
        self.written_by: list[str] = []

    def begin(self, answer: Answer) -> bytes:
        return b""

    def take(self, answer: Answer, events: Sequence[Event]) -> bytes:
        return b""

    def end(self, answer: Answer) -> bytes:
        return b""

    def error(self, error: ApiError) -> bytes:
        return b""

    def refusal(self, error: ApiError) -> bytes:
        return b""

    def whole(self, answer: Answer) -> bytes:
        self.written_by.append(threading.current_thread().name)
        return b"{}"


@pytest.mark.parametrize(
    ("delta", "is_large"),
    [
        (Delta("r", 0, "word", (1,), "length"), False),
        (Delta("r", 0, "word", (1,) * 3000, "length"), True),
        (Delta("r", 0, "word", (1,), "length", logprobs=(TokenLogprobs(1, -0.5, 1, ()),)), True),
        (Delta("r", 0, "word", (1,), "length", prompt_logprobs=(TokenLogprobs(1, -0.5, 1, ()),)), True),
    ],
)
def test_a_large_answer_is_written_beside_the_streams_of_others(delta: Delta, is_large: bool):
    async def answered() -> str:
        prompt = Request("r", (0, 1), SamplingParams(), 0)
        stream = Stream([prompt], lambda request_id: None)
        stream.push(delta)
        answer, dialect = Answer(Call([prompt], lambda: AnswerParser(None)), stream), Threads()
        response = AnswerResponse(
            answer, dialect, streamed=False, timeout=10, headers={}, on_end=lambda answer, error: None
        )

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        async def send(message: Mapping[str, Any]) -> None:
            assert message.get("status", 200) == 200

        await response({"type": "http"}, receive, send)
        return dialect.written_by[0]

    assert (asyncio.run(answered()) != threading.main_thread().name) is is_large


def test_samples_and_their_log_probabilities_are_bounded_together(server: ServerProcess):
    messages = [{"role": "user", "content": "Hi"}]
    refused = asked(server, "chat/completions", messages=messages, n=13, logprobs=True, top_logprobs=20)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "n"
    assert "at most 256" in refused.json()["error"]["message"]
    served = asked(server, "chat/completions", messages=messages, n=12, logprobs=True, top_logprobs=20, max_tokens=1)
    assert served.status_code == 200
    assert all(len(choice["logprobs"]["content"][0]["top_logprobs"]) == 20 for choice in served.json()["choices"])


@pytest.mark.parametrize(
    ("path", "said", "field", "value"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "logprobs": True}, "top_logprobs", 25),
        ("chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}, "max_completion_tokens", 0),
        ("responses", {"input": "Hi"}, "top_logprobs", 25),
        ("responses", {"input": "Hi"}, "max_output_tokens", 0),
    ],
)
def test_what_is_out_of_range_is_called_as_the_client_calls_it(
    server: ServerProcess, path: str, said: dict[str, Any], field: str, value: int
):
    error = asked(server, path, **said, **{field: value}).json()["error"]
    assert error["message"].startswith(f"{field} is {value} ") and error["param"] == field


def test_too_long_a_prompt_is_not_said_to_be_a_message(server: ServerProcess):
    error = asked(server, prompt="word " * 2000).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", None)


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("completions", {"prompt": 5}, "prompt"),
        ("completions", {"prompt": ["a", 5]}, "prompt.1"),
        ("completions", {"prompt": "a", "stop": 5}, "stop"),
        ("completions", {"prompt": "a", "stop": ["b", 5]}, "stop.1"),
        ("completions", {"prompt": "a", "logit_bias": {"5": "much"}}, "logit_bias.5"),
        ("completions", {}, "prompt"),
        ("chat/completions", {"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ("chat/completions", {"messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages.0.content.0.type"),
        (
            "chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
            "messages.0.content.0.text",
        ),
        ("responses", {"input": [{"role": "nobody", "content": "a"}]}, "input.0.role"),
        ("responses", {"input": [{"role": "user", "content": [{"text": "a"}]}]}, "input.0.content.0.type"),
    ],
)
def test_a_mistake_is_placed_where_the_client_made_it(
    server: ServerProcess, path: str, body: dict[str, Any], field: str
):
    refused = asked(server, path, **body)
    error = refused.json()["error"]
    assert refused.status_code == 400 and error["param"] == field and error["message"].startswith(f"{field}: ")
