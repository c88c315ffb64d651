"""Writes docs/article.md and docs/article.zh-CN.md: the article that Farthing began with, computed by the planner.

    python scripts/write_article.py                    writes both pages
    python scripts/write_article.py --print en         prints one (en, zh)
    python scripts/write_article.py --claim kv-cache   prints a claim, its computation and verdict

What the pages say is in article/, a file for each part; the words are article/words.en.toml and words.zh.toml.
tests/planner/test_article.py holds the figures, and that the pages are what this program writes.
"""

import argparse
import sys
from functools import cache
from pathlib import Path

from article.page import all_claims, page_blocks
from article.words import LANGUAGES, load_words

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {"en": DOCS / "article.md", "zh": DOCS / "article.zh-CN.md"}


@cache
def page(language: str) -> str:
    """The whole page as Markdown."""
    return load_words(language).page(page_blocks())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/article.md and docs/article.zh-CN.md.")
    parser.add_argument("--print", choices=LANGUAGES, help="print one of the pages instead")
    parser.add_argument("--claim", metavar="ID", help="print this claim instead; 'all' prints every one")
    parser.add_argument("--lang", choices=LANGUAGES, default="en", help="of the claim")
    asked = parser.parse_args()
    if asked.claim:
        claims = all_claims()
        chosen = list(claims) if asked.claim == "all" else [asked.claim]
        if chosen[0] not in claims:
            sys.exit(f"there is no claim {asked.claim!r:.40}: use {', '.join(claims)}")
        print("\n\n".join(claims[id].lines(load_words(asked.lang)) for id in chosen))
    elif asked.print:
        print(page(asked.print), end="")
    else:
        for language, path in PAGES.items():
            path.write_text(page(language), encoding="utf-8")


if __name__ == "__main__":
    main()
