"""Characters per token of vocabularies, measured on texts, written to
src/farthing/planner/money/prices/characters.toml.

    python scripts/characters_per_token.py --data ../shared

`--data` is a folder with fixtures/tokenizers and corpus; neither is part of Farthing, the ratios are. English: twenty
novels of the public domain. Chinese: classical poems, four to seven characters a line, which are harder to shorten than
the prose of today; the ratio between vocabularies holds better than the figure itself. Needs tokenizers.
"""

import argparse
import json
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from tokenizers import Tokenizer

TABLE = Path(__file__).resolve().parents[1] / "src" / "farthing" / "planner" / "prices" / "characters.toml"
VOCABULARIES = {  # name: folder of fixtures/tokenizers
    "llama-2": "llama2",
    "llama-3": "llama3",
    "mistral-v3": "mistral-7b-v0.3-hf",
    "qwen2.5": "qwen2.5",
}
MAX_CHARACTERS = 400_000  # of each text
HEADER = """\
# Characters per token by vocabulary, measured by scripts/characters_per_token.py on {date}: English on {english:,}
# characters of novels, Chinese on {chinese:,} characters of classical poems (white space counts where it stands).
# Chinese prose of today takes fewer tokens: the article that Farthing began with is 4,285 tokens with LLaMA-2's
# vocabulary and 2,258 with Qwen2.5's, 1.90 times as many; on the poems it is {ratio:.2f} times.
# `families`, `vocab_sizes`: of the models that have it.
"""
MODELS = {  # families and the rows of their embeddings, by which a model's vocabulary is known
    "llama-2": (["llama"], [32000, 32016]),
    "llama-3": (["llama"], [128256]),
    "mistral-v3": (["mistral", "mixtral"], [32768]),
    "qwen2.5": (["qwen2", "qwen3", "qwen3_moe"], [151936, 152064]),
}


def english(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.txt")):
        yield path.read_text(encoding="utf-8")[:MAX_CHARACTERS]


def chinese(folder: Path) -> Iterator[str]:
    """Every tenth poem, with its title."""
    for path in sorted(folder.glob("zh-*.json")):
        poems = json.loads(path.read_text(encoding="utf-8"))
        yield "\n\n".join(f"{poem['title']}\n{poem['content']}" for poem in poems[::10])[:MAX_CHARACTERS]


def characters_per_token(tokenizer: Tokenizer, texts: list[str]) -> float:
    """Characters as people count them: composed code points."""
    tokens = sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    return sum(len(unicodedata.normalize("NFC", text)) for text in texts) / tokens


def table(data: Path) -> str:
    texts = {"en": list(english(data / "corpus")), "zh": list(chinese(data / "corpus"))}
    ratios = {}
    for name, folder in VOCABULARIES.items():
        tokenizer = Tokenizer.from_file(str(data / "fixtures" / "tokenizers" / folder / "tokenizer.json"))
        ratios[name] = {language: characters_per_token(tokenizer, found) for language, found in texts.items()}
    lengths = {language: sum(map(len, found)) for language, found in texts.items()}
    ratio = ratios["qwen2.5"]["zh"] / ratios["llama-2"]["zh"]
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [HEADER.format(date=date, english=lengths["en"], chinese=lengths["zh"], ratio=ratio)]
    for name, found in ratios.items():
        families, sizes = MODELS[name]
        lines += [f"[{json.dumps(name)}]", f"families = {json.dumps(families)}", f"vocab_sizes = {sizes}"]
        lines += [f"{language} = {value:.3f}" for language, value in found.items()]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, default=TABLE, metavar="FILE")
    arguments = parser.parse_args()
    arguments.output.write_text(table(arguments.data), encoding="utf-8")


if __name__ == "__main__":
    main()
