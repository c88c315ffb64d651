"""The `tokenizers` library behind a Tokenizer: tokenizer.json, checked before the library sees it.

Here is what a tokenizer.json may hold (ids, lengths, how much a normaliser may lengthen a text) and how its decoder
maps one token to bytes, so that text is put together from bytes and never from a window of tokens. What can't be
bounded from outside is the time of a pre-tokeniser's regular expression: the library gives up by itself after 10
million steps at one place, which becomes a TokenizerError. Knows no folders (tokenizer.py) and no GGUF.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tokenizers

from farthing.engine.tokenization.tokenizer_files import checked_token, parse_json_object
from farthing.engine.tokenization.tokenizer_spellings import CUT_MARK, Spellings
from farthing.errors import TokenizerError, UnsupportedError

_AGAIN = "download tokenizer.json of the model again"
_TRUSTED = "use the tokenizer of a checkpoint that you trust"
_MAX_PARTS = 4096  # JSON values in normaliser, pre-tokeniser, post-processor and decoder together; real ones < 300
_MAX_RULE_CHARACTERS = 8192  # of one regular expression or string in them; deepseek's longest has 900
_MAX_CHARSMAP_CHARACTERS = 2**20  # a Precompiled normaliser: the nmt_nfkc map, in base64, has 0.4 million
_MAX_GROWTH = 64  # characters that normaliser or decoder may make of one
_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")

PieceToBytes = Callable[[str], bytes]


class JsonCodec:
    """Text to ids and id to bytes, with a tokenizer of the library `tokenizers`."""

    def __init__(
        self,
        library: tokenizers.Tokenizer,
        piece_to_bytes: PieceToBytes,
        *,
        strips_leading_space: bool,
        special_tokens: Mapping[str, int],
        vocab_size: int,
    ) -> None:
        self._library = library
        self._piece_to_bytes = piece_to_bytes
        self._spellings = Spellings(special_tokens)
        self.strips_leading_space = strips_leading_space
        self.special_tokens = special_tokens
        self.vocab_size = vocab_size
        with library_errors("the tokenizer can't encode a line feed"):
            library.no_truncation()
            library.no_padding()
            self.prefix_ids: list[int] = library.encode("", add_special_tokens=True).ids
            self._anchor_ids: list[int] = library.encode("\n", add_special_tokens=False).ids

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        first, *rest = text.split(CUT_MARK) if parse_special else self._spellings.cut(text)
        with library_errors("the tokenizer failed on this text"):
            ids = self._ids(first)
            for piece in rest:
                ids += self._continuation(piece)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        piece = self._library.id_to_token(token_id)
        return b"" if piece is None else self._piece_to_bytes(piece)

    def token_id(self, content: str) -> int | None:
        found: int | None = self._library.token_to_id(content)
        return found

    def _continuation(self, piece: str) -> list[int]:
        """Ids of a piece that continues a text: without the space that some tokenizers set before a text."""
        ids = self._ids("\n" + piece)
        anchor = self._anchor_ids
        if ids[: len(anchor)] == anchor:
            return ids[len(anchor) :]
        return self._ids(piece)

    def _ids(self, text: str) -> list[int]:
        """As a batch of one: unlike for a single text, the library lets other threads run meanwhile."""
        ids: list[int] = self._library.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids


def json_codec(data: bytes) -> JsonCodec:
    """The tokenizer in the bytes of a tokenizer.json. TokenizerError or UnsupportedError name what is wrong with it."""
    name = "tokenizer.json"
    content = parse_json_object(data, name)
    ids = _checked_vocabulary(content, name)
    _check_parts({key: content.get(key) for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder")})
    piece_to_bytes, strips = decoder_rules(content.get("decoder"))
    with library_errors(f"{name} can't be loaded"):
        library = tokenizers.Tokenizer.from_buffer(data)
        if getattr(library.model, "dropout", None):
            library.model.dropout = None  # a training aid that would make prompts random
    special = {}
    for token in content.get("added_tokens") or ():
        if library.token_to_id(token["content"]) != token["id"]:
            raise TokenizerError(
                f"{name}: the added token {token['content'][:40]!r} has the id {token['id']}, and the library gives "
                f"it {library.token_to_id(token['content'])}",
                fix=_AGAIN,
            )
        if token.get("special") is True:
            special[token["content"]] = token["id"]
    return JsonCodec(
        library, piece_to_bytes, strips_leading_space=strips, special_tokens=special, vocab_size=max(ids) + 1
    )


def decoder_rules(decoder: object) -> tuple[PieceToBytes, bool]:
    """How a tokenizer.json `decoder` maps one token to bytes, and whether it takes one space off the whole text."""
    if decoder is None:
        return (lambda piece: b" " + piece.encode()), True  # the library joins tokens with spaces
    steps = _decoder_steps(decoder)
    if [step.get("type") for step in steps] == ["ByteLevel"]:
        return byte_level_bytes, False
    replaces: list[tuple[str, str]] = []
    byte_fallback = strips = fused = False
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": str(old)}, "content": str(new)} if old and not fused:
                replaces.append((old, new))
            case {"type": "Metaspace", "replacement": str(old)} if old and not fused:
                replaces.append((old, " "))
                strips = step.get("prepend_scheme") != "never" and step.get("add_prefix_space") is not False
            case {"type": "ByteFallback"}:
                byte_fallback = True
            case {"type": "Fuse"}:
                fused = True
            case {"type": "Strip", "content": " ", "start": 1, "stop": 0} if fused:
                strips = True
            case _:
                raise UnsupportedError(
                    f"tokenizer.json has the decoder step {str(step)[:120]}, which Farthing does not know",
                    fix="LLaMA-family tokenizers decode by bytes: ByteLevel, or Replace, ByteFallback, Fuse and Strip",
                )

    def piece_to_bytes(piece: str) -> bytes:
        if byte_fallback and _BYTE_PIECE.fullmatch(piece):
            return bytes([int(piece[3:5], 16)])
        for old, new in replaces:
            piece = piece.replace(old, new)
        return piece.encode()

    return piece_to_bytes, strips


def byte_level_bytes(piece: str) -> bytes:
    """The bytes that a byte-level piece stands for; a piece that is not written in that alphabet stands for itself."""
    try:
        return bytes([_BYTE_OF_CHARACTER[character] for character in piece])
    except KeyError:
        return piece.encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for every byte: itself where it prints, else the next one from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + i): byte for i, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_alphabet()


def _decoder_steps(decoder: object) -> list[dict[str, Any]]:
    if isinstance(decoder, dict) and decoder.get("type") == "Sequence" and isinstance(decoder.get("decoders"), list):
        return [step for inner in decoder["decoders"] for step in _decoder_steps(inner)]
    return [decoder if isinstance(decoder, dict) else {"type": decoder}]


def _checked_vocabulary(content: Mapping[str, Any], name: str) -> set[int]:
    """All ids of the vocabulary, each token checked; an id belongs to one token."""
    model = content.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict):
        pairs = list(vocab.items())
    elif isinstance(vocab, list):  # Unigram: pieces with scores, the id is the place
        pairs = [(entry[0] if isinstance(entry, list) and entry else entry, i) for i, entry in enumerate(vocab)]
    else:
        raise TokenizerError(f"{name} has no vocabulary (model.vocab)", fix=_AGAIN)
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise TokenizerError(f"{name}: added_tokens is not a list of objects", fix=_AGAIN)
    pairs += [(token.get("content"), token.get("id")) for token in added]
    owners: dict[int, str] = {}
    for token, token_id in pairs:
        checked_token(token, token_id, name)
        if owners.setdefault(token_id, token) != token:
            raise TokenizerError(
                f"{name} gives the id {token_id} to {owners[token_id][:40]!r} and to {token[:40]!r}", fix=_AGAIN
            )
    if not owners:
        raise TokenizerError(f"{name} has an empty vocabulary", fix=_AGAIN)
    return set(owners)


def _check_parts(parts: Mapping[str, Any]) -> None:
    """Limits on the steps around the model: their number, the length of their rules, how much they lengthen a text."""
    growth, count = {"normalizer": 1, "decoder": 1}, 0
    todo = [(part, "", value) for part, value in parts.items()]
    while todo:
        part, key, value = todo.pop()
        count += 1
        if isinstance(value, dict):
            todo += [(part, inner, item) for inner, item in value.items()]
        elif isinstance(value, list):
            todo += [(part, key, item) for item in value]
        elif isinstance(value, str):
            limit = _MAX_CHARSMAP_CHARACTERS if key == "precompiled_charsmap" else _MAX_RULE_CHARACTERS
            if len(value) > limit:
                raise TokenizerError(f"tokenizer.json: a string of {len(value):,} characters in {part}", fix=_TRUSTED)
            if part in growth and key in ("content", "prepend"):
                growth[part] *= max(1, len(value))
    if count > _MAX_PARTS:
        raise TokenizerError(f"tokenizer.json has {count:,} values around its model", fix=_TRUSTED)
    for part, factor in growth.items():
        if factor > _MAX_GROWTH:
            raise TokenizerError(f"the {part} of tokenizer.json makes {factor:,} characters of one", fix=_TRUSTED)


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Errors and panics of the library as a TokenizerError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":  # a panic is no Exception
            raise TokenizerError(f"{what}: {str(error)[:200]}", fix=_AGAIN) from error
        raise
