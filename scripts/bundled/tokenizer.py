"""The tokenizer: BPE over characters with byte fallback, and the chat form.

A space is an ordinary character at the head of a word, and nothing is normalised, so decoding gives back any text
exactly - a literal U+2581 too, which the usual space mark would lose. Token ids 0-258 are Llama's: <unk>, <s>, </s>
and the 256 bytes. Knows nothing of the model but the length of its context.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from bundled.documents import Document, Turn

UNK, BOS, EOS = "<unk>", "<s>", "</s>"
ROLES = {"user": "<|user|>", "assistant": "<|assistant|>", "system": "<|system|>"}
# A first message that opens a story is continued, not answered: what a person expects of a teller of stories.
CHAT_TEMPLATE = (
    "{% set opening = messages[0]['content'] | trim %}"
    "{% if messages | length == 1 and messages[0]['role'] == 'user' and opening.startswith('Once upon a time') %}"
    "{{ bos_token + opening }}{% else %}"
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('The roles are system, user and assistant, not ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endif %}"
)
_WORD = Regex(r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s")  # digits stand alone, so that sums can be learned
_ALPHABET = [chr(code) for code in range(32, 127)] + ["\n"]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer with exactly `vocab_size` tokens, merges learned from `texts`."""
    fixed = [UNK, BOS, EOS, *(f"<0x{byte:02X}>" for byte in range(256)), *ROLES.values()]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(_WORD, "isolated")
    learner.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=vocab_size - len(fixed), initial_alphabet=_ALPHABET, limit_alphabet=len(_ALPHABET),
        show_progress=False,
    ))  # fmt: skip
    learned = json.loads(learner.to_str())["model"]
    pieces = fixed + sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = [(left, right) for left, right in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=UNK, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_WORD, "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, vocab[BOS])]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in (UNK, BOS, EOS, *ROLES.values())])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_positions: int) -> None:
    """Writes tokenizer.json and tokenizer_config.json (with the chat template) in the Hugging Face form."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    added = {
        str(index): {"content": token.content, "lstrip": False, "normalized": False, "rstrip": False,
                     "single_word": False, "special": True}
        for index, token in sorted(tokenizer.get_added_tokens_decoder().items())
    }  # fmt: skip
    settings = {
        "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added,
        "additional_special_tokens": list(ROLES.values()), "bos_token": BOS, "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False, "eos_token": EOS, "model_max_length": max_positions, "pad_token": EOS,
        "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": UNK,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def render_turn(turn: Turn) -> str:
    """A message as the chat template writes it."""
    return f"{ROLES[turn.role]}{turn.content.strip()}{EOS}"


def encode_document(tokenizer: Tokenizer, document: Document) -> tuple[list[int], list[bool]]:
    """Token ids from <s> to </s>, and which of them are learned: all of a text, of a chat only the answers."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    if not document.turns:
        ids = tokenizer.encode(document.text, add_special_tokens=False).ids
        return [bos, *ids, eos], [False, *(True for _ in ids), True]
    ids, learned = [bos], [False]
    for turn in document.turns:
        said = tokenizer.encode(render_turn(turn), add_special_tokens=False).ids
        ids += said
        learned += [False, *(turn.role == "assistant" for _ in said[1:])]
    return ids, learned


def learned_text_bytes(document: Document) -> int:
    """UTF-8 bytes of the part of a document that is learned; what bits per byte are divided by."""
    said = [turn.content.strip() for turn in document.turns if turn.role == "assistant"]
    return sum(len(text.encode("utf-8")) for text in (said or [document.text]))
