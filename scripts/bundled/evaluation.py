"""What the trained model is worth: bits per byte on held-out documents, samples, and how many samples end.

Works on the files as they are shipped (bfloat16 weights, computed in float32) with transformers' own `generate`.
Knows nothing of how the model was trained.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from bundled.documents import Document, Turn
from bundled.tokenizer import BOS, EOS, ROLES, encode_document, learned_text_bytes, render_turn
from bundled.training import IGNORED

TEMPERATURE = 0.7
MAX_NEW_TOKENS = 200
_STORY = "Once upon a time"
_QUESTIONS: tuple[tuple[str, ...], ...] = (  # user, answer, user, ...: the last one is to be answered
    ("Hello!",), ("Who are you?",), ("Tell me a story about a fox.",), ("What is 3 + 4?",),
    ("What colour is the sky?",), ("What is the capital of France?",), ("What is the opposite of hot?",),
    ("Tell me a bedtime story.",), ("What does a cow say?",), ("What day comes after Friday?",),
    ("Hi, my name is Clara.", "Hello, Clara! It is nice to meet you.", "Tell me a short story about a brave mouse."),
    ("How are you today?",), ("Explain quantum physics.",), ("Which is bigger, a mouse or a horse?",),
    ("Tell me a joke.",), ("What is five minus two?", "Five minus two is three.", "Thank you!"),
    ("Can you tell me a story about an owl?",), ("What is a baby dog called?",), ("Write a program in Python.",),
    ("Who are you?", "I am Farthing's bundled model, a very small model that tells stories.", "What can you do?"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text: what was asked, what came, and whether it ended by itself."""

    prompt: str
    answer: str
    ended: bool


def load(folder: Path) -> tuple[LlamaForCausalLM, Tokenizer]:
    """The shipped model in float32 and its tokenizer."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def bits_per_byte(model: LlamaForCausalLM, tokenizer: Tokenizer, documents: Sequence[Document]) -> float:
    """Bits that the model needs for the learned part of the documents, ends included, per UTF-8 byte of it."""
    encoded = sorted((encode_document(tokenizer, document) for document in documents), key=lambda pair: len(pair[0]))
    total_nats = 0.0
    for start in range(0, len(encoded), 32):
        group = encoded[start : start + 32]
        width = len(group[-1][0])
        ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _ in group])
        kept = torch.tensor([learned + [False] * (width - len(learned)) for _, learned in group])
        with torch.inference_mode():
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        labels = torch.where(kept, ids, IGNORED)[:, 1:]
        total_nats += torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        ).item()
    return total_nats / math.log(2) / sum(learned_text_bytes(document) for document in documents)


def prompts(count: int) -> list[tuple[str, str]]:
    """`count` prompts as (for people, for the model): story openings, nothing at all, and chats, two in five chats."""
    made: list[tuple[str, str]] = []
    asked = 0
    for index in range(count):
        if index % 5 in (0, 1):
            made.append((_STORY, _STORY) if (index // 5 + index) % 2 == 0 else ("(nothing)", ""))
        elif index % 5 == 2:
            made.append((_STORY, _STORY) if (index // 5) % 2 == 0 else ("(nothing)", ""))
        else:
            said = _QUESTIONS[asked % len(_QUESTIONS)]
            asked += 1
            roles = ("user", "assistant") * len(said)
            turns = [Turn(role, content) for role, content in zip(roles, said, strict=False)]
            shown = " / ".join(f"{turn.role}: {turn.content}" for turn in turns)
            made.append((shown, "".join(render_turn(turn) for turn in turns) + ROLES["assistant"]))
    return made


def samples(model: LlamaForCausalLM, tokenizer: Tokenizer, count: int, seed: int) -> list[Sample]:
    """`count` samples, each with its own seed, none left out."""
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    made = []
    for index, (shown, prompt) in enumerate(prompts(count)):
        ids = [bos, *tokenizer.encode(prompt, add_special_tokens=False).ids]
        torch.manual_seed(seed + index)
        out = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=True,
            temperature=TEMPERATURE, top_k=0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS, pad_token_id=eos,
        )[0, len(ids) :].tolist()  # fmt: skip
        ended = eos in out
        made.append(Sample(shown, tokenizer.decode(out, skip_special_tokens=True), ended))
    return made
