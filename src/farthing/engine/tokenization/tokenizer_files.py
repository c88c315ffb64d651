"""Reads the small files around a tokenizer as untrusted bytes: sizes, structure and types are checked before use.

A file that some library will parse is limited here first, by its size and by how many values its JSON can hold, so that
no tokenizer file costs more than about a second and half a gigabyte. Knows what tokenizer_config.json and its
neighbours say (special tokens by role, end of sequence, chat template); knows no tokenizer library.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farthing.errors import TokenizerError

MAX_TOKENIZER_BYTES = 64 * 2**20  # the largest tokenizer.json of 2025 (262k tokens) has 35 MB
MAX_CONFIG_BYTES = 8 * 2**20
MAX_JSON_VALUES = 4_000_000  # 262k tokens and 514k merges, written as pairs, are 1.6 million
MAX_TOKEN_ID = 2**24 - 1
MAX_TOKEN_CHARACTERS = 4096  # the longest real tokens are runs of 512 to 1024 equal characters

_AGAIN = "download the tokenizer files of the model again"


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes`; TokenizerError otherwise."""
    try:
        if not path.is_file():
            raise TokenizerError(f"{path} is not a file", fix=_AGAIN)
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise TokenizerError(f"{path} can't be read: {error.strerror or error}", fix="check its permissions") from error
    if len(data) > max_bytes:
        raise TokenizerError(
            f"{path.name} is larger than {max_bytes // 2**20} MiB, far above any real one",
            fix="use the tokenizer of a checkpoint that you trust",
        )
    return data


def parse_json_object(data: bytes, name: str) -> dict[str, Any]:
    """A JSON object without repeated keys, of at most MAX_JSON_VALUES values; TokenizerError naming the cause."""
    if sum(data.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_VALUES:
        raise TokenizerError(f"{name} holds more than {MAX_JSON_VALUES:,} values, far above any real one", fix=_AGAIN)
    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise TokenizerError(f"{name} is nested too deeply", fix=_AGAIN) from error
    except ValueError as error:  # not UTF-8, not JSON, a repeated key
        raise TokenizerError(f"{name} is damaged: {str(error)[:200]}", fix=_AGAIN) from error
    if not isinstance(parsed, dict):
        raise TokenizerError(f"{name} holds a {type(parsed).__name__}, not an object", fix=_AGAIN)
    return parsed


def read_config(path: Path) -> dict[str, Any]:
    """A small JSON file of the model, {} where it is absent."""
    if not path.exists():
        return {}
    return parse_json_object(read_bounded(path, MAX_CONFIG_BYTES), path.name)


def checked_token(content: object, token_id: object, name: str) -> tuple[str, int]:
    """A token and its id, both of the right type and of a possible size."""
    if not isinstance(content, str) or not content or len(content) > MAX_TOKEN_CHARACTERS:
        raise TokenizerError(f"{name}: the token {str(content)[:40]!r} is no text of 1 to 4,096 characters", fix=_AGAIN)
    if not isinstance(token_id, int) or isinstance(token_id, bool) or not 0 <= token_id <= MAX_TOKEN_ID:
        raise TokenizerError(f"{name}: the token {content[:40]!r} has the id {str(token_id)[:40]}", fix=_AGAIN)
    return content, token_id


def named_tokens(*configs: Mapping[str, Any]) -> dict[str, str]:
    """{"bos_token": "<s>", ...}: the special tokens that a chat template may name; the first config that has one wins.

    A token that a config sets to null stays absent, whatever later configs say (Qwen has no bos_token).
    """
    found: dict[str, str | None] = {}
    for config in configs:
        for key, value in config.items():
            if key.endswith("_token") and key not in found:
                content = value.get("content") if isinstance(value, dict) else value
                if content is None or isinstance(content, str):
                    found[key] = content
    return {key: content for key, content in found.items() if content}


def added_tokens(
    config: Mapping[str, Any], extra: Mapping[str, Any], named: Mapping[str, str]
) -> dict[str, tuple[int, bool]]:
    """Tokens that stand beside a tokenizer.model, by content: (id, whether it is a control token).

    From `added_tokens_decoder` of tokenizer_config.json, and from added_tokens.json (`extra`), which does not say which
    are control tokens: those that have a role.
    """
    name = "tokenizer_config.json"
    more = config.get("additional_special_tokens")
    control = {*named.values(), *(token for token in more or () if isinstance(token, str))}
    found: dict[str, tuple[int, bool]] = {}
    for content, token_id in extra.items():
        content, token_id = checked_token(content, token_id, "added_tokens.json")
        found[content] = token_id, content in control
    decoder = config.get("added_tokens_decoder")
    for text, token in decoder.items() if isinstance(decoder, dict) else ():
        entry = token if isinstance(token, dict) else {}
        content, token_id = checked_token(entry.get("content"), int(text) if text.isdecimal() else text, name)
        found[content] = token_id, entry.get("special") is True
    return found


def token_ids(config: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """The ids under a key that holds one id, a list of ids, null, or nothing; TokenizerError for anything else."""
    value = config.get(key)
    values = value if isinstance(value, list) else [] if value is None else [value]
    if any(not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= MAX_TOKEN_ID for item in values):
        raise TokenizerError(f"{key} is {str(value)[:80]}", fix="it must be a token id or a list of token ids")
    return tuple(values)


def chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The chat template of a checkpoint folder: chat_template.jinja, else `chat_template` of tokenizer_config.json.

    Where a checkpoint has several by name, the one called "default".
    """
    file = folder / "chat_template.jinja"
    if file.exists():
        try:
            return read_bounded(file, MAX_CONFIG_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise TokenizerError("chat_template.jinja is not UTF-8", fix=_AGAIN) from error
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {item.get("name"): item.get("template") for item in template if isinstance(item, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise TokenizerError(
            f"chat_template in tokenizer_config.json is a {type(template).__name__}", fix="it must be text"
        )
    return template


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {repeated[:40]!r} is there twice")
    return made
