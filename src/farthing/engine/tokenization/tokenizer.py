"""Text to token ids and back, for any model: one class, and the reading of a checkpoint folder's tokenizer.

A token is bytes: text is the bytes of the tokens, put together and read as UTF-8, so that streaming (detokenizer.py)
needs no window of tokens. Encoding is the library's own (tokenizer_json.py, tokenizer_spm.py); nothing of a tokenizer's
configuration is executed. GGUF files carry their tokenizer in their metadata: gguf_tokenizer.py.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from farthing.engine.tokenization import tokenizer_files as files
from farthing.engine.tokenization.tokenizer_json import json_codec
from farthing.engine.tokenization.tokenizer_spm import MAX_MODEL_BYTES, SpmCodec, check_model
from farthing.errors import TokenizerError


class Codec(Protocol):
    """What a tokenizer library gives. `prefix_ids` are those that its own file sets before a text, if any."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def special_tokens(self) -> Mapping[str, int]: ...

    @property
    def prefix_ids(self) -> Sequence[int]: ...

    @property
    def strips_leading_space(self) -> bool: ...

    def encode(self, text: str, *, parse_special: bool) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    def token_id(self, content: str) -> int | None: ...


class Tokenizer:
    """The tokenizer of a model, with the special tokens and the chat template that its files name.

    `vocab_size` is the highest id + 1; `special_tokens` are the control tokens by spelling; `named_tokens` those that a
    chat template may name ("bos_token": "<s>"); a sequence ends at any of `eos_ids`. Safe to use from several threads.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        bos_id: int | None,
        eos_ids: frozenset[int],
        adds_bos: bool,
        chat_template: str | None = None,
        named_tokens: Mapping[str, str] | None = None,
    ) -> None:
        self._codec = codec
        self.vocab_size = codec.vocab_size
        self.special_tokens = codec.special_tokens
        self.special_ids = frozenset(codec.special_tokens.values())
        self.strips_leading_space = codec.strips_leading_space
        self.bos_id = bos_id
        self.eos_ids = eos_ids
        self.adds_bos = adds_bos and bos_id is not None
        self.chat_template = chat_template
        self.named_tokens = dict(named_tokens or {})
        self._bytes_of: dict[int, bytes] = {}

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Token ids of `text`, with the token that begins a sequence in front if the model wants one.

        `parse_special` is for text that a chat template wrote: spellings of control tokens become those tokens, unless
        a CUT_MARK stands in them (chat.py sets it in messages); the marks go. Without it a control token that the text
        spells stays text. Lone surrogates, which JSON can carry, are read as U+FFFD.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids = self._codec.encode(text, parse_special=parse_special)
        return [self.bos_id, *ids] if add_special and self.adds_bos and self.bos_id is not None else ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD, ids without a token become nothing."""
        hidden = self.special_ids if skip_special else frozenset()
        text = b"".join(self.token_bytes(i) for i in ids if i not in hidden).decode("utf-8", "replace")
        return text.removeprefix(" ") if self.strips_leading_space else text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that a token adds to a text, its leading space included; b"" for an id without a token."""
        found = self._bytes_of.get(token_id)
        if found is None:
            found = self._codec.token_bytes(token_id) if 0 <= token_id < self.vocab_size else b""
            self._bytes_of[token_id] = found
        return found


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint folder: tokenizer.json, or tokenizer.model where that is all there is.

    A sequence ends at the `eos_token_id` (one or several) of generation_config.json or config.json and at the
    `eos_token` of tokenizer_config.json. Raises TokenizerError or UnsupportedError with the cause and what to do.
    """
    config = files.read_config(folder / "tokenizer_config.json")
    roles = files.read_config(folder / "special_tokens_map.json")
    named = files.named_tokens(config, roles)
    model = files.read_config(folder / "config.json") | files.read_config(folder / "generation_config.json")
    codec: Codec
    if (folder / "tokenizer.json").exists():
        codec = json_codec(files.read_bounded(folder / "tokenizer.json", files.MAX_TOKENIZER_BYTES))
    elif (folder / "tokenizer.model").exists():
        proto = files.read_bounded(folder / "tokenizer.model", MAX_MODEL_BYTES)
        check_model(proto)
        added = files.added_tokens(config, files.read_config(folder / "added_tokens.json"), named)
        codec = SpmCodec(proto, added=added)
    else:
        raise TokenizerError(
            f"{folder} has neither tokenizer.json nor tokenizer.model", fix="download all files of the model"
        )
    if "bos_token" in config or "bos_token" in roles:
        bos_id = codec.token_id(named.get("bos_token", ""))
    else:
        bos_id = next(iter((*files.token_ids(model, "bos_token_id"), *codec.prefix_ids)), None)
    eos_ids = {*files.token_ids(model, "eos_token_id"), codec.token_id(named.get("eos_token", ""))}
    adds_bos = config.get("add_bos_token")
    return Tokenizer(
        codec,
        bos_id=bos_id,
        eos_ids=frozenset(token_id for token_id in eos_ids if token_id is not None),
        adds_bos=adds_bos if isinstance(adds_bos, bool) else bos_id in codec.prefix_ids,
        chat_template=files.chat_template(folder, config),
        named_tokens=named,
    )
