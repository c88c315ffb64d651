"""The guess whether a prompt is English."""

import gzip
import json
from pathlib import Path

import pytest

from farthing.engine.language import looks_english

HELD_OUT = Path(__file__).parents[1] / "data" / "heldout.jsonl.gz"


@pytest.mark.parametrize(
    "text",
    [
        "Es war einmal ein kleiner Junge, der in einem Wald lebte",
        "从前有一个小女孩",
        "Жил-был старик со старухой",
        "Il était une fois un petit garçon",
        "C'era una volta un re che viveva in un castello",
        "Había una vez una niña que vivía cerca del mar",
        "むかしむかし、あるところに",
        "كان يا ما كان",
        "Olipa kerran pieni poika joka asui metsässä",
    ],
)
def test_other_languages_do_not_look_english(text: str) -> None:
    assert not looks_english(text)


@pytest.mark.parametrize(
    "text", ["Once upon a time", "Hello!", "2 + 3 = ?", "", "Tell me a story about Zoë.", "Napoleon"]
)
def test_short_english_prompts_names_and_sums_do(text: str) -> None:
    assert looks_english(text)


def test_nearly_all_held_out_english_documents_look_english() -> None:
    lines = gzip.decompress(HELD_OUT.read_bytes()).decode().splitlines()
    documents = [json.loads(line) for line in lines[:1000]]
    texts = [str(document.get("text", document)) for document in documents]
    assert sum(map(looks_english, texts)) > 0.98 * len(texts)
