"""What a batch will take, before it begins: rows, tokens, time and dollars, and what that rests on.

Prompt tokens are counted of every row where there are few, else of some drawn at random, and taken in proportion to
the length of the texts. Answers are taken as long as they may become. Knows no planner: speeds and the price are handed
in; tokens are counted by a server or whoever else can.
"""

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from farthing.client.batch_file import Row
from farthing.client.connection import Server

NUM_SAMPLED = 64
ASSUMED_ANSWER_TOKENS = 256
CHARACTERS_A_TOKEN = 4.0
_COMPLETION_TOKENS = 16  # what the API takes where max_tokens is not said
_MESSAGE_TOKENS = 5  # of a chat template around a message
_TEXT_FIELDS = ("prompt", "messages", "input", "instructions", "system")
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

CountTokens = Callable[[Row], Awaitable[int | None]]


@dataclass(slots=True)
class Survey:
    """The rows that are to be asked: how many, how long, some of them. `models`: names that they ask for, at most 20.

    `max_output_tokens`: what their answers may have; rows that set no limit count with ASSUMED_ANSWER_TOKENS.
    """

    num_rows: int = 0
    num_refused: int = 0
    num_to_ask: int = 0
    num_characters: int = 0
    max_output_tokens: int = 0
    num_unlimited: int = 0
    models: dict[str, int] = field(default_factory=dict)
    sample: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second of a full batch; `source` says where they are from."""

    prompt_tokens_per_second: float
    output_tokens_per_second: float
    source: str


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of the rows that are to be asked. `seconds` and `dollars` are None where nothing is known to tell them from."""

    prompt_tokens: int
    output_tokens: int
    seconds: float | None
    dollars: float | None
    notes: tuple[str, ...]

    def at(self, rates: Rates | None, price_per_hour: float | None) -> "Forecast":
        """The same rows at these rates and this price; without rates, the same."""
        if rates is None:
            return self
        seconds = self.prompt_tokens / rates.prompt_tokens_per_second
        seconds += self.output_tokens / rates.output_tokens_per_second
        dollars = None if price_per_hour is None else seconds * price_per_hour / 3600
        return replace(self, seconds=seconds, dollars=dollars, notes=(*self.notes, rates.source))


def survey(rows: Iterable[Row], is_done: Callable[[int], bool] = lambda index: False) -> Survey:
    """Reads all rows. The sample is the same each time."""
    found, chance = Survey(), random.Random(0)
    for row in rows:
        found.num_rows += 1
        if row.error is not None:
            found.num_refused += 1
        elif not is_done(row.index):
            _take(found, row, chance)
    return found


def _take(found: Survey, row: Row, chance: random.Random) -> None:
    found.num_to_ask += 1
    found.num_characters += num_characters(row)
    limit = next((row.body[name] for name in _LIMITS if isinstance(row.body.get(name), int)), None)
    if limit is None and row.url == "/v1/completions":
        limit = _COMPLETION_TOKENS
    found.num_unlimited += limit is None
    found.max_output_tokens += max(0, ASSUMED_ANSWER_TOKENS if limit is None else limit) * _num_answers(row.body)
    model = row.body.get("model")
    if isinstance(model, str) and (model in found.models or len(found.models) < 20):
        found.models[model] = found.models.get(model, 0) + 1
    if len(found.sample) < NUM_SAMPLED:
        found.sample.append(row)
    elif (place := chance.randrange(found.num_to_ask)) < NUM_SAMPLED:
        found.sample[place] = row


async def forecast(found: Survey, count: CountTokens, rates: Rates | None, price_per_hour: float | None) -> Forecast:
    """`rates`: those of the batch as it will run; None where they are not known."""
    counted = characters = 0
    for row in found.sample:
        tokens = await count(row)
        if tokens is not None:
            counted += tokens
            characters += num_characters(row)
    notes = []
    if characters:
        prompt_tokens = counted * found.num_characters // characters
        if len(found.sample) < found.num_to_ask:
            notes.append(f"prompt tokens from {len(found.sample)} rows")
    else:
        prompt_tokens = int(found.num_characters / CHARACTERS_A_TOKEN)
        notes.append(f"{CHARACTERS_A_TOKEN:g} characters a prompt token")
    notes.append("every answer as long as its max_tokens")
    if found.num_unlimited:
        notes.append(f"{ASSUMED_ANSWER_TOKENS} tokens where a row sets none ({found.num_unlimited:,} rows)")
    return Forecast(prompt_tokens, found.max_output_tokens, None, None, tuple(notes)).at(rates, price_per_hour)


def count_by(server: Server) -> CountTokens:
    """Counts by the server's own tokenizer and template; None for what it does not take."""

    async def count(row: Row) -> int | None:
        total = sum(len(ids) for ids in _token_ids(row.body.get("prompt")))
        for question in _questions(row):
            status, answer = await server.ask("POST", "/tokenize", question)
            if status != 200 or not isinstance(answer, dict) or not isinstance(answer.get("count"), int):
                return None
            total += answer["count"]
        return total

    return count


def count_texts(tokenize: Callable[[str], int]) -> CountTokens:
    """Counts by a tokenizer, without the server; what a chat template adds is assumed."""

    async def count(row: Row) -> int | None:
        total = sum(len(ids) for ids in _token_ids(row.body.get("prompt")))
        messages = row.body.get("messages", row.body.get("input"))
        total += _MESSAGE_TOKENS * len(messages) if isinstance(messages, list) else 0
        return total + sum(tokenize(text) for text in _texts(row) if text)

    return count


def num_characters(row: Row) -> int:
    """Of all that the model is to read; a token id counts as a token's worth of them."""
    num_ids = sum(len(ids) for ids in _token_ids(row.body.get("prompt")))
    return sum(map(len, _texts(row))) + int(CHARACTERS_A_TOKEN * num_ids)


def _questions(row: Row) -> Iterator[dict[str, Any]]:
    """Bodies for /tokenize."""
    model = {"model": row.body["model"]} if isinstance(row.body.get("model"), str) else {}
    if row.url == "/v1/chat/completions" and "messages" in row.body:
        yield {**model, "messages": row.body["messages"]}
    elif row.url == "/v1/completions":
        yield from ({**model, "prompt": text} for text in _texts(row))
    else:
        yield {**model, "messages": [{"role": "user", "content": "\n".join(_texts(row))}]}


def _texts(row: Row) -> Iterator[str]:
    for name in _TEXT_FIELDS:
        yield from _strings(row.body.get(name))


def _strings(value: object) -> Iterator[str]:
    """Of a text, or of messages with their parts; not the words that only say what is what."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in ("role", "type", "id"):
                yield from _strings(item)


def _token_ids(prompt: object) -> Iterator[list[int]]:
    """Prompts that are lists of token ids."""
    if isinstance(prompt, list) and prompt:
        if isinstance(prompt[0], int):
            yield prompt
        else:
            yield from (item for item in prompt if isinstance(item, list))


def _num_answers(body: dict[str, Any]) -> int:
    prompt, n = body.get("prompt"), body.get("n")
    num_prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return num_prompts * (n if isinstance(n, int) and n > 0 else 1)
