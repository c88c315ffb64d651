"""What a training document is, which documents are held out, and the file of the held-out ones.

A document is held out by the hash of its content alone, whoever made it, so the same text can never stand on both
sides. Knows no tokens and no generators.
"""

import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

HELD_OUT_ONE_IN = 20


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat: role `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Document:
    """A story or a prose passage (`text`), or a chat (`turns`)."""

    kind: str  # "story", "chat" or "prose"
    text: str = ""
    turns: tuple[Turn, ...] = ()

    def to_json(self) -> str:
        """One line of JSON; also what is hashed."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)

    @staticmethod
    def from_json(line: str) -> "Document":
        """The document that `to_json` wrote."""
        fields = json.loads(line)
        return Document(fields["kind"], fields["text"], tuple(Turn(**turn) for turn in fields["turns"]))


def is_held_out(document: Document) -> bool:
    """True for one document in twenty, decided by its content."""
    digest = hashlib.sha256(document.to_json().encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") % HELD_OUT_ONE_IN == 0


def split(documents: Iterable[Document]) -> tuple[list[Document], list[Document]]:
    """(training, held out), in order, each document once."""
    unique = dict.fromkeys(documents)
    training = [document for document in unique if not is_held_out(document)]
    return training, [document for document in unique if is_held_out(document)]


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Writes gzipped JSON lines, the same bytes for the same documents."""
    lines = "".join(document.to_json() + "\n" for document in documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines.encode("utf-8"), compresslevel=9, mtime=0))


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that `write_documents` wrote."""
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    return [Document.from_json(line) for line in lines]
