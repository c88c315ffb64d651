"""Logits as requests want them before a token is drawn: penalties for what was there before, bias and masks; the
largest of a row, with the lowest id that has it; and the token that was drawn, counted for the next time.

Everything is a row's own, and stays on the device: what a request wants are rows of tensors. The arithmetic is that of
runtime/sampler.py. Knows no temperature: sampling.py comes next.
Shapes: R rows, V vocabulary, C chunks of it.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from farthing.kernels.histories import History
from farthing.kernels.triton.launch import Launcher, meta

CHUNK = 2048  # tokens of a block


@dataclass(frozen=True, slots=True)
class Tops:
    """The largest of each chunk and the lowest id that has it; NaN is larger than all."""

    value_RC: torch.Tensor
    token_RC: torch.Tensor


def adjusted(launch: Launcher, logits_RV: torch.Tensor, history: History | None) -> tuple[torch.Tensor, Tops]:
    """New logits, or the same where no row has a history."""
    rows, vocabulary = logits_RV.shape
    chunks = triton.cdiv(vocabulary, CHUNK)
    tops = Tops(
        logits_RV.new_empty((rows, chunks), dtype=torch.float32), logits_RV.new_empty((rows, chunks), dtype=torch.int64)
    )
    out_RV = logits_RV if history is None else torch.empty_like(logits_RV)
    of_slots: tuple[torch.Tensor | None, ...] = (None,) * 7
    if history is not None:
        of_slots = (
            history.slots_R, history.repetition_S, history.presence_S, history.frequency_S,
            history.prompt_SV, history.counts_SV, history.bias_SV,
        )  # fmt: skip
    launch(
        _adjust,
        (rows, chunks),
        tops.value_RC, tops.token_RC, out_RV, logits_RV, *of_slots, vocabulary,
        CHUNK=CHUNK,
    )  # fmt: skip
    return out_RV, tops


def largest(launch: Launcher, tops: Tops) -> tuple[torch.Tensor, torch.Tensor]:
    """(value, token) of each row."""
    rows, chunks = tops.value_RC.shape
    value_R, token_R = tops.value_RC.new_empty((rows,)), tops.token_RC.new_empty((rows,))
    launch(
        _largest,
        (rows,),
        value_R, token_R, tops.value_RC, tops.token_RC, chunks,
        CHUNKS=triton.next_power_of_2(chunks),
    )  # fmt: skip
    return value_R, token_R


def count_drawn(launch: Launcher, history: History, token_R: torch.Tensor) -> None:
    """The token of each row that has a history once more in it."""
    rows, vocabulary = len(token_R), history.counts_SV.shape[1]
    launch(_count, (rows,), history.counts_SV, history.slots_R, token_R, vocabulary, num_warps=1)


@triton.jit
def _adjust(
    tops, tokens, out, logits, slots, repetitions, presences, frequencies, prompts, counts, biases,
    vocabulary, CHUNK: tl.constexpr,
):  # fmt: skip
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    token_C = chunk * CHUNK + tl.arange(0, CHUNK)
    mask_C = token_C < vocabulary
    logit_C = tl.load(logits + row * vocabulary + token_C, mask=mask_C, other=float("-inf"))
    if slots is not None:
        slot = tl.load(slots + row)
        if slot >= 0:
            place_C = slot * vocabulary + token_C
            count_C = tl.load(counts + place_C, mask=mask_C, other=0)
            seen_C = (count_C > 0) | (tl.load(prompts + place_C, mask=mask_C, other=0) != 0)
            repetition_C = tl.full((CHUNK,), tl.load(repetitions + slot), tl.float32)
            penalized_C = tl.where(logit_C > 0, tl.div_rn(logit_C, repetition_C), logit_C * repetition_C)
            logit_C = tl.where(seen_C, penalized_C, logit_C)
            penalty_C = tl.load(frequencies + slot) * count_C.to(tl.float32) + tl.load(presences + slot)
            logit_C = tl.where(count_C > 0, logit_C - penalty_C, logit_C)
            logit_C += tl.load(biases + place_C, mask=mask_C, other=0.0)
        tl.store(out + row * vocabulary + token_C, logit_C, mask=mask_C)
    top, token = _first_of_the_largest(logit_C, token_C)
    place = row * tl.num_programs(1) + chunk
    tl.store(tops + place, top)
    tl.store(tokens + place, token)


@triton.jit
def _largest(values, tokens, tops, top_tokens, num_chunks, CHUNKS: tl.constexpr):
    row, chunk_C = tl.program_id(0), tl.arange(0, CHUNKS)
    mask_C = chunk_C < num_chunks
    top_C = tl.load(tops + row * num_chunks + chunk_C, mask=mask_C, other=float("-inf"))
    token_C = tl.load(top_tokens + row * num_chunks + chunk_C, mask=mask_C, other=2**62)
    top, token = _first_of_the_largest(top_C, token_C)
    tl.store(values + row, top)
    tl.store(tokens + row, token)


@triton.jit
def _count(counts, slots, tokens, vocabulary):
    row = tl.program_id(0)
    slot = tl.load(slots + row)
    if slot >= 0:
        place = counts + slot * vocabulary + tl.load(tokens + row)
        tl.store(place, tl.load(place) + 1)


@triton.jit
def _first_of_the_largest(value_C, token_C):
    """NaN is larger than all. Tokens beyond the vocabulary come last, so that they never are the first."""
    strange_C = value_C != value_C
    top = tl.max(tl.where(strange_C, float("inf"), value_C), 0)
    any_strange = tl.max(strange_C.to(tl.int32), 0) > 0
    wanted_C = tl.where(any_strange, strange_C, value_C == top)
    token = tl.min(tl.where(wanted_C, token_C.to(tl.int64), 2**62), 0)
    return tl.where(any_strange, float("nan"), top), token


def examples(launch: Launcher) -> None:
    """With a history and without."""
    rows, slots, vocabulary = 8, 8, 128_256
    logits_RV = meta(rows, vocabulary, dtype=torch.float32)
    of_slot = [meta(slots, dtype=torch.float32) for _ in range(3)]
    of_token = [meta(slots, vocabulary, dtype=dtype) for dtype in (torch.int8, torch.int32, torch.float32)]
    history = History(meta(rows, dtype=torch.int64), *of_slot, *of_token)
    for given in (None, history):
        largest(launch, adjusted(launch, logits_RV, given)[1])
    count_drawn(launch, history, meta(rows, dtype=torch.int64))
