"""Tokenizers in GGUF metadata: the published test vectors, and equality with the tokenizers they were made from."""

import json
import random
import re
from pathlib import Path

import pytest
import sentencepiece
import tokenizers as tokenizers_library

from farthing.engine.tokenization.gguf_tokenizer import PRE_TOKENIZERS, tokenizer_from_gguf
from farthing.engine.tokenization.tokenizer import Tokenizer
from farthing.errors import FarthingError, TokenizerError, UnsupportedError
from farthing.models.gguf_header import read_gguf_header

PIECES = (
    "the", " quick", "  ", "   ", "\n", "\r\n", "\t", "é", "你", "🙂", "12", "4567", "'s", "'LL", "...", "ß", "ॐ",
    "Hello", "WORLD", "\u00a0", "</s>", "<s>", "<0x0A>", "=", "ǅ", "x", "\u2028", "👍", "a", "aa", "aaa",
)  # fmt: skip
SMALL_BPE = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "Ġ", "Ġa", "<|end|>", "<tool>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 1, 1, 3, 4],
    "tokenizer.ggml.merges": ["a b", "Ġ a"],
    "tokenizer.ggml.eos_token_id": 5,
}
SMALL_SPM = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "a",
        "▁a",
        "aa",
    ],
    "tokenizer.ggml.scores": [0.0] * 259 + [-1.0, -2.0, -3.0, -4.0],
    "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [1] * 4,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def random_texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(PIECES, k=draw.randint(0, 16))) for _ in range(count)]


def from_file(path: Path) -> Tokenizer:
    return tokenizer_from_gguf(read_gguf_header(path).metadata)


def as_gguf(path: Path, pre: str) -> dict[str, object]:
    """What a converter writes for a byte-level tokenizer.json."""
    content = json.loads(path.read_text())
    added = {token["content"]: token for token in content["added_tokens"]}
    ids = content["model"]["vocab"] | {token["content"]: token["id"] for token in added.values()}
    tokens = sorted(ids, key=ids.__getitem__)
    types = [1 if token not in added else 3 if added[token]["special"] else 4 for token in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    return {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types, "tokenizer.ggml.merges": merges,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm"])
def test_the_published_vectors_pass(name, shared):
    path = shared / "fixtures" / "tokenizers" / "gguf-vocab" / f"ggml-vocab-{name}.gguf"
    tokenizer = from_file(path)
    *texts, last = Path(f"{path}.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    vectors = [[int(token) for token in line.split()] for line in Path(f"{path}.out").read_text().splitlines()]
    assert len(texts) == len(vectors) == 46 and not last
    for text, ids in zip(texts, vectors, strict=True):
        assert tokenizer.encode(text, add_special=False) == ids, text
        assert tokenizer.decode(ids) == text


def test_the_llama_vocabulary_is_sentencepiece_itself(shared):
    root = shared / "fixtures" / "tokenizers"
    tokenizer = from_file(root / "gguf-vocab" / "ggml-vocab-llama-spm.gguf")
    reference = sentencepiece.SentencePieceProcessor(model_file=str(root / "llama2" / "tokenizer.model"))
    for text in random_texts(1, 500):
        ids = reference.encode(text)
        assert tokenizer.encode(text) == [1, *ids], text
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize(("folder", "pre"), [("llama3", "llama-bpe"), ("qwen2.5", "qwen2")])
def test_a_converted_byte_level_tokenizer_gives_the_ids_of_its_tokenizer_json(folder, pre, shared):
    path = shared / "fixtures" / "tokenizers" / folder / "tokenizer.json"
    tokenizer = tokenizer_from_gguf(as_gguf(path, pre))
    library = tokenizers_library.Tokenizer.from_file(str(path))
    control = list(tokenizer.special_tokens)[:3]
    for text in random_texts(2, 200):
        ids = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, add_special=False) == ids, text
        assert tokenizer.decode(ids) == library.decode(ids)
        chat = f"{control[0]}{text}{control[1]}\n{control[2]}"
        expected = library.encode(chat, add_special_tokens=False).ids
        assert tokenizer.encode(chat, add_special=False, parse_special=True) == expected


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["Don", "'t", " say", " 12345", "!!", "\n\n  ", " Ab"]),
        ("default", ["Don", "'", "t", " say", " ", "123", "45", "!!", "\n\n  ", " Ab"]),
        ("llama-bpe", ["Don", "'t", " say", " ", "123", "45", "!!\n\n", "  ", " Ab"]),
        ("qwen2", ["Don", "'t", " say", " ", "1", "2", "3", "4", "5", "!!\n\n", "  ", " Ab"]),
        ("smollm", ["Don", "'t", " say", " ", "1", "2", "3", "4", "5", "!!", "\n\n  ", " Ab"]),
        ("tekken", ["Don", "'t", " say", " ", "1", "2", "3", "4", "5", "!!\n\n", "  ", " Ab"]),
    ],
)
def test_a_pre_tokenizer_splits_as_its_expression_says(pre, pieces):
    text = "Don't say 12345!!\n\n   Ab"
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    expressions = PRE_TOKENIZERS[pre].splits
    split = [
        tokenizers_library.pre_tokenizers.Split(tokenizers_library.Regex(expression), "isolated")
        for expression in expressions
    ]
    found = [piece for piece, _ in tokenizers_library.pre_tokenizers.Sequence(split).pre_tokenize_str(text)]
    assert found == pieces


def test_the_checkpoint_of_stories_has_a_tokenizer(shared):
    tokenizer = from_file(shared / "fixtures" / "checkpoints" / "stories260K.gguf")
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_ids, tokenizer.adds_bos) == (512, 1, {2}, True)
    for text in ("Once upon a time, there was a girl.", "🙂 \n\n é", *random_texts(3, 100)):
        ids = tokenizer.encode(text)
        assert ids[0] == 1 and tokenizer.decode(ids) == text
    assert tokenizer.encode("</s>", add_special=False, parse_special=True) == [2]


def test_control_and_user_defined_tokens_are_told_apart():
    tokenizer = tokenizer_from_gguf(SMALL_BPE)
    assert tokenizer.special_tokens == {"<|end|>": 5} and tokenizer.eos_ids == {5}
    assert tokenizer.encode("ab<tool>ab") == [2, 6, 2]
    assert tokenizer.encode("ab<|end|>a", parse_special=True) == [2, 5, 0]
    assert tokenizer.decode([2, 5, 6, 4]) == "ab<tool> a"


def test_a_vocabulary_without_types_finds_its_bytes_and_special_tokens():
    bare = {key: value for key, value in SMALL_SPM.items() if key != "tokenizer.ggml.token_type"}
    tokenizer = tokenizer_from_gguf(bare)
    assert tokenizer.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert tokenizer.encode("a\n") == [1, 261, 13] == tokenizer_from_gguf(SMALL_SPM).encode("a\n")


def test_the_metadata_decides_on_bos_and_on_the_leading_space():
    tokenizer = tokenizer_from_gguf(
        SMALL_SPM | {"tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_space_prefix": False}
    )
    assert tokenizer.encode("aa") == [262]
    assert tokenizer.decode([259, 260]) == " a"


def test_no_token_is_written_as_the_highest_number():
    assert tokenizer_from_gguf(SMALL_BPE | {"tokenizer.ggml.bos_token_id": 2**32 - 1}).bos_id is None


@pytest.mark.parametrize(
    ("change", "error", "cause"),
    [
        ({"model": "rwkv"}, UnsupportedError, "model 'rwkv'"),
        ({"model": ["x"] * 10**6}, UnsupportedError, "tokenizer of the model"),
        ({"pre": "kimi-k2"}, UnsupportedError, "'kimi-k2'.*llama-bpe"),
        ({"tokens": None}, TokenizerError, "no list tokenizer.ggml.tokens"),
        ({"tokens": []}, TokenizerError, "holds 0 entries"),
        ({"tokens": ["a", 7]}, TokenizerError, "2 entries, 1 of them text"),
        ({"tokens": ["a", "b" * 5000]}, TokenizerError, "2 entries, 1 of them text"),
        ({"tokens": ["a", "b", "ab", "Ġ", "Ġa", "<|end|>", "a"]}, TokenizerError, "twice"),
        ({"token_type": [1]}, TokenizerError, "1 entries for 7 tokens"),
        ({"token_type": [1, 1, 1, 1, 1, 3, 99]}, TokenizerError, "0 to 6"),
        ({"merges": None}, TokenizerError, "no list tokenizer.ggml.merges"),
        ({"merges": ["ab"]}, TokenizerError, "'ab', which is no pair"),
        ({"merges": [7]}, TokenizerError, "no pair"),
        ({"merges": ["a zzz"]}, TokenizerError, "can't be built"),
        ({"eos_token_id": 7}, TokenizerError, "eos_token_id is 7, outside the vocabulary of 7"),
        ({"bos_token_id": -1}, TokenizerError, "bos_token_id is -1"),
        ({"bos_token_id": "1"}, TokenizerError, "bos_token_id is 1"),
        ({"add_bos_token": 1}, TokenizerError, "add_bos_token is 1"),
    ],
)
def test_damaged_metadata_of_byte_level_tokenizers_is_refused_with_its_cause(change, error, cause):
    assert_refused(SMALL_BPE | {f"tokenizer.ggml.{key}": value for key, value in change.items()}, error, cause)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"scores": None}, "no list tokenizer.ggml.scores"),
        ({"scores": [0.0]}, "1 entries for 263 tokens"),
        ({"scores": [float("nan")] * 263}, "no number"),
        ({"scores": [1e38] * 263}, "no number"),
        ({"scores": ["0"] * 263}, "no number"),
        ({"token_type": [2, 2, 2] + [6] * 256 + [1] * 4}, "can't be loaded"),
        ({"token_type": [2, 3, 3] + [6] * 255 + [1] * 5}, "can't be loaded"),
        ({"tokens": ["a"] * 263}, "can't be loaded"),
        ({"tokens": ["\ud800"] * 263}, "tokens"),
    ],
)
def test_damaged_metadata_of_sentencepiece_tokenizers_is_refused_with_its_cause(change, cause):
    changed = SMALL_SPM | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    assert_refused(changed, TokenizerError, cause)


def assert_refused(metadata: dict[str, object], error: type[FarthingError], cause: str) -> None:
    with pytest.raises(error) as caught:
        tokenizer_from_gguf(metadata)
    text = str(caught.value)
    assert re.search(cause, text), text
    assert "\n" not in text and len(text) < 500 and caught.value.fix
