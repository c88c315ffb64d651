"""What a batch is expected to take: counts of rows, tokens of prompts and answers, and what the figures rest on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from batch_rows import completion_row, write_rows
from server_process import serving

from farthing.client.batch_file import Reading, Row
from farthing.client.batch_forecast import (
    NUM_SAMPLED,
    Rates,
    count_by,
    count_texts,
    forecast,
    num_characters,
    survey,
)
from farthing.client.connection import Server


def row(url: str, **body: Any) -> Row:
    return Row(0, 1, "r", "c", url, body)


def test_rows_are_counted_by_what_is_still_to_be_asked(tmp_path: Path):
    rows = [completion_row(n, model="m" if n else "other") for n in range(5)]
    found = survey(Reading(write_rows(tmp_path / "in.jsonl", [*rows, "bad"])), is_done=lambda index: index < 2)
    assert (found.num_rows, found.num_refused, found.num_to_ask) == (6, 1, 3)
    assert found.models == {"m": 3} and found.max_output_tokens == 3 * 16


@pytest.mark.parametrize(
    ("asked", "tokens"),
    [
        (row("/v1/completions", prompt="x"), 16),
        (row("/v1/completions", prompt="x", max_tokens=7, n=3), 21),
        (row("/v1/completions", prompt=["x", "y"], max_tokens=7), 14),
        (row("/v1/completions", prompt=[5, 6, 7], max_tokens=7), 7),
        (row("/v1/chat/completions", max_completion_tokens=9), 9),
        (row("/v1/responses", max_output_tokens=9), 9),
        (row("/v1/messages"), 256),
        (row("/v1/completions", prompt="x", max_tokens="many", n=-1), 16),
    ],
)
def test_an_answer_may_be_as_long_as_its_limit(asked: Row, tokens: int):
    assert survey([asked]).max_output_tokens == tokens


def test_texts_are_found_wherever_an_api_has_them():
    messages = [{"role": "system", "content": "ab"}, {"role": "user", "content": [{"type": "text", "text": "cde"}]}]
    assert num_characters(row("/v1/chat/completions", messages=messages)) == 5
    assert num_characters(row("/v1/responses", input="abc", instructions="de")) == 5
    assert num_characters(row("/v1/messages", messages=messages, system="xy")) == 7
    assert num_characters(row("/v1/completions", prompt=["ab", "c"])) == 3
    assert num_characters(row("/v1/completions", prompt=[[1, 2], [3]])) == 12


def test_few_rows_are_counted_and_of_many_a_sample_that_is_the_same_each_time(tmp_path: Path):
    few = survey([row("/v1/completions", prompt="a b c")] * 3)
    count = count_texts(lambda text: len(text.split()))
    expected = asyncio.run(forecast(few, count, Rates(10.0, 4.0, "as a test says"), 3600.0))
    assert (expected.prompt_tokens, expected.output_tokens) == (9, 48)
    assert expected.seconds == pytest.approx(0.9 + 12) and expected.dollars == pytest.approx(12.9)
    assert expected.notes[-1] == "as a test says"
    source = write_rows(tmp_path / "in.jsonl", (completion_row(number) for number in range(500)))
    many, again = survey(Reading(source)), survey(Reading(source))
    assert len(many.sample) == NUM_SAMPLED and many.sample == again.sample
    expected = asyncio.run(forecast(many, count, None, None))
    assert expected.prompt_tokens == pytest.approx(500 * 8, rel=0.02)
    assert (expected.seconds, expected.dollars) == (None, None)
    assert any("from 64 rows" in note for note in expected.notes)


def test_without_a_tokenizer_characters_stand_for_tokens():
    async def unknown(row: Row) -> None: ...

    expected = asyncio.run(forecast(survey([row("/v1/completions", prompt="x" * 400)]), unknown, None, None))
    assert expected.prompt_tokens == 100 and any("characters" in note for note in expected.notes)


def test_a_server_counts_what_it_will_count_when_it_answers():
    rows = {
        "/v1/completions": {"prompt": ["Once upon", "a time"], "max_tokens": 1},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 1},
        "/v1/messages": {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 1},
        "/v1/responses": {"input": "Hello there", "max_output_tokens": 1},
    }

    async def counted(server: Server) -> None:
        count = count_by(server)
        for url, body in rows.items():
            _, answer = await server.ask("POST", url, body)
            usage = answer["usage"]
            assert await count(row(url, **body)) == usage.get("prompt_tokens", usage.get("input_tokens")), url
        assert await count(row("/v1/completions", prompt=[1, 2, 3])) == 3
        assert await count(row("/v1/chat/completions", messages="nonsense")) is None
        assert await count(row("/v1/completions", prompt="x", model="nobody")) is None

    with serving() as server:
        asyncio.run(counted(Server.at(server.url)))
