"""What a server says of itself before a load: model, context, vocabulary.

Any server that speaks OpenAI's completions will do; what it does not tell is left out. Knows no load.
"""

from dataclasses import dataclass
from typing import Any

from farthing.client.connection import Server
from farthing.client.load_work import Vocabulary
from farthing.errors import UsageError

# Words of many kinds: their ids span what a vocabulary uses for text.
_TEXT = (
    "Once upon a time there was a little girl. 1234567890 The quick brown fox jumps over the lazy dog; "
    "extraordinary circumstances, nevertheless: photosynthesis, Mississippi, archaeology! if (x > 0) { return y; }"
)
ANY_VOCABULARY = Vocabulary(100, 999)  # every published one has these
_LEAST_IDS = 32


@dataclass(frozen=True, slots=True)
class Target:
    """`context`: longest sequence in tokens, None where it is not told. `vocabulary_is_known`: it was asked for."""

    model: str
    context: int | None
    vocabulary: Vocabulary
    vocabulary_is_known: bool


async def find_target(server: Server, model: str | None) -> Target:
    """What is to be loaded. UsageError if the server is no such server, wants a key, or lacks the model."""
    status, answer = await server.ask("GET", "/v1/models")
    if status in (401, 403):
        raise UsageError(f"{server.url} wants a key" if server.key is None else f"{server.url} refuses the key",
                         fix="name the file that holds it: --key-file FILE")  # fmt: skip
    cards = answer.get("data") if status == 200 and isinstance(answer, dict) else None
    if not (isinstance(cards, list) and cards and all(isinstance(card, dict) and "id" in card for card in cards)):
        raise UsageError(f"{server.url} tells no models (HTTP {status} at /v1/models)",
                         fix="name a server that speaks OpenAI's API")  # fmt: skip
    names = [str(card["id"]) for card in cards]
    if model is not None and model not in names:
        raise UsageError(f"{server.url} does not serve {model!r:.80}", fix=f"it serves {', '.join(names[:5])}")
    card = cards[0 if model is None else names.index(model)]
    name = str(card["id"])
    ids = await _ids_of_text(server, name)
    vocabulary = Vocabulary(min(ids), max(ids)) if ids else ANY_VOCABULARY
    return Target(name, _context(card), vocabulary, bool(ids))


def _context(card: dict[str, Any]) -> int | None:
    """As Farthing, vLLM and llama.cpp call it."""
    meta = card.get("meta")
    said = (card.get("context_length"), card.get("max_model_len"), isinstance(meta, dict) and meta.get("n_ctx_train"))
    return next((value for value in said if type(value) is int and value > 0), None)


async def _ids_of_text(server: Server, model: str) -> list[int]:
    """Asked as Farthing and vLLM want it, then as llama.cpp does; none if the server has no such route."""
    for body in ({"model": model, "prompt": _TEXT, "add_special_tokens": False}, {"content": _TEXT}):
        status, answer = await server.ask("POST", "/tokenize", body)
        ids = answer.get("tokens") if status == 200 and isinstance(answer, dict) else None
        if isinstance(ids, list) and len(ids) >= _LEAST_IDS and all(type(one) is int and one >= 0 for one in ids):
            return ids
    return []
