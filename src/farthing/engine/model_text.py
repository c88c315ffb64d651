"""The text side of a model: its tokenizer, chat template, end tokens and sampling defaults, read from its files.

What a process needs to turn text into requests; it takes no torch, so that the server's own process stays small. Knows
no weights and no HTTP.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from farthing.engine.chats.chat import ChatTemplate, load_chat_template
from farthing.engine.defaults import generation_defaults
from farthing.engine.tokenization.gguf_tokenizer import tokenizer_from_gguf
from farthing.engine.tokenization.tokenizer import Tokenizer, load_tokenizer
from farthing.errors import ChatTemplateError, ContextLengthError, RequestError, TokenizerError
from farthing.models.config_reader import ConfigReader
from farthing.models.gguf_header import read_gguf_header
from farthing.sampling_params import SamplingParams

_MAX_CHARACTERS_A_TOKEN = 16  # of a text that is tokenised as it is; English has 4 to 5
_WINDOW_CHARACTERS = 2**15


@dataclass(slots=True)
class ModelText:
    """`tokenizer` is None only for random weights without one; then a byte is a token. `eos_ids` end a sequence."""

    vocab_size: int
    tokenizer: Tokenizer | None
    template: ChatTemplate | None
    eos_ids: frozenset[int]
    generation_defaults: SamplingParams

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, with the beginning-of-sequence token where the model wants one."""
        if self.tokenizer is None:
            return tuple(byte % self.vocab_size for byte in text.encode())  # random weights: any ids do
        if not text:
            raise RequestError("the prompt is empty", fix="give at least one character of text")
        return tuple(self.tokenizer.encode(text))

    def encode_chat(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
        """Token ids of a conversation, rendered by the model's own template and open for the assistant's answer."""
        if self.template is None:
            raise ChatTemplateError("this model has no chat template", fix="use plain prompts (farthing run --raw)")
        return self.encode_rendered(self.template.render(messages))

    def encode_rendered(self, text: str) -> tuple[int, ...]:
        """Token ids of what a chat template has written."""
        if self.tokenizer is None:
            return self.encode(text)
        return tuple(self.tokenizer.encode(text, add_special=False, parse_special=True))

    def require_room(self, context: int, *texts: str) -> None:
        """ContextLengthError, with an estimate, if the texts are far too long. Time and memory for whole megabytes
        would be spent in vain, so they are read in windows, and only until there are twice the tokens that fit."""
        num_characters = sum(map(len, texts))
        if self.tokenizer is None or num_characters <= _MAX_CHARACTERS_A_TOKEN * context:
            return
        num_tokens = num_read = 0
        for text in texts:
            for start in range(0, len(text), _WINDOW_CHARACTERS):
                window = text[start : start + _WINDOW_CHARACTERS]
                num_tokens += len(self.tokenizer.encode(window, add_special=False))
                num_read += len(window)
                if num_tokens > 2 * context:
                    raise ContextLengthError(num_tokens * num_characters // num_read, context)

    def close(self) -> None:
        if self.template is not None:
            self.template.close()


def load_model_text(
    path: Path, config: ConfigReader, vocab_size: int, *, needs_tokenizer: bool = True, with_template: bool = True
) -> ModelText:
    """TokenizerError or ChatTemplateError, with the cause, if the files are missing, damaged or not the model's."""
    tokenizer = _load_tokenizer(path, required=needs_tokenizer)
    eos_ids = config.token_ids("eos_token_id")
    if tokenizer is not None:
        if tokenizer.vocab_size > vocab_size:
            raise TokenizerError(
                f"the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model embeds {vocab_size} tokens",
                fix="use the tokenizer that belongs to these weights",
            )
        eos_ids |= tokenizer.eos_ids
    defaults = generation_defaults(path)
    template = load_chat_template(tokenizer) if tokenizer is not None and with_template else None
    return ModelText(vocab_size, tokenizer, template, eos_ids, defaults)


def _load_tokenizer(path: Path, *, required: bool) -> Tokenizer | None:
    """The tokenizer beside the weights; None if there is none and none is required."""
    if path.suffix == ".gguf":
        return tokenizer_from_gguf(read_gguf_header(path).metadata)
    if not required and not any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        return None
    return load_tokenizer(path)
