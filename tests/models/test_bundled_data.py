"""The bundled model's files, its tokenizer and its training data - all that can be checked without training.

Knows nothing of what the model says: the model card has its figures.
"""

import importlib
import json
import shlex
import sys
from itertools import islice
from pathlib import Path

import jinja2.sandbox
import pytest
from tokenizers import Tokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = REPOSITORY / "src/farthing/models/bundled"
HELD_OUT = REPOSITORY / "tests/data/heldout.jsonl.gz"
SCRIPTS = REPOSITORY / "scripts"

sys.path.insert(0, str(SCRIPTS))
arguments = importlib.import_module("bundled.arguments")
documents = importlib.import_module("bundled.documents")
generator = importlib.import_module("bundled.generator")
prose = importlib.import_module("bundled.prose")
tokens = importlib.import_module("bundled.tokenizer")
sys.path.remove(str(SCRIPTS))

HARD_STRINGS = (
    "",
    " ",
    "   three leading spaces",
    "two  spaces,   three, and one at the end ",
    "\n",
    "line\n\n\nline\r\n\tindented\n    more",
    "你好，世界。白日依山尽",
    "🙂👩‍👩‍👧‍👦 é ñ ß Ωμέγα",
    "a literal \u2581 mark and a \u00a0 hard space",
    "<0x41> <0x0A> < s > </ s>",
    "\x00\x01\x7f\ufeff\U0010ffff",
    "\"Quotes,\" she said -- 'and' 12345 + 67 = 12412.",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL / "tokenizer.json"))


@pytest.fixture(scope="module")
def held_out() -> list:  # type: ignore[type-arg]
    return documents.read_documents(HELD_OUT)


def test_the_whole_folder_is_at_most_eight_megabytes() -> None:
    sizes = {path.name: path.stat().st_size for path in MODEL.rglob("*") if path.is_file()}
    names = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert names <= sizes.keys()
    assert sum(sizes.values()) <= 8_000_000


@pytest.mark.parametrize("text", HARD_STRINGS)
def test_the_tokenizer_gives_back_every_text_exactly(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert tokenizer.token_to_id("<unk>") not in ids


def test_the_tokenizer_has_llamas_first_ids_and_the_vocabulary_of_the_model(tokenizer: Tokenizer) -> None:
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    assert [tokenizer.id_to_token(index) for index in range(len(first))] == first
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    assert (config["bos_token_id"], config["eos_token_id"]) == (1, 2)
    assert tokenizer.encode("hello").ids[0] == 1


def test_the_chat_template_writes_what_the_model_was_trained_on() -> None:
    settings = json.loads((MODEL / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = jinja2.sandbox.ImmutableSandboxedEnvironment().from_string(settings["chat_template"])
    turns = [
        documents.Turn("system", "Be brief."),
        documents.Turn("user", " Hi! "),
        documents.Turn("assistant", "Hello!"),
    ]
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    rendered = template.render(messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True)
    assert rendered == "<s>" + "".join(tokens.render_turn(turn) for turn in turns) + "<|assistant|>"


def test_only_the_answers_of_a_chat_are_learned(tokenizer: Tokenizer) -> None:
    chat = documents.Document("chat", turns=(documents.Turn("user", "Hi!"), documents.Turn("assistant", "Hello!")))
    ids, learned = tokens.encode_document(tokenizer, chat)
    kept = [token for token, is_learned in zip(ids, learned, strict=True) if is_learned]
    assert tokenizer.decode(kept, skip_special_tokens=False) == "Hello!</s>"


def test_the_generator_is_deterministic() -> None:
    first = list(generator.generated_documents(generator.DEFAULT_SEED, 200))
    assert first == list(generator.generated_documents(generator.DEFAULT_SEED, 200))
    assert first != list(generator.generated_documents(generator.DEFAULT_SEED + 1, 200))
    assert first[150] == generator.generated_document(generator.DEFAULT_SEED, 150)


def test_the_generator_has_thousands_of_distinct_stories_with_many_openings() -> None:
    stories = {generator.generated_document(generator.DEFAULT_SEED, index).text for index in range(0, 8000, 2)}
    assert len(stories) >= 3990
    assert len({story.split(".")[0] for story in stories}) >= 3000


def test_no_document_made_for_training_is_held_out(held_out: list) -> None:  # type: ignore[type-arg]
    made = list(generator.generated_documents(generator.DEFAULT_SEED, 4000))
    training, kept_back = documents.split(made)
    assert not set(training) & set(held_out)
    assert set(kept_back) <= set(held_out)
    assert set(training) | set(kept_back) == set(made)


def test_the_held_out_file_holds_one_document_in_twenty_of_both_kinds(held_out: list) -> None:  # type: ignore[type-arg]
    record = json.loads((MODEL / "training.json").read_text(encoding="utf-8"))
    assert all(documents.is_held_out(document) for document in held_out)
    assert len(set(held_out)) == len(held_out)
    for kind, size in record["data"].items():
        kept_back = sum(document.kind == kind for document in held_out)
        assert kept_back / (kept_back + size["documents"]) == pytest.approx(0.05, abs=0.005)
    assert HELD_OUT.stat().st_size <= 1_000_000


def test_prose_is_cut_at_the_ends_of_sentences() -> None:
    book = "CHAPTER I\n\n" + "“It was late,” said Mr. Brown. He went home—slowly. " * 40
    passages = list(islice(prose.passages(book), 3))
    assert all(passage.endswith((".", '"')) and len(passage) <= prose.MAX_PASSAGE_CHARACTERS for passage in passages)
    assert passages[0].startswith('"It was late," said Mr. Brown. He went home--slowly.')


def test_the_cards_command_is_one_that_the_script_takes() -> None:
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    command = json.loads((MODEL / "training.json").read_text(encoding="utf-8"))["command"]
    assert f"\n{command}\n" in card
    program, script, *flags = shlex.split(command)
    assert program == "python" and (REPOSITORY / script).is_file()
    given = arguments.parser().parse_args(flags)
    assert given.seed == generator.DEFAULT_SEED and given.documents == generator.DEFAULT_DOCUMENTS
    assert not given.card_only


def test_the_card_says_what_the_model_is_not_and_how_it_does() -> None:
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    for part in ("knows no facts", "bits per byte", "| prose |", "20 samples, not picked", "of 50 samples"):
        assert part in card
