"""Tokenizer files that are damaged or made to harm: a one-line error with cause and fix, in bounded time and memory."""

import json
import os
import re
import resource
import shutil
import struct
import sys
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest

from farthing.engine.tokenization.tokenizer import load_tokenizer
from farthing.engine.tokenization.tokenizer_files import MAX_TOKENIZER_BYTES
from farthing.errors import FarthingError, TokenizerError, UnsupportedError

MAX_SECONDS = 10  # of which honest loading takes 0.1; a bomb would take minutes
MAX_BYTES = 400 * 2**20


def small() -> dict[str, Any]:
    """A byte-level tokenizer.json of four tokens."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": 3, "content": "<end>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": True}
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"],
        },
    }  # fmt: skip


def changed(path: str, value: Any) -> bytes:
    content = small()
    *parents, last = path.split(".")
    inner = content
    for key in parents:
        inner = inner[int(key) if isinstance(inner, list) else key]
    inner[int(last) if isinstance(inner, list) else last] = value
    return json.dumps(content).encode()


def split_by(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def replace(old: str, new: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": old}, "content": new}


def sequence(key: str, steps: list[Any]) -> dict[str, Any]:
    return {"type": "Sequence", key: steps}


def test_the_small_tokenizer_is_sound(tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps(small()))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("ab<end>", parse_special=True) == [2, 3] and tokenizer.vocab_size == 4


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "damaged"),
        (json.dumps(small()).encode()[:-40], "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[1, 2]", "holds a list"),
        (b'{"a": ' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "nested too deeply"),
        (b'{"model": {"vocab": {"a": 0, "a": 1}}}', "'a' is there twice"),
        (b'{"a": [' + b"[]," * 5_000_000 + b"1]}", "more than 4,000,000 values"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "damaged"),
        (b"{}", "no vocabulary"),
        (changed("model", []), "no vocabulary"),
        (changed("model.vocab", 7), "no vocabulary"),
        (changed("model.vocab", {}), "can't be loaded"),
        (changed("model.vocab.ab", -1), "'ab' has the id -1"),
        (changed("model.vocab.ab", 2**31), "'ab' has the id 2147483648"),
        (changed("model.vocab.ab", 10**400), "'ab' has the id 1000"),
        (changed("model.vocab.ab", "2"), "'ab' has the id 2"),
        (changed("model.vocab.ab", True), "'ab' has the id True"),
        (changed("model.vocab.ab", None), "'ab' has the id None"),
        (changed("model.vocab.ab", 1), "id 1 to 'b' and to 'ab'"),
        (changed("model.vocab", {"a": 0, "b" * 5000: 1}), "no text of 1 to 4,096"),
        (changed("model.vocab", {"a": 0, "": 1}), "no text of 1 to 4,096"),
        (changed("model.vocab", {"\ud800": 0, "b": 1, "ab": 2, "a": 4}), "can't be loaded"),
        (changed("model.merges", ["a b", "a zzz"]), "can't be loaded"),
        (changed("model.merges", [7]), "can't be loaded"),
        (changed("model.merges", "ab"), "can't be loaded"),
        (changed("model.type", "pickle"), "can't be loaded"),
        (changed("added_tokens", 7), "added_tokens is not a list"),
        (changed("added_tokens", ["x"]), "added_tokens is not a list"),
        (changed("added_tokens.0.id", 77), "'<end>' has the id 77, and the library gives it"),
        (changed("added_tokens.0.id", 2), "id 2 to 'ab' and to '<end>'"),
        (changed("added_tokens.0.content", None), "no text"),
        (changed("added_tokens.0.content", "x" * 5000), "no text"),
        (changed("normalizer", {"type": "Prepend", "prepend": "x" * 1000}), "normalizer .* makes 1,000 characters"),
        (changed("normalizer", replace("a", "b" * 9000)), "string of 9,000 characters in normalizer"),
        (changed("normalizer", sequence("normalizers", [replace("a", "aa")] * 40)), "normalizer .* characters of one"),
        (changed("normalizer", sequence("normalizers", [{"type": "NFC"}] * 5000)), "values around its model"),
        (changed("normalizer", {"type": "Precompiled", "precompiled_charsmap": "A" * 2**21}), "string of 2,097,152"),
        (changed("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}), "can't"),
        (changed("decoder", replace("a", "b" * 1000)), "decoder .* makes 1,000 characters"),
        (changed("pre_tokenizer", split_by("a" * 9000)), "string of 9,000 characters in pre_tokenizer"),
        (changed("pre_tokenizer", split_by("(" * 4000 + "a" + ")" * 4000)), "can't be loaded"),
        (changed("pre_tokenizer", split_by("(")), "can't be loaded"),
        (changed("pre_tokenizer", {"type": "Python", "code": "1"}), "can't be loaded"),
    ],
)
def test_a_bad_tokenizer_json_is_refused_with_its_cause(data, cause, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(data)
    assert_refused(tmp_path, TokenizerError, cause)


@pytest.mark.parametrize(
    "decoder",
    [
        7,
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "Strip", "content": "x", "start": 9, "stop": 0},
        sequence("decoders", [{"type": "Fuse"}, replace("a", "b")]),
        {"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"},
    ],
)
def test_a_decoder_that_does_not_map_tokens_to_bytes_is_named(decoder, tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(changed("decoder", decoder))
    assert_refused(tmp_path, UnsupportedError, "decoder step")


def test_a_decoder_nested_a_thousand_deep_is_refused(tmp_path):
    decoder: dict[str, Any] = {"type": "ByteLevel"}
    for _ in range(400):
        decoder = sequence("decoders", [decoder])
    (tmp_path / "tokenizer.json").write_bytes(changed("decoder", decoder))
    assert_refused(tmp_path, FarthingError, "decoder|nested|loaded")


def test_control_tokens_of_a_million_characters_are_refused(tmp_path):
    token = small()["added_tokens"][0]
    deep = [token | {"id": 3 + i, "content": "<" * (i + 2)} for i in range(1500)]
    (tmp_path / "tokenizer.json").write_bytes(changed("added_tokens", deep))
    assert_refused(tmp_path, TokenizerError, "1,127,250 characters")


def test_control_tokens_that_prefix_each_other_hundreds_deep_are_refused(tmp_path):
    token = small()["added_tokens"][0]
    deep = [token | {"id": 3 + i, "content": "<" * (i + 2)} for i in range(500)]
    (tmp_path / "tokenizer.json").write_bytes(changed("added_tokens", deep))
    assert_refused(tmp_path, TokenizerError, "prefixes of each other")


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MAX_TOKENIZER_BYTES * 4)
    assert_refused(tmp_path, TokenizerError, "larger than 64 MiB")


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "tokenizer.json")
    assert_refused(tmp_path, TokenizerError, "is not a file")


def test_an_expression_that_backtracks_without_end_gives_an_error_in_time(tmp_path):
    (tmp_path / "tokenizer.json").write_bytes(changed("pre_tokenizer", split_by("(a+)+$")))
    tokenizer = load_tokenizer(tmp_path)
    started = time.monotonic()
    with pytest.raises(TokenizerError, match="failed on this text"):
        tokenizer.encode("a" * 40 + "!")
    assert time.monotonic() - started < MAX_SECONDS
    assert tokenizer.encode("ab") == [2]


def test_truncation_padding_and_dropout_of_the_file_are_not_applied(tmp_path):
    content = small()
    content["truncation"] = {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                          "pad_type_id": 0, "pad_token": "a"}  # fmt: skip
    content["model"]["dropout"] = 0.9
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert load_tokenizer(tmp_path).encode("abab" * 8) == [2] * 16


def test_a_text_of_control_spellings_costs_no_more_than_plain_text(tmp_path):
    bundled_into(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    for text in ("</s>" * 50_000, "<" * 200_000, "<|" * 100_000, "<|user|" * 30_000):
        started = time.monotonic()
        assert not tokenizer.special_ids & set(tokenizer.encode(text, add_special=False))
        assert time.monotonic() - started < MAX_SECONDS


@pytest.mark.parametrize(
    ("name", "data", "cause"),
    [
        ("tokenizer_config.json", b"{", "tokenizer_config.json is damaged"),
        ("tokenizer_config.json", b'{"chat_template": 7}', "chat_template .* is a int"),
        ("tokenizer_config.json", b"{" + b" " * 9 * 2**20 + b"}", "larger than 8 MiB"),
        ("tokenizer_config.json", b"[" * 100_000, "nested too deeply"),
        ("generation_config.json", b'{"eos_token_id": "2"}', "eos_token_id is 2"),
        ("generation_config.json", b'{"eos_token_id": [1, -1]}', "eos_token_id is"),
        ("generation_config.json", b'{"eos_token_id": NaN}', "eos_token_id is nan"),
        ("config.json", b'{"eos_token_id": {"a": 1}}', "eos_token_id is"),
        ("special_tokens_map.json", b"\x80", "special_tokens_map.json is damaged"),
        ("chat_template.jinja", b"\xff", "chat_template.jinja is not UTF-8"),
    ],
)
def test_a_bad_file_beside_the_tokenizer_is_refused_with_its_cause(name, data, cause, tmp_path):
    bundled_into(tmp_path)
    (tmp_path / name).write_bytes(data)
    assert_refused(tmp_path, TokenizerError, cause)


def piece(content: bytes) -> bytes:
    record = b"\x0a" + bytes([len(content)]) + content + b"\x15" + struct.pack("<f", 0.0)
    return b"\x0a" + bytes([len(record)]) + record


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "no pieces"),
        (b"not a model at all", "damaged or cut off"),
        (piece(b"a") * 3 + b"\x0a\x7f", "damaged or cut off"),
        (b"\x0a" + b"\xff" * 20, "damaged or cut off"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "damaged or cut off"),
        (piece(b"a") * 1_100_000, "after 1,048,577 pieces"),
        (b"\x0a\xff\x7f" + b"x" * 2**14, "record of 16,383 bytes"),
        (b"\x1a\xff\xff\x7f" + b"x" * 2**21, "record of 2,097,151 bytes"),
        (piece(b"a") * 2, "can't be loaded"),
        (piece(b""), "can't be loaded"),
        (piece(b"a"), "can't be loaded"),
        (b"\x0a\x02\x0a\x7f", "can't be loaded"),
        (b"\0" * 17 * 2**20, "larger than 16 MiB"),
    ],
)
def test_a_bad_tokenizer_model_is_refused_with_its_cause(data, cause, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(data)
    assert_refused(tmp_path, TokenizerError, cause)


def test_a_real_tokenizer_model_cut_anywhere_is_refused(shared, tmp_path):
    whole = (shared / "fixtures" / "tokenizers" / "llama2" / "tokenizer.model").read_bytes()
    for length in (1, 100, 250_000, len(whole) - 300):
        (tmp_path / "tokenizer.model").write_bytes(whole[:length])
        assert_refused(tmp_path, TokenizerError, "damaged or cut off|can't be loaded")


@pytest.mark.parametrize(
    "entry", ['{"x": {"content": "<a>"}}', '{"32000": {"content": 7}}', '{"32000": 7}', '{"-1": {"content": "<a>"}}']
)
def test_bad_tokens_beside_a_tokenizer_model_are_refused(entry, shared, tmp_path):
    shutil.copy(shared / "fixtures" / "tokenizers" / "llama2" / "tokenizer.model", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(f'{{"added_tokens_decoder": {entry}}}')
    assert_refused(tmp_path, TokenizerError, "tokenizer_config.json: the token")


def bundled_into(folder: Path) -> None:
    with as_file(files("farthing.models") / "bundled") as bundled:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(bundled / name, folder)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def assert_refused(folder: Path, error: type[FarthingError], cause: str) -> None:
    started, peak = time.monotonic(), peak_bytes()
    with pytest.raises(error) as caught:
        load_tokenizer(folder)
    assert time.monotonic() - started < MAX_SECONDS and peak_bytes() - peak < MAX_BYTES
    text = str(caught.value)
    assert re.search(cause, text), text
    assert "\n" not in text and len(text) < 500 and caught.value.fix
