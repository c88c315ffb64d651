"""The tokenizer in the metadata of a GGUF file: "llama" (sentencepiece BPE by scores) and "gpt2" (byte-level BPE).

Checks the lists, then builds the same codecs that a checkpoint folder gets. A GGUF names its pre-tokeniser only by a
word; what the word means is the table here, for the LLaMA family. Knows no file: models/gguf_header.py reads it.
Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; names and expressions: llama.cpp,
src/llama-vocab.cpp, where it quotes the tokenizer.json they come from.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers

from farthing.engine.tokenization.tokenizer import Codec, Tokenizer
from farthing.engine.tokenization.tokenizer_files import MAX_TOKEN_CHARACTERS
from farthing.engine.tokenization.tokenizer_json import JsonCodec, byte_level_bytes, library_errors
from farthing.engine.tokenization.tokenizer_spm import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SpmCodec,
    write_model,
)
from farthing.errors import TokenizerError, UnsupportedError

_AGAIN = "download the GGUF file again, or convert it with a current llama.cpp"
_MAX_TOKENS = 2**20
_MAX_MERGES = 2**21
_NO_TOKEN = 2**32 - 1  # how some writers say that there is none
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")

# Control tokens that end a turn; many files name only the one that ends a text.
_END_OF_TURN = frozenset(
    ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<EOT>")
)

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CASED_LETTERS = (  # deepseek-llm's list of letters with case
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄ"
    "ῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """Expressions that split a text, each within the pieces of the one before it; what else the name implies."""

    splits: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    nfc: bool = False


_LLAMA3 = PreTokenizer((_WORDS % "{1,3}",), ignore_merges=True, adds_bos=True)
_QWEN2 = PreTokenizer((_WORDS % "",), nfc=True)
_SINGLE_DIGITS = PreTokenizer((r"\p{N}", _GPT2))

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    "gpt-2": PreTokenizer((_GPT2,)),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "megrez": _QWEN2,
    "smollm": _SINGLE_DIGITS,
    "minerva-7b": _SINGLE_DIGITS,
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, adds_bos=True),
    "deepseek-llm": PreTokenizer(
        (
            r"[\r\n]",
            rf"\s?[{_CASED_LETTERS}]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            "[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        )
    ),
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")),
}


class _Vocabulary(NamedTuple):
    pieces: list[str]
    types: list[int]

    def of_type(self, kind: int) -> list[str]:
        return [piece for piece, own in zip(self.pieces, self.types, strict=True) if own == kind]


def tokenizer_from_gguf(metadata: Mapping[str, object]) -> Tokenizer:
    """The tokenizer that GGUF metadata (key to number, text, bool or list) describes.

    A sequence ends at the tokens that the metadata names for end of text, turn and message, and at the control tokens
    that are known to end a turn. UnsupportedError names a model or pre-tokeniser that is not known here, TokenizerError
    a list that is missing or damaged.
    """
    model = metadata.get("tokenizer.ggml.model")
    if model not in ("llama", "gpt2"):
        raise UnsupportedError(
            f"the GGUF has a tokenizer of the model {str(model)[:40]!r}",
            fix='Farthing knows "llama" and "gpt2"; use a checkpoint folder with its tokenizer.json instead',
        )
    vocabulary = _vocabulary(metadata)
    bos_id, unknown_id = (_token_id(metadata, role, len(vocabulary.pieces)) for role in ("bos", "unknown"))
    ends = [_token_id(metadata, role, len(vocabulary.pieces)) for role in ("eos", "eot", "eom")]
    codec: Codec
    if model == "llama":
        codec = _spm_codec(metadata, vocabulary, bos_id, ends[0], unknown_id)
        adds_bos = True
    else:
        pre_tokenizer = _pre_tokenizer(metadata)
        codec = _bpe_codec(metadata, vocabulary, pre_tokenizer)
        adds_bos = pre_tokenizer.adds_bos
    turns = [token_id for content, token_id in codec.special_tokens.items() if content in _END_OF_TURN]
    roles = {"bos_token": bos_id, "eos_token": ends[0], "unk_token": unknown_id}
    template = metadata.get("tokenizer.chat_template")
    return Tokenizer(
        codec,
        bos_id=bos_id,
        eos_ids=frozenset(token_id for token_id in (*ends, *turns) if token_id is not None),
        adds_bos=_flag(metadata, "add_bos_token", adds_bos),
        chat_template=template if isinstance(template, str) else None,
        named_tokens={role: vocabulary.pieces[i] for role, i in roles.items() if i is not None},
    )


def _spm_codec(
    metadata: Mapping[str, object],
    vocabulary: _Vocabulary,
    bos_id: int | None,
    eos_id: int | None,
    unknown_id: int | None,
) -> SpmCodec:
    pieces, types = vocabulary
    scores = [score for score in _list(metadata, "scores", len(pieces)) if isinstance(score, (int, float))]
    if len(scores) != len(pieces) or not all(abs(score) < 1e30 for score in scores):
        raise TokenizerError("tokenizer.ggml.scores holds something that is no number", fix=_AGAIN)
    if UNKNOWN not in types:
        types[unknown_id or 0] = UNKNOWN
    for token_id in (bos_id, eos_id):
        if token_id is not None and types[token_id] == NORMAL:
            types[token_id] = CONTROL
    adds_space = _flag(metadata, "add_space_prefix", True)
    removes = _flag(metadata, "remove_extra_whitespaces", False)
    file = write_model(
        pieces, scores, types, bos_id=bos_id, eos_id=eos_id, adds_space=adds_space, removes_extra_space=removes
    )
    return SpmCodec(file, adds_space=adds_space, added={})


def _bpe_codec(metadata: Mapping[str, object], vocabulary: _Vocabulary, pre_tokenizer: PreTokenizer) -> JsonCodec:
    pieces = vocabulary.pieces
    vocab = {piece: i for i, piece in enumerate(pieces)}
    if len(vocab) != len(pieces):
        raise TokenizerError("tokenizer.ggml.tokens holds a token twice", fix=_AGAIN)
    merges = [_merge(merge) for merge in _list(metadata, "merges", None)]
    with library_errors("the tokenizer of the GGUF can't be built"):
        model = models.BPE(vocab=vocab, merges=merges, ignore_merges=pre_tokenizer.ignore_merges)
        library = tokenizers.Tokenizer(model)
        if pre_tokenizer.nfc:
            library.normalizer = normalizers.NFC()
        splits = [pre_tokenizers.Split(Regex(split), "isolated") for split in pre_tokenizer.splits]
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        library.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
        library.decoder = decoders.ByteLevel()
        control = vocabulary.of_type(CONTROL)
        library.add_special_tokens([AddedToken(piece, normalized=False) for piece in control])
        library.add_tokens([AddedToken(piece, normalized=False) for piece in vocabulary.of_type(USER_DEFINED)])
    return JsonCodec(
        library,
        byte_level_bytes,
        strips_leading_space=False,
        special_tokens={piece: vocab[piece] for piece in control},
        vocab_size=len(pieces),
    )


def _vocabulary(metadata: Mapping[str, object]) -> _Vocabulary:
    listed = _list(metadata, "tokens", None)
    pieces = [piece for piece in listed if isinstance(piece, str) and len(piece) <= MAX_TOKEN_CHARACTERS]
    if len(pieces) != len(listed) or not 0 < len(pieces) <= _MAX_TOKENS or not _encodes("".join(pieces)):
        raise TokenizerError(
            f"tokenizer.ggml.tokens holds {len(listed):,} entries, {len(pieces):,} of them text of a possible length",
            fix=_AGAIN,
        )
    if "tokenizer.ggml.token_type" in metadata:
        kinds = _list(metadata, "token_type", len(pieces))
        types = [kind for kind in kinds if isinstance(kind, int) and 0 <= kind <= BYTE]
        if len(types) != len(pieces):
            raise TokenizerError("tokenizer.ggml.token_type holds a type that is not one of 0 to 6", fix=_AGAIN)
    else:
        types = [BYTE if _BYTE_PIECE.fullmatch(piece) else NORMAL for piece in pieces]
    types = [UNUSED if not piece else kind or NORMAL for piece, kind in zip(pieces, types, strict=True)]
    return _Vocabulary([piece or f"[EMPTY_{i}]" for i, piece in enumerate(pieces)], types)


def _encodes(text: str) -> bool:
    """Whether a text has no lone surrogates, that is, whether it is text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pre_tokenizer(metadata: Mapping[str, object]) -> PreTokenizer:
    name = metadata.get("tokenizer.ggml.pre", "default")
    if not isinstance(name, str) or name not in PRE_TOKENIZERS:
        raise UnsupportedError(
            f"the GGUF has the pre-tokenizer {str(name)[:40]!r}, and Farthing knows {', '.join(PRE_TOKENIZERS)}",
            fix="use a checkpoint folder with its tokenizer.json instead",
        )
    return PRE_TOKENIZERS[name]


def _merge(merge: object) -> tuple[str, str]:
    text = merge if isinstance(merge, str) else ""
    left, right = text[:1] + text[1:].partition(" ")[0], text[1:].partition(" ")[2]
    if not left or not right:
        raise TokenizerError(f"tokenizer.ggml.merges holds {str(merge)[:40]!r}, which is no pair of pieces", fix=_AGAIN)
    return left, right


def _list(metadata: Mapping[str, object], key: str, length: int | None) -> Sequence[object]:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, list) or len(value) > _MAX_MERGES:
        raise TokenizerError(f"the GGUF has no list tokenizer.ggml.{key}", fix=_AGAIN)
    if length is not None and len(value) != length:
        raise TokenizerError(f"tokenizer.ggml.{key} has {len(value):,} entries for {length:,} tokens", fix=_AGAIN)
    return value


def _token_id(metadata: Mapping[str, object], role: str, vocab_size: int) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{role}_token_id", _NO_TOKEN)
    if value == _NO_TOKEN:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < vocab_size:
        raise TokenizerError(
            f"tokenizer.ggml.{role}_token_id is {str(value)[:40]}, outside the vocabulary of {vocab_size:,}", fix=_AGAIN
        )
    return value


def _flag(metadata: Mapping[str, object], key: str, default: bool) -> bool:
    value = metadata.get(f"tokenizer.ggml.{key}", default)
    if not isinstance(value, bool):
        raise TokenizerError(f"tokenizer.ggml.{key} is {str(value)[:40]}, not true or false", fix=_AGAIN)
    return value
