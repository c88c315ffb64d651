"""Tokens to text as they come: whole characters, the text that decoding at once gives, stop strings at any border."""

import time
from importlib.resources import as_file, files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.engine.tokenization.detokenizer import Detokenizer
from farthing.engine.tokenization.gguf_tokenizer import tokenizer_from_gguf
from farthing.engine.tokenization.tokenizer import Tokenizer, load_tokenizer
from farthing.engine.tokenization.tokenizer_json import byte_level_bytes

TEXTS = st.text(st.sampled_from("ab \n.é你好🙂👩🏽‍🚀\u0301ß▁\ufffd"), max_size=20)
STOPS = st.lists(st.text(st.sampled_from("ab \né你🙂"), min_size=1, max_size=4), max_size=3)
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def spaced() -> Tokenizer:
    """A sentencepiece tokenizer: byte fallback, and a space in front of every text."""
    pieces = ["<unk>", "<s>", "</s>", *BYTES, "▁", "a", "b", "▁a", "▁▁", "é", "你", "aba"]
    return tokenizer_from_gguf({
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.scores": [-float(i) for i in range(len(pieces))],
        "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 8,
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
    })  # fmt: skip


def byte_level() -> Tokenizer:
    """A byte-level tokenizer: every byte a token, so that characters are split wherever they can be."""
    characters = [
        chr(code) for code in range(0x21, 0x180) if byte_level_bytes(chr(code)) != chr(code).encode() or code < 0x7F
    ]
    pieces = [*characters, "ab", "ðŁ", "<end>"]
    return tokenizer_from_gguf({
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": pieces,
        "tokenizer.ggml.token_type": [1] * (len(pieces) - 1) + [3], "tokenizer.ggml.merges": ["a b", "ð Ł"],
        "tokenizer.ggml.eos_token_id": len(pieces) - 1,
    })  # fmt: skip


def bundled() -> Tokenizer:
    with as_file(files("farthing.models") / "bundled") as folder:
        return load_tokenizer(folder)


TOKENIZERS = {"spaced": spaced(), "byte_level": byte_level(), "bundled": bundled()}
every_tokenizer = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)


def run(stream: Detokenizer, ids: list[int]) -> list[str]:
    return [*(stream.push(token_id) for token_id in ids), stream.finish()]


@every_tokenizer
@given(data=st.data())
def test_pushed_text_joined_is_the_decoded_text_whatever_the_tokens(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size + 2), max_size=30))
    skip_special = data.draw(st.booleans())
    stream = Detokenizer(tokenizer, skip_special=skip_special)
    parts = run(stream, ids)
    assert "".join(parts) == tokenizer.decode(ids, skip_special=skip_special)


@every_tokenizer
@given(text=TEXTS)
def test_text_comes_out_in_whole_characters(tokenizer, text):
    parts = run(Detokenizer(tokenizer), tokenizer.encode(text, add_special=False))
    back = text.replace("▁", " ") if tokenizer is TOKENIZERS["spaced"] else text
    assert "".join(parts) == back
    assert sum(part.count("\ufffd") for part in parts) == text.count("\ufffd")


@pytest.mark.parametrize("name", ["llama2", "llama3", "mistral-7b-v0.3-hf", "qwen2.5"])
def test_real_tokenizers_stream_what_they_decode(name, shared):
    tokenizer = load_tokenizer(shared / "fixtures" / "tokenizers" / name)
    ids = list(range(0, tokenizer.vocab_size, 97)) + tokenizer.encode(" Ünïcode 🙂🤷🏽‍♀️ 你好\n\n  end ")
    for skip_special in (True, False):
        stream = Detokenizer(tokenizer, skip_special=skip_special)
        assert "".join(run(stream, ids)) == tokenizer.decode(ids, skip_special=skip_special)


@every_tokenizer
@given(text=TEXTS, cut=st.integers(0, 40))
def test_an_output_continues_its_prompt(tokenizer, text, cut):
    ids = tokenizer.encode("a" + text, add_special=False)
    prompt, output = ids[: cut + 1], ids[cut + 1 :]
    whole, begun = tokenizer.decode(ids), tokenizer.decode(prompt)
    continued = "".join(run(Detokenizer(tokenizer, prompt_ids=prompt), output))
    finished = begun.removesuffix("\ufffd")  # the character that the prompt began
    assert whole in (begun + continued, finished + continued)


def test_an_output_after_visible_text_keeps_its_leading_space():
    tokenizer = TOKENIZERS["spaced"]
    a = tokenizer.encode("a", add_special=False)
    assert "".join(run(Detokenizer(tokenizer), a)) == "a"
    assert "".join(run(Detokenizer(tokenizer, prompt_ids=[1]), a)) == "a"
    assert "".join(run(Detokenizer(tokenizer, prompt_ids=[1, *a]), a)) == " a"


def test_an_unfinished_character_is_held_and_replaced_at_the_end():
    tokenizer = TOKENIZERS["byte_level"]
    *start, last = tokenizer.encode("a🙂")
    stream = Detokenizer(tokenizer)
    assert [stream.push(token) for token in start] == ["a", *[""] * (len(start) - 1)]
    assert stream.finish() == "\ufffd"
    stream = Detokenizer(tokenizer)
    assert "".join(stream.push(token) for token in (*start, last)) == "a🙂"


@every_tokenizer
@given(
    text=TEXTS,
    stops=st.lists(st.text(st.sampled_from("ab \né你🙂"), min_size=1, max_size=4), max_size=3),
)
def test_text_ends_at_the_first_stop_string_and_never_shows_a_part_of_it(tokenizer, text, stops):
    """The first stop string is the one that is complete first; of several, the one that begins first."""
    ids = tokenizer.encode(text, add_special=False)
    plain, whole = Detokenizer(tokenizer), ""
    for part in run(plain, ids):
        whole += part
        ends = sorted((whole.find(stop), stops.index(stop), stop) for stop in stops if stop in whole)
        if ends:
            break
    found = ends[0][2] if ends else None
    kept = whole[: ends[0][0]] if ends else whole
    stream, shown = Detokenizer(tokenizer, stop=stops), ""
    for part in run(stream, ids):
        shown += part
        assert kept.startswith(shown)
    assert stream.stop_found == found and shown == kept


def test_a_stop_string_is_found_across_tokens_and_held_back_no_longer_than_needed():
    tokenizer = TOKENIZERS["bundled"]
    stream = Detokenizer(tokenizer, stop=["END", "xyz"])
    ids = [tokenizer.encode(character, add_special=False)[0] for character in "aENEND!"]
    assert [stream.push(token) for token in ids] == ["a", "", "", "EN", "", "", ""]
    assert stream.stop_found == "END" and stream.finish() == ""


def test_a_begun_stop_string_is_shown_when_the_output_ends():
    tokenizer = TOKENIZERS["bundled"]
    stream = Detokenizer(tokenizer, stop=["b!"])
    assert "".join(stream.push(token) for token in tokenizer.encode("ab", add_special=False)) == "a"
    assert stream.finish() == "b"


def test_a_replaced_character_at_the_end_can_complete_a_stop_string():
    tokenizer = TOKENIZERS["byte_level"]
    stream = Detokenizer(tokenizer, stop=["a\ufffd"])
    text = "".join(stream.push(token) for token in tokenizer.encode("ba🙂")[:-1]) + stream.finish()
    assert text == "b" and stream.stop_found == "a\ufffd"


def test_stop_strings_count_only_after_min_tokens():
    tokenizer = TOKENIZERS["bundled"]
    ids = [tokenizer.encode(character, add_special=False)[0] for character in "abab"]
    stream = Detokenizer(tokenizer, stop=["b"], min_tokens=3)
    assert "".join(stream.push(token) for token in ids) == "aba" and stream.stop_found == "b"
    stream = Detokenizer(tokenizer, stop=["ab"], min_tokens=1)
    assert "".join(stream.push(token) for token in ids) == "ab" and stream.stop_found == "ab"


def test_special_tokens_are_shown_only_on_demand():
    tokenizer = TOKENIZERS["byte_level"]
    ids = [*tokenizer.encode("a"), *tokenizer.eos_ids]
    assert "".join(run(Detokenizer(tokenizer), ids)) == "a"
    assert "".join(run(Detokenizer(tokenizer, skip_special=False), ids)) == "a<end>"


@settings(max_examples=5)
@given(stop=st.sampled_from([["zz"], ["a" * 50 + "z"], []]))
def test_the_cost_of_a_token_does_not_grow_with_the_output(stop):
    tokenizer = TOKENIZERS["spaced"]
    a = tokenizer.encode("xa", add_special=False)[-1]
    started = time.monotonic()
    stream = Detokenizer(tokenizer, stop=stop)
    text = "".join([stream.push(a) for _ in range(100_000)])
    assert text + stream.finish() == "a" * 100_000
    assert time.monotonic() - started < 10  # a window that grows would take minutes
