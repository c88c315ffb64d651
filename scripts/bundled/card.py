"""The model card: every figure in it comes from the training record or from an evaluation made here.

Knows the words of the card; `evaluation.py` knows how the figures are made.
"""

import json
from pathlib import Path

from bundled.documents import HELD_OUT_ONE_IN, read_documents
from bundled.evaluation import MAX_NEW_TOKENS, TEMPERATURE, Sample, bits_per_byte, load, samples
from bundled.training import NAME_WEIGHT, PROSE_SHARE

NUM_SAMPLES = 50
NUM_SHOWN = 20
SAMPLE_SEED = 1000

_TEMPLATE = """# The bundled model

A LLaMA of {parameters:,} parameters that comes with Farthing, so that everything can be run and tested at once,
without a download. It is a demonstration that proves the pipeline from tokenizer to sampler.

**What it is**: a teller of very short stories with a few simple answers (greetings, small sums, colours, opposites,
animals, days), and an honest "I do not know" for the rest. It holds chats of one to three exchanges.
A first message that begins with "Once upon a time" is continued as a story and not answered.

**What it is not**: it knows no facts. Sums, animal sounds and opposites are often wrong, a story may be about another
animal than the one asked for, and prose has the sound of old English novels
and no sense. English only; {positions} positions.

## Shape

{layers} layers, hidden size {hidden}, SwiGLU {intermediate}, {heads} query heads and {kv_heads} key-value heads of
{head_dim}, tied embeddings, {vocab:,} tokens (BPE with byte fallback; digits and spaces are kept exactly), bfloat16.
All files together: {folder_bytes:,} bytes.

## Data

{data_table}

- Stories and chats are made by a grammar (`scripts/bundled/`): 16 plots, each with thousands of tellings.
- Prose is public-domain English books (Standard Ebooks, CC0, and War and Peace), cut into passages of whole
  sentences. Headings, verse, unbalanced quotations and passages with slurs are left out.
- About {prose_percent} % of the tokens of training are prose. In chats only the answers are learned.
- One document in {one_in} is held out, by the hash of its content: {held_out:,} documents, all in
  `tests/data/heldout.jsonl.gz`. The generated ones come from the same grammar as the training documents, so they
  measure fit to the grammar and not understanding.

## Training

```
{command}
```

{minutes:.1f} minutes on {where}: {steps:,} steps of about {tokens_per_step:,} tokens,
{million_tokens:.1f} million tokens, {tokens_per_second:,.0f} tokens per second. AdamW, cosine to zero by elapsed time,
bfloat16 autocast, one document in each row. The number of steps depends on the machine (it was not idle);
data, their order and the first weights do not.

Last training loss (mean of the last tenth of the steps): {final_loss:.3f} nats per learned
token, names counted {name_weight:.0f} times.

## Results on held-out documents

| documents | number | bits per byte |
|---|---|---|
{results_table}

Ended by themselves within {max_new} tokens: {ended} of {num_samples} samples at temperature {temperature}
({ended_by_prompt}).

## {num_shown} samples, not picked

The first {num_shown} of those {num_samples}, temperature {temperature}, seeds from {seed}, no top-k or top-p.

{samples}
"""


def _sample_text(number: int, sample: Sample) -> str:
    end = "" if sample.ended else f" *[cut after {MAX_NEW_TOKENS} tokens]*"
    quoted = "\n".join(f"> {line}".rstrip() for line in sample.answer.strip().split("\n"))
    return f"**{number}. {sample.prompt}**\n\n{quoted}{end}\n"


def _ended_by_prompt(made: list[Sample]) -> str:
    groups: dict[str, list[bool]] = {}
    for sample in made:
        name = "chats" if sample.prompt.startswith("user:") else f"prompt {sample.prompt}"
        groups.setdefault(name, []).append(sample.ended)
    return ", ".join(f"{name}: {sum(ended)} of {len(ended)}" for name, ended in groups.items())


def write_card(folder: Path, held_out_file: Path) -> None:
    """Evaluates the model in `folder` and writes its README.md."""
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model, tokenizer = load(folder)
    held_out = read_documents(held_out_file)
    kinds = ("story", "chat", "prose")
    by_kind = {kind: [document for document in held_out if document.kind == kind] for kind in kinds}
    by_kind = {"generated, all": by_kind["story"] + by_kind["chat"], **by_kind}
    results = {kind: bits_per_byte(model, tokenizer, documents) for kind, documents in by_kind.items()}
    made = samples(model, tokenizer, NUM_SAMPLES, SAMPLE_SEED)
    rows = [f"| {kind} | {size['documents']:,} | {size['tokens']:,} |" for kind, size in record["data"].items()]
    where = f"{record['threads']} CPU threads" if record["device"] == "cpu" else "one GPU"
    card = _TEMPLATE.format(
        parameters=model.num_parameters(), positions=config["max_position_embeddings"],
        layers=config["num_hidden_layers"], hidden=config["hidden_size"], intermediate=config["intermediate_size"],
        heads=config["num_attention_heads"], kv_heads=config["num_key_value_heads"], head_dim=config["head_dim"],
        vocab=config["vocab_size"], folder_bytes=sum(
            path.stat().st_size for path in folder.iterdir() if path.suffix in (".json", ".safetensors")
        ),
        data_table="\n".join(["| kind | training documents | tokens |", "|---|---|---|", *rows]),
        prose_percent=round(100 * PROSE_SHARE), one_in=HELD_OUT_ONE_IN, held_out=len(held_out),
        command=record["command"], minutes=record["seconds"] / 60, where=where, steps=record["steps"],
        tokens_per_step=record["tokens"] // record["steps"], million_tokens=record["tokens"] / 1e6,
        tokens_per_second=record["tokens"] / record["seconds"], final_loss=record["final_loss"],
        name_weight=NAME_WEIGHT,
        results_table="\n".join(f"| {kind} | {len(by_kind[kind]):,} | {bits:.3f} |" for kind, bits in results.items()),
        max_new=MAX_NEW_TOKENS, ended=sum(sample.ended for sample in made), num_samples=len(made),
        temperature=TEMPERATURE, ended_by_prompt=_ended_by_prompt(made), num_shown=NUM_SHOWN, seed=SAMPLE_SEED,
        samples="\n".join(_sample_text(number, sample) for number, sample in enumerate(made[:NUM_SHOWN], start=1)),
    )  # fmt: skip
    (folder / "README.md").write_text(card, encoding="utf-8")
