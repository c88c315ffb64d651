"""The generated documents, by number: stories and chats in turn, each from its own seed.

Document `i` depends on the seed and on `i` alone, so any part of the data can be made again by itself.
"""

import random
from collections.abc import Iterator

from bundled.chats import chat
from bundled.documents import Document
from bundled.stories import story

DEFAULT_SEED = 20
DEFAULT_DOCUMENTS = 160_000


def generated_document(seed: int, index: int) -> Document:
    """The generated document with this number: even ones are stories, odd ones chats."""
    rng = random.Random(f"{seed}:{index}")
    if index % 2 == 0:
        return Document("story", text=story(rng).text)
    return Document("chat", turns=chat(rng))


def generated_documents(seed: int, count: int) -> Iterator[Document]:
    """The first `count` generated documents."""
    return (generated_document(seed, index) for index in range(count))
