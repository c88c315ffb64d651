"""Trains the bundled model: data, tokenizer, weights, held-out documents, model card - one command.

    python scripts/train_bundled.py --corpus CORPUS --minutes 27

The parts stand in `scripts/bundled/`. `--corpus` is a folder of public-domain English .txt books. Data, their order
and the first weights follow from `--seed`; the number of steps is what the machine does in `--minutes`.
"""

import argparse
import json
import os
import random
import shlex
import sys
from dataclasses import asdict

import torch
from bundled import words
from bundled.arguments import parser
from bundled.card import write_card
from bundled.documents import Document, split, write_documents
from bundled.generator import generated_documents
from bundled.prose import prose_documents
from bundled.tokenizer import BOS, EOS, encode_document, save_tokenizer, train_tokenizer
from bundled.training import MAX_POSITIONS, NAME_WEIGHT, PROSE_SHARE, batches, mixed, new_model, save_model, train

VOCAB_SIZE = 2048


def train_model(arguments: argparse.Namespace, command: str) -> None:
    """Makes the data and the tokenizer, trains, and writes model and held-out documents."""
    generated = generated_documents(arguments.seed, arguments.documents)
    training, held_out = split([*generated, *prose_documents(arguments.corpus)])
    write_documents(arguments.held_out, held_out)
    tokenizer = train_tokenizer((text_of(document) for document in training), VOCAB_SIZE)
    save_tokenizer(tokenizer, arguments.output, MAX_POSITIONS)
    encoded = {
        kind: [encode_document(tokenizer, document) for document in training if document.kind == kind]
        for kind in ("story", "chat", "prose")
    }
    sizes = {
        kind: {"documents": len(some), "tokens": sum(len(ids) for ids, _ in some)} for kind, some in encoded.items()
    }
    print(f"data: {sizes}, held out {len(held_out)} documents", file=sys.stderr, flush=True)
    bos, eos = tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS)
    model = new_model(VOCAB_SIZE, bos, eos, arguments.seed)
    rng = random.Random(arguments.seed)
    documents = mixed(encoded["story"] + encoded["chat"], encoded["prose"], PROSE_SHARE, rng)
    weights = torch.ones(VOCAB_SIZE)
    weights[[tokenizer.token_to_id(f" {name}") for name in (*words.GIRL_NAMES, *words.BOY_NAMES)]] = NAME_WEIGHT
    progress = train(model, batches(documents, eos, rng), weights, arguments.minutes * 60, arguments.learning_rate,
                     lambda: save_model(model, arguments.output))  # fmt: skip
    save_model(model, arguments.output)
    record = {"command": command, "threads": arguments.threads, "data": sizes, **asdict(progress)}
    (arguments.output / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def text_of(document: Document) -> str:
    """All that is said in a document, for the tokenizer to learn from."""
    return document.text or "\n".join(turn.content for turn in document.turns)


def main(argv: list[str]) -> None:
    """Trains, unless only the card is wanted, and writes the card."""
    arguments = parser().parse_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(arguments.threads)
    if not arguments.card_only:
        train_model(arguments, shlex.join(["python", "scripts/train_bundled.py", *argv]))
    write_card(arguments.output, arguments.held_out)


if __name__ == "__main__":
    main(sys.argv[1:])
