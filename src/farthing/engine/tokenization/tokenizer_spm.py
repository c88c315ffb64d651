"""The `sentencepiece` library behind a Tokenizer: tokenizer.model, and the vocabulary of a GGUF "llama" tokenizer.

A model file is walked record by record before the library sees it (number and length of pieces). A GGUF vocabulary is
written as such a file, so that both are the reference algorithm itself: BPE by scores, ties to the left, byte fallback.
Control tokens never come out of text here: they are looked for first, and only if the caller wants them.
Source: sentencepiece_model.proto of https://github.com/google/sentencepiece.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

import sentencepiece

from farthing.engine.tokenization.tokenizer_files import MAX_TOKEN_CHARACTERS
from farthing.engine.tokenization.tokenizer_spellings import CUT_MARK, Spellings
from farthing.errors import TokenizerError

MAX_MODEL_BYTES = 16 * 2**20  # 262k pieces take 4.3 MB
_MAX_PIECES = 2**20
_MAX_SPEC_BYTES = 2**20
_AGAIN = "download tokenizer.model of the model again"

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of pieces, the same numbers in sentencepiece files and in GGUF."""


class SpmCodec:
    """Text to ids and id to bytes, with a processor of the library `sentencepiece`.

    `added` are tokens that are not in the model file, by content: (id, whether it is a control token).
    """

    def __init__(self, model: bytes, *, adds_space: bool = True, added: Mapping[str, tuple[int, bool]]) -> None:
        try:
            self._library = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TokenizerError(f"the sentencepiece model can't be loaded: {str(error)[:200]}", fix=_AGAIN) from error
        pieces = self._library
        inner = {pieces.id_to_piece(i): i for i in range(len(pieces)) if pieces.is_control(i) or pieces.is_unknown(i)}
        self._added = {token_id: content for content, (token_id, _) in added.items() if token_id >= len(pieces)}
        self._ids_of = inner | {content: token_id for content, (token_id, _) in added.items()}
        self.special_tokens = inner | {content: token_id for content, (token_id, control) in added.items() if control}
        self._all = Spellings(self._ids_of)
        self._always = Spellings(set(self._ids_of) - set(self.special_tokens))
        self.strips_leading_space = adds_space
        self.vocab_size = max(len(pieces), *(token_id + 1 for token_id in self._ids_of.values()))
        self.prefix_ids = [pieces.bos_id()] if pieces.bos_id() >= 0 else []

    def encode(self, text: str, *, parse_special: bool) -> list[int]:
        ids: list[int] = []
        for i, part in enumerate((self._all if parse_special else self._always).split(text)):
            if i % 2:
                ids.append(self._ids_of[part])
            elif part:
                ids += self._library.encode(part.replace(CUT_MARK, "") if parse_special else part)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        if not 0 <= token_id < len(self._library):
            return b""
        piece: str = self._library.id_to_piece(token_id)
        if self._library.is_byte(token_id):
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()

    def token_id(self, content: str) -> int | None:
        return self._ids_of.get(content)


def check_model(model: bytes) -> None:
    """TokenizerError if the bytes of a tokenizer.model are no such file, or hold more than a real one does."""
    num_pieces = 0
    for field, length in _records(model):
        num_pieces += field == 1
        if length > (MAX_TOKEN_CHARACTERS if field == 1 else _MAX_SPEC_BYTES) or num_pieces > _MAX_PIECES:
            raise TokenizerError(
                f"tokenizer.model has a record of {length:,} bytes after {num_pieces:,} pieces",
                fix="use the tokenizer of a checkpoint that you trust",
            )
    if not num_pieces:
        raise TokenizerError("tokenizer.model has no pieces", fix=_AGAIN)


def write_model(
    pieces: Sequence[str],
    scores: Sequence[float],
    types: Sequence[int],
    *,
    bos_id: int | None,
    eos_id: int | None,
    adds_space: bool,
    removes_extra_space: bool = False,
) -> bytes:
    """A BPE model file of these pieces; with byte fallback if there are byte pieces."""
    assert len(pieces) == len(scores) == len(types)
    model = bytearray()
    for piece, score, kind in zip(pieces, scores, types, strict=True):
        model += _record(1, _record(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + _varint(kind))
    unknown = types.index(UNKNOWN) if UNKNOWN in types else 0
    trainer = _number(3, 2) + _number(35, int(BYTE in types)) + _number(40, unknown)
    trainer += _number(41, -1 if bos_id is None else bos_id) + _number(42, -1 if eos_id is None else eos_id)
    normalizer = _record(1, b"identity") + _number(3, int(adds_space)) + _number(4, int(removes_extra_space))
    return bytes(model + _record(2, trainer) + _record(3, normalizer))


def _records(model: bytes) -> Iterator[tuple[int, int]]:
    """Field number and length in bytes of every top-level record; they are all of the length-delimited kind."""
    position = 0
    while position < len(model):
        tag, position = _read_varint(model, position)
        length, position = _read_varint(model, position)
        if tag & 7 != 2 or position + length > len(model):
            raise TokenizerError(f"tokenizer.model is damaged or cut off at byte {position:,}", fix=_AGAIN)
        yield tag >> 3, length
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise TokenizerError(f"tokenizer.model is damaged or cut off at byte {position:,}", fix=_AGAIN)


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _record(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content
