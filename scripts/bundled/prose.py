"""Short passages from plain-text books: whole sentences, one to four of them, up to about 150 tokens.

Quotes and dashes become ASCII, so that a small vocabulary suffices. Headings and verse are left out (lines without
an end mark), and passages with slurs of their century are too. Knows no tokens.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from bundled.documents import Document

MIN_PASSAGE_CHARACTERS = 120
MAX_PASSAGE_CHARACTERS = 460

_ASCII = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2014": "--", "\u2013": "-", "\u2026": "...",
    "\u00a0": " ", "\u200a": "", "\u2009": "", "\u202f": "", "\u2060": "", "\ufeff": "", "\u201a": ",",
    "\u2e3a": "--", "\u2e3b": "--",
})  # fmt: skip
_SENTENCE = re.compile(r"""(?:Mrs?\.|Dr\.|St\.|Messrs\.|[A-Z]\.|[^.!?])+[.!?]+["')]*(?=\s|$)""")
_SLURS = re.compile(r"\b(n[i]gg|negr|blackamoor|injun|savages?\b|heathen|jew)", re.IGNORECASE)


def _paragraphs(book: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", book.translate(_ASCII)):
        paragraph = " ".join(block.split())
        if paragraph.endswith((".", "!", "?", '"', "'")) and len(paragraph) >= 25:
            yield paragraph


def passages(book: str) -> Iterator[str]:
    """Runs of whole sentences of one book; a passage keeps a paragraph break as one blank line."""
    held = ""
    for paragraph in _paragraphs(book):
        joint = "\n\n"
        for sentence in (match.group().strip() for match in _SENTENCE.finditer(paragraph)):
            if held and len(held) + len(joint) + len(sentence) > MAX_PASSAGE_CHARACTERS:
                yield held
                held = ""
            held = f"{held}{joint}{sentence}" if held else sentence
            joint = " "
    if held:
        yield held


def prose_documents(corpus: Path) -> Iterator[Document]:
    """All usable passages of the `.txt` files of a folder, in the order of the file names."""
    for path in sorted(corpus.glob("*.txt")):
        for passage in passages(path.read_text(encoding="utf-8")):
            fits = MIN_PASSAGE_CHARACTERS <= len(passage) <= MAX_PASSAGE_CHARACTERS
            balanced = passage.count('"') % 2 == 0
            begins = passage[0].isupper() or passage[0] == '"'
            if fits and balanced and begins and not _SLURS.search(passage):
                yield Document("prose", text=passage)
