"""Characters per token: the table is what the script measures, and models find their vocabulary."""

import importlib.util
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from farthing.models.auto import config_of, describe
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.money.characters import vocabularies, vocabulary_of
from farthing.quantization.base import resolve

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "characters_per_token.py"


def spec(model: str) -> ModelSpec:
    return describe(config_of(find_model(model)), Precision.of(resolve("bf16", "cpu")))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("llama-2-7b", "llama-2"),
        ("llama-3.1-70b", "llama-3"),
        ("qwen2.5-7b", "qwen2.5"),
        ("qwen3-32b", "qwen2.5"),
        ("mistral-7b-v0.3", "mistral-v3"),
        ("mixtral-8x7b", None),
    ],
)
def test_a_model_s_vocabulary_is_known_by_family_and_size(model: str, name: str | None) -> None:
    found = vocabulary_of(spec(model))
    assert (found.name if found else None) == name


def test_the_article_that_began_this_keeps_its_ratio() -> None:
    """4,285 tokens with LLaMA-2's vocabulary, 2,258 with Qwen2.5's: 1.90; on Chinese poems as much within 5 %."""
    chinese = {one.name: one.characters_per_token["zh"] for one in vocabularies()}
    assert chinese["qwen2.5"] / chinese["llama-2"] == pytest.approx(4285 / 2258, rel=0.05)


def test_the_table_is_what_the_script_measures(shared: Path) -> None:
    """On two texts of the twenty, and on Chinese whole: English differs by book, so within 8 %."""
    module_spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert module_spec is not None and module_spec.loader is not None
    script = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(script)
    poems = [text[:20_000] for text in script.chinese(shared / "corpus")]
    novels = [text[20_000:60_000] for text in script.english(shared / "corpus")][:4]
    for one in vocabularies():
        folder = script.VOCABULARIES[one.name]
        tokenizer = Tokenizer.from_file(str(shared / "fixtures" / "tokenizers" / folder / "tokenizer.json"))
        assert script.characters_per_token(tokenizer, poems) == pytest.approx(one.characters_per_token["zh"], rel=0.05)
        assert script.characters_per_token(tokenizer, novels) == pytest.approx(one.characters_per_token["en"], rel=0.08)
