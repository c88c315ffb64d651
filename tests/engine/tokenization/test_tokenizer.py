"""Tokenizers of checkpoint folders: the ids that transformers gives, text that comes back, control tokens kept out."""

import json
import random
import shutil
from importlib.resources import as_file, files
from pathlib import Path

import pytest
import tokenizers as tokenizers_library
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from farthing.engine.tokenization.tokenizer import Tokenizer, load_tokenizer
from farthing.engine.tokenization.tokenizer_spellings import CUT_MARK, Spellings
from farthing.errors import TokenizerError

FOLDERS = ("llama2", "llama3", "mistral-7b-v0.3-hf", "qwen2.5")
TEXTS = (
    "", " ", "  ", "\n", "\n\n \t", "Hello world", " Hello", "Hello ", "Hello,  world!\r\n", "naïve café", "你好，世界",
    "ゆきの 결정", "🙂🤷🏽‍♀️", "\u200b\u00a0x", "e\u0301", "عربي", "1234567890", "3.14 don't I'LL",
    "def f(x):\n    return x\n",
    "\x00\x01", "a" * 300, "▁a ▁▁", "\U0001F468\u200d\U0001F469", "\u2028line", "<unused> [x]",
)  # fmt: skip
PIECES = ("the", " quick", "  ", "\n", "é", "你", "🙂", "12", "'s", ".", "\t", "ß", "ॐ", "x", "▁", "\u00a0", "</", "|>")


@pytest.fixture(scope="module")
def bundled() -> Tokenizer:
    with as_file(files("farthing.models") / "bundled") as folder:
        return load_tokenizer(folder)


@pytest.fixture(scope="module")
def tokenizers(shared: Path) -> dict[str, Tokenizer]:
    return {name: load_tokenizer(shared / "fixtures" / "tokenizers" / name) for name in FOLDERS}


@pytest.fixture(scope="module")
def references(shared: Path) -> dict[str, PreTrainedTokenizerFast]:
    root = shared / "fixtures" / "tokenizers"
    return {name: PreTrainedTokenizerFast.from_pretrained(root / name) for name in FOLDERS}


@pytest.fixture(scope="module")
def sentencepiece_llama2(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """llama2 from its tokenizer.model alone."""
    folder = tmp_path_factory.mktemp("llama2")
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copy(shared / "fixtures" / "tokenizers" / "llama2" / name, folder)
    return load_tokenizer(folder)


def random_texts(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(PIECES, k=draw.randint(0, 20))) for _ in range(count)]


@pytest.mark.parametrize("name", FOLDERS)
def test_ids_are_those_of_transformers(name, tokenizers, references):
    for text in (*TEXTS, *random_texts(1, 200)):
        assert tokenizers[name].encode(text) == references[name](text).input_ids, text


@pytest.mark.parametrize("name", FOLDERS)
def test_text_with_control_tokens_is_read_as_transformers_reads_it_when_asked_to(name, tokenizers, references):
    control = sorted(tokenizers[name].special_tokens)[:20]
    for text in ("x".join(control), " ".join(control), f"a {control[0]} b{control[-1]}\n", control[1] * 3):
        ids = tokenizers[name].encode(text, parse_special=True)
        assert ids == references[name](text).input_ids, text


@pytest.mark.parametrize("name", FOLDERS)
def test_decoding_is_that_of_the_library_on_whole_characters(name, tokenizers, shared):
    library = tokenizers_library.Tokenizer.from_file(str(shared / "fixtures" / "tokenizers" / name / "tokenizer.json"))
    for text in (*TEXTS, *random_texts(2, 100), "a</s><|eot_id|><|im_end|>"):
        ids = library.encode(text).ids
        assert tokenizers[name].decode(ids, skip_special=False) == library.decode(ids, skip_special_tokens=False)
        shown = [i for i in ids if i not in tokenizers[name].special_ids]  # of llama2, the library would show two
        assert tokenizers[name].decode(ids) == library.decode(shown)


@pytest.mark.parametrize("name", FOLDERS)
def test_text_comes_back(name, tokenizers):
    for text in (*TEXTS, *random_texts(3, 200), "\ufdd0 \ufffe \U0010ffff"):
        text = text.replace("▁", " ")  # sentencepiece's own mark for a space
        if name == "qwen2.5":
            text = text.replace("e\u0301", "é")  # it composes characters (NFC)
        back = tokenizers[name].decode(tokenizers[name].encode(text))
        if name == "mistral-7b-v0.3-hf":
            text = text.removeprefix(" ")  # it takes a space in front for the one that it would have added
        assert back == text


@given(text=st.text(max_size=60))
def test_any_text_comes_back_from_the_bundled_tokenizer(bundled, text):
    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert bundled.decode(bundled.encode(text)) == readable


def test_tokenizer_model_gives_the_ids_of_tokenizer_json(sentencepiece_llama2, tokenizers):
    for text in (*TEXTS, *random_texts(4, 500)):
        text = text.replace("▁", "_")  # in tokenizer.json a literal U+2581 is a space
        assert sentencepiece_llama2.encode(text) == tokenizers["llama2"].encode(text), text


def test_tokenizer_model_knows_the_same_special_tokens(sentencepiece_llama2, tokenizers):
    ours, theirs = sentencepiece_llama2, tokenizers["llama2"]
    assert (
        (ours.bos_id, ours.eos_ids, ours.adds_bos) == (theirs.bos_id, theirs.eos_ids, theirs.adds_bos) == (1, {2}, True)
    )
    assert ours.vocab_size == 32000 and theirs.vocab_size == 32001  # tokenizer.json has a [PAD] more
    assert ours.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    text = "<s>Hello</s>\n<s>x"
    assert ours.encode(text, parse_special=True)[-3:] == [13, 1, 921]


def test_tokens_beside_a_tokenizer_model_are_found_in_text(shared, tmp_path):
    shutil.copy(shared / "fixtures" / "tokenizers" / "llama2" / "tokenizer.model", tmp_path)
    added = {"32000": {"content": "<|im_end|>", "special": True}, "32001": {"content": "<tool>", "special": False}}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"added_tokens_decoder": added, "eos_token": "<|im_end|>"})
    )
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.vocab_size == 32002 and tokenizer.eos_ids == {32000}
    ids = tokenizer.encode("a<|im_end|>b<tool>", add_special=False)
    assert 32000 not in ids and ids[-1] == 32001
    assert 32000 in tokenizer.encode("a<|im_end|>b<tool>", parse_special=True)
    assert tokenizer.decode(ids) == "a<|im_end|>b<tool>"


def test_user_text_never_becomes_a_control_token(tokenizers, bundled):
    for tokenizer in (*tokenizers.values(), bundled):
        spellings = list(tokenizer.special_tokens)
        text = " x".join(spellings) + "".join(spellings) + spellings[-1][:-1] + spellings[-1] * 2
        ids = tokenizer.encode(text, add_special=False)
        assert not tokenizer.special_ids & set(ids)
        assert tokenizer.decode(ids) == text


def test_a_cut_mark_keeps_one_spelling_text_and_vanishes(tokenizers, bundled):
    for tokenizer in (*tokenizers.values(), bundled):
        end = next(spelling for spelling, i in tokenizer.special_tokens.items() if i in tokenizer.eos_ids)
        ids = tokenizer.encode(f"a {end[0]}{CUT_MARK}{end[1:]} b{end}", add_special=False, parse_special=True)
        assert ids.count(tokenizer.special_tokens[end]) == 1 and ids[-1] == tokenizer.special_tokens[end]
        assert tokenizer.decode(ids[:-1]) == f"a {end} b"


@given(text=st.text(alphabet="<|>ab/s", max_size=40))
def test_no_piece_of_a_cut_text_holds_a_spelling(text):
    spellings = {"<s>", "</s>", "<|a|>", "a<s>", "<<s>", "ab", "|>a"}
    pieces = Spellings(spellings).cut(text)
    assert "".join(pieces) == text
    assert not [(s, piece) for s in spellings for piece in pieces if s in piece]
    assert len(pieces) == 1 + sum(text.startswith(tuple(spellings), i) for i in range(len(text)))


@given(text=st.text(alphabet="<|>ab/s", max_size=40))
def test_splitting_finds_the_longest_spelling_at_each_place(text):
    spellings = Spellings({"<s>", "<s>a", "<s>ab/", "b"})
    parts = spellings.split(text)
    assert "".join(parts) == text
    assert all("<s>" not in part and "b" not in part for part in parts[::2])
    assert not any(
        spelling == "<s>" and after.startswith("a") for spelling, after in zip(parts[1::2], parts[2::2], strict=True)
    )


def test_a_lone_surrogate_is_read_as_the_replacement_character(bundled):
    assert bundled.decode(bundled.encode("a\ud800b\ud83d\ude42")) == "a\ufffdb🙂"


def test_token_bytes_joined_are_the_text(tokenizers, bundled):
    for tokenizer in (*tokenizers.values(), bundled):
        ids = tokenizer.encode("Ünï 🙂 text", add_special=False)
        data = b"".join(map(tokenizer.token_bytes, ids))
        assert data.decode().removeprefix(" " * tokenizer.strips_leading_space) == "Ünï 🙂 text"


def test_an_id_without_a_token_is_no_text(tokenizers):
    qwen = tokenizers["qwen2.5"]
    assert qwen.vocab_size == 151665
    assert qwen.decode([9707, 151665, 151935, -1, 2**40]) == "Hello"


def test_special_tokens_and_template_come_from_the_configuration(tokenizers):
    llama3, qwen = tokenizers["llama3"], tokenizers["qwen2.5"]
    assert (llama3.bos_id, llama3.eos_ids) == (128000, {128001})
    assert (qwen.bos_id, qwen.eos_ids, qwen.adds_bos) == (None, {151645}, False)
    assert qwen.named_tokens == {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    assert llama3.chat_template.startswith("{% set loop_messages")
    assert tokenizers["llama2"].chat_template is None


def test_every_end_of_sequence_token_is_taken(tmp_path, bundled_folder):
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6], "bos_token_id": 1}')
    (tmp_path / "config.json").write_text('{"eos_token_id": 7}')
    assert load_tokenizer(tmp_path).eos_ids == {2, 5, 6}


def test_the_beginning_of_a_sequence_is_known_without_a_configuration(tmp_path, bundled_folder):
    (tmp_path / "tokenizer_config.json").unlink()
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.adds_bos) == (1, True)


def test_add_bos_token_decides(tmp_path, bundled_folder):
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"add_bos_token": False}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.bos_id == 1 and not tokenizer.adds_bos
    assert tokenizer.encode("a") == tokenizer.encode("a", add_special=False)


def test_the_default_of_several_chat_templates_is_taken_and_a_file_goes_first(tmp_path, bundled_folder):
    templates = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))
    assert load_tokenizer(tmp_path).chat_template == "D"
    (tmp_path / "chat_template.jinja").write_text("F")
    assert load_tokenizer(tmp_path).chat_template == "F"


def test_a_folder_without_tokenizer_files_is_named(tmp_path):
    with pytest.raises(TokenizerError, match=r"neither tokenizer.json nor tokenizer.model - download"):
        load_tokenizer(tmp_path)


@pytest.fixture
def bundled_folder(tmp_path: Path) -> Path:
    """tmp_path with the bundled tokenizer in it."""
    with as_file(files("farthing.models") / "bundled") as folder:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / name, tmp_path)
    return tmp_path
