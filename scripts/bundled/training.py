"""The model's shape, batches of tokens, and the training loop under a wall-clock limit.

The learning rate follows the elapsed share of the time, so a slow machine anneals to zero too; data, their order
and the first weights depend on the seed alone. Knows token ids only, no text.
"""

import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

Encoded = tuple[list[int], list[bool]]
IGNORED = -100
MAX_POSITIONS = 512
TOKENS_PER_STEP = 2048
POOL_DOCUMENTS = 1024  # drawn together, then grouped by length
PROSE_SHARE = 0.2  # of all tokens
NAME_WEIGHT = 3.0  # in the loss: a name that changes in the middle spoils a story
THREAD_TRIAL_STEPS = 25  # how often the other number of threads is tried; the faster one stays


@dataclass(frozen=True, slots=True)
class Progress:
    """What one training run did."""

    steps: int
    tokens: int
    seconds: float
    final_loss: float  # mean over the last tenth of the steps, nats per learned token, weighted
    device: str


def new_model(vocab_size: int, bos: int, eos: int, seed: int) -> LlamaForCausalLM:
    """A LLaMA of about 3.5 million parameters, in float32, with weights from the seed."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=vocab_size, hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=8,
        num_key_value_heads=4, head_dim=32, max_position_embeddings=MAX_POSITIONS, rms_norm_eps=1e-5,
        tie_word_embeddings=True, bos_token_id=bos, eos_token_id=eos, pad_token_id=eos, attn_implementation="sdpa",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ))  # fmt: skip
    _prepare_for_copying(model)
    return model


def _prepare_for_copying(model: LlamaForCausalLM) -> None:
    """First weights with which attention passes on what it sees, so that names are copied after minutes of training.

    Values leave a block as they came in (o = v transposed), queries lean towards keys, and the MLP begins silent.
    After Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers" (arXiv 2305.09828).
    """
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(std=0.04)
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
                linear.weight.normal_(std=linear.in_features**-0.5)
            mlp.down_proj.weight.zero_()
            of_all_heads = attention.head_dim, attention.num_key_value_groups
            keys = _spread(attention.k_proj.weight, *of_all_heads)
            values = _spread(attention.v_proj.weight, *of_all_heads)
            attention.q_proj.weight.add_(keys).mul_(0.5)
            attention.o_proj.weight.copy_(values.T * 0.125)


def _spread(weight: Tensor, head_dim: int, copies: int) -> Tensor:
    """A key or value projection with each head repeated for the query heads that share it."""
    return weight.unflatten(0, (-1, head_dim)).repeat_interleave(copies, 0).flatten(0, 1)


def endless(documents: list[Encoded], rng: random.Random) -> Iterator[Encoded]:
    """The documents for ever, newly shuffled each time round."""
    while True:
        order = list(range(len(documents)))
        rng.shuffle(order)
        yield from (documents[index] for index in order)


def mixed(generated: list[Encoded], prose: list[Encoded], prose_share: float, rng: random.Random) -> Iterator[Encoded]:
    """Generated and prose documents, so that `prose_share` of all tokens are prose."""
    sources = {"generated": endless(generated, rng), "prose": endless(prose, rng)}
    taken = {"generated": 0, "prose": 0}
    while True:
        prose_is_due = taken["prose"] < prose_share * sum(taken.values()) or prose_share == 1
        source = "prose" if prose_is_due else "generated"
        document = next(sources[source])
        taken[source] += len(document[0])
        yield document


def batches(documents: Iterator[Encoded], pad: int, rng: random.Random) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, labels), one document in each row, documents of like length together, `TOKENS_PER_STEP` ids at most.

    A row holds one document only, as at inference: names of other stories are never in sight.
    """
    while True:
        pool = sorted((next(documents) for _ in range(POOL_DOCUMENTS)), key=lambda document: len(document[0]))
        groups: list[list[Encoded]] = [[]]
        for document in pool:
            if (len(groups[-1]) + 1) * len(document[0]) > TOKENS_PER_STEP:
                groups.append([])
            groups[-1].append(document)
        rng.shuffle(groups)
        for group in groups:
            width = len(group[-1][0])
            ids = [tokens + [pad] * (width - len(tokens)) for tokens, _ in group]
            kept = [learned + [False] * (width - len(learned)) for _, learned in group]
            ids_BT = torch.tensor(ids)
            yield ids_BT, torch.where(torch.tensor(kept), ids_BT, IGNORED)


def learning_rate(elapsed_share: float, peak: float) -> float:
    """Two per cent of the time up, then a cosine down to zero."""
    if elapsed_share < 0.02:
        return peak * max(elapsed_share, 0.0005) / 0.02
    return peak * 0.5 * (1 + cos(pi * min(1.0, (elapsed_share - 0.02) / 0.98)))


def save_model(model: LlamaForCausalLM, folder: Path) -> None:
    """Writes config, generation config and bfloat16 weights; the weights file appears whole or not at all."""
    staging = folder / ".partial"
    shutil.rmtree(staging, ignore_errors=True)
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.config.dtype = torch.bfloat16
    copy.save_pretrained(staging)
    for path in sorted(staging.iterdir()):
        if path.suffix == ".json":
            path.write_text(json.dumps(json.loads(path.read_text()), indent=2) + "\n", encoding="utf-8")
        path.chmod(0o644)
        path.replace(folder / path.name)
    staging.rmdir()


def train(
    model: LlamaForCausalLM, data: Iterator[tuple[Tensor, Tensor]], weights_V: Tensor, seconds: float,
    peak_learning_rate: float, checkpoint: Callable[[], None],
) -> Progress:  # fmt: skip
    """Trains until the time is over; `weights_V` says how much each token counts in the loss.

    `checkpoint` is called every five minutes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak_learning_rate, betas=(0.9, 0.98), fused=True)
    started = last_checkpoint = last_print = time.monotonic()
    losses: list[float] = []
    tokens = 0
    token_seconds = {1: 0.0, torch.get_num_threads(): 0.0}  # on a shared machine a second thread can cost time
    while (elapsed := time.monotonic() - started) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(elapsed / seconds, peak_learning_rate)
        is_trial = len(losses) % THREAD_TRIAL_STEPS == 0
        threads = (max if is_trial else min)(token_seconds, key=token_seconds.__getitem__)
        torch.set_num_threads(threads)
        ids_BT, labels_BT = next(data)
        with torch.autocast(device, dtype=torch.bfloat16):
            logits_BTV = model(input_ids=ids_BT.to(device), use_cache=False).logits[:, :-1].float()
        targets = labels_BT[:, 1:].flatten().to(device)
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1), targets, weights_V.to(device), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        tokens += ids_BT.numel()
        now = time.monotonic()
        token_seconds[threads] = (now - started - elapsed) / ids_BT.numel()
        if now - last_print > 15:
            last_print = now
            recent = losses[-200:]
            done = f"{now - started:6.0f} s  step {len(losses):6d}  loss {sum(recent) / len(recent):.3f}"
            speed = f"{tokens / (now - started):,.0f} tokens/s  {threads} threads"
            print(f"{done}  {speed}", file=sys.stderr, flush=True)
        if now - last_checkpoint > 300:
            last_checkpoint = now
            checkpoint()
    tail = losses[-max(1, len(losses) // 10) :]
    return Progress(len(losses), tokens, time.monotonic() - started, sum(tail) / len(tail), device)
