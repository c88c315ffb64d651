"""Paged attention in Triton: that of the reference at any context, page and head, blind to slots that are not its own;
batch-invariant, it gives a row the same bits however its sequence is cut into steps and batches.

Shapes as in paged_sequences.py.
"""

import math
import random
from dataclasses import replace
from itertools import product

import pytest
import torch
from paged_sequences import Cached, Part, make, slots_of
from triton_kernels import Kernels

from farthing.kernels.reference import CHUNK, ReferenceKernels
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.attention_shapes import CHUNKS_AT_ONCE, FEW_ROWS
from farthing.models import graph_memory

REFERENCE = ReferenceKernels()
LENGTHS = (300, 258, 256, 40, 5, 1)
MIXED: tuple[Part, ...] = ((0, 0, 300), (1, 257, 258), (2, 250, 256), (3, 10, 40), (4, 4, 5), (5, 0, 1))
DECODE: tuple[Part, ...] = tuple((seq, length - 1, length) for seq, length in enumerate(LENGTHS))
FP32, FP16, BF16, FP8, INT8 = torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.int8


def test_the_memory_plan_counts_the_partial_sums_of_these_chunks_and_rows() -> None:
    assert (graph_memory._CHUNK, graph_memory._FEW_ROWS) == (CHUNK, FEW_ROWS)


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for rows, others in zip(found, expected, strict=True):
        atol = (1e-5 if rows.dtype == FP32 else 1.5e-2) * float(others.abs().max())
        assert rows.dtype == others.dtype and torch.allclose(rows.float(), others.float(), rtol=0, atol=atol)


def rounded_cache(cached: Cached, kv_dtype: torch.dtype) -> tuple[Cached, Cached]:
    """The same sequences in a cache of `kv_dtype`, and in one of fp32 that holds the values it stands for."""
    caches, meant = [], []
    for x_BSJD in (cached.k_cache_BSJD, cached.v_cache_BSJD):
        if kv_dtype == INT8:
            scale_BSJ1 = x_BSJD.float().abs().amax(-1, keepdim=True) / 127
            codes_BSJD = (x_BSJD.float() / scale_BSJ1).nan_to_num(0).round()
            meant.append(codes_BSJD * scale_BSJ1)
            scale_bytes = scale_BSJ1.view(torch.int8).flatten(1)
            joined = torch.cat((codes_BSJD.to(INT8).flatten(1), scale_bytes), 1)
            caches.append(joined.view(*x_BSJD.shape[:3], -1))
        else:
            caches.append(x_BSJD.to(kv_dtype))
            meant.append(caches[-1].float())
    return (
        replace(cached, k_cache_BSJD=caches[0], v_cache_BSJD=caches[1]),
        replace(cached, k_cache_BSJD=meant[0], v_cache_BSJD=meant[1]),
    )


@pytest.mark.parametrize(
    ("heads", "dtype", "kv_dtype", "window", "block_size"),
    [
        ((4, 2, 24), FP32, FP32, None, 16),
        ((6, 2, 10), FP32, FP32, 20, 3),
        ((2, 2, 16), BF16, BF16, 257, 32),
        ((4, 1, 64), FP16, FP16, None, 2),
        ((4, 1, 16), BF16, FP8, 1, 16),
        ((9, 3, 20), FP32, INT8, 100, 4),
        ((17, 1, 8), FP16, INT8, None, 256),
    ],
    ids=str,
)
def test_attention_is_that_of_the_reference(
    kernels: Kernels, heads: tuple[int, int, int], dtype: torch.dtype, kv_dtype: torch.dtype, window: int | None,
    block_size: int,
) -> None:  # fmt: skip
    cached, meant = rounded_cache(make(REFERENCE, LENGTHS, heads, dtype, block_size=block_size), kv_dtype)
    for parts in (MIXED, DECODE):
        expected = meant.attend(REFERENCE, list(parts), window)
        assert_close(cached.attend(kernels, list(parts), window), expected)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 40))])
def test_attention_of_any_shape_is_that_of_the_reference(kernels: Kernels, seed: int) -> None:
    chosen = random.Random(seed)
    num_kv_heads, group, head_dim = chosen.randint(1, 3), chosen.randint(1, 7), chosen.choice((4, 12, 32, 80))
    dtype, kv_dtype = chosen.choice(((FP32, FP32), (FP16, FP16), (BF16, BF16), (BF16, FP8), (FP32, INT8)))
    lengths = tuple(chosen.randint(1, 600) for _ in range(chosen.randint(1, 4)))
    cached = make(
        REFERENCE, lengths, (num_kv_heads * group, num_kv_heads, head_dim), dtype, block_size=chosen.choice((1, 8, 48))
    )
    cached, meant = rounded_cache(cached, kv_dtype)
    parts = [(seq, max(0, length - chosen.choice((1, 1, 2, 30))), length) for seq, length in enumerate(lengths)]
    window = chosen.choice((None, chosen.randint(1, 600)))
    assert_close(cached.attend(kernels, parts, window), meant.attend(REFERENCE, parts, window))


@pytest.mark.parametrize(("dtype", "window"), [(FP32, None), (BF16, 30)], ids=str)
def test_rows_are_bit_equal_alone_batched_prefilled_and_decoded(
    exact: Kernels, dtype: torch.dtype, window: int | None
) -> None:
    cached = make(REFERENCE, (300, 256, 20), (4, 2, 16), dtype)
    whole = cached.attend(exact, [(0, 230, 300), (2, 0, 20)], window)
    for parts in (
        [(0, 299, 300), (2, 19, 20), (1, 255, 256)],
        [(0, 256, 257)],
        [(2, 4, 5), (0, 255, 256)],
        [(1, 200, 203), (0, 251, 260), (2, 7, 8)],
    ):
        for (seq, first, end), rows in zip(parts, cached.attend(exact, parts, window), strict=True):
            if seq != 1:
                begin = 230 if seq == 0 else 0
                assert torch.equal(rows, whole[min(seq, 1)][first - begin : end - begin])


@pytest.mark.parametrize(
    ("num_rows", "window"),
    [
        pytest.param(*case, marks=[] if case in {(5, 257), (FEW_ROWS, None), (FEW_ROWS + 1, 30)} else pytest.mark.slow)
        for case in product(range(2, FEW_ROWS + 2), (None, 30, 257))
    ],
    ids=str,
)
def test_drafts_and_short_tails_have_the_bits_of_an_exact_prefill(
    exact: Kernels, num_rows: int, window: int | None
) -> None:
    """Alone, and in steps where other sequences have few rows, many, or one."""
    cached = make(REFERENCE, (260, 40), (2, 1, 16))
    first, second = cached.attend(exact, [(0, 250, 260), (1, 20, 40)], window)
    tail, one, many = (0, 260 - num_rows, 260), (1, 29, 30), (1, 20, 30)
    few = (1, 24 - num_rows + FEW_ROWS, 24 + FEW_ROWS)
    for parts in ([tail], [many, tail, one], [tail, few]):
        for (seq, begin, end), rows in zip(parts, cached.attend(exact, parts, window), strict=True):
            assert torch.equal(rows, second[begin - 20 : end - 20] if seq else first[begin - 250 : end - 250])


@pytest.mark.parametrize(
    ("num_rows", "dtype", "kv_dtype", "window"),
    [(2, BF16, FP8, None), (FEW_ROWS, FP32, INT8, 100), (FEW_ROWS + 1, FP16, FP16, None)],
    ids=str,
)
def test_steps_of_few_and_many_new_rows_are_those_of_the_reference(
    kernels: Kernels, num_rows: int, dtype: torch.dtype, kv_dtype: torch.dtype, window: int | None
) -> None:
    cached, meant = rounded_cache(make(REFERENCE, (258, 40), (3, 1, 24), dtype), kv_dtype)
    parts = [(0, 258 - num_rows, 258), (1, 20, 40), (0, 257, 258), (1, 30, 32)]
    assert_close(cached.attend(kernels, parts, window), meant.attend(REFERENCE, parts, window))


def test_a_context_of_more_chunks_than_are_read_at_once_has_the_bits_of_an_exact_prefill(exact: Kernels) -> None:
    end = 2 * CHUNKS_AT_ONCE * CHUNK + 1
    cached = make(REFERENCE, (end,), (2, 1, 16))
    (whole,) = cached.attend(exact, [(0, end - FEW_ROWS - 1, end)], None)
    for num_rows in (1, 2):
        assert torch.equal(cached.attend(exact, [(0, end - num_rows, end)], None)[0], whole[-num_rows:])


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_decoded_rows_are_bit_equal_alone_and_in_any_batch(
    kernels: Kernels, exact: Kernels, batch_invariant: bool
) -> None:
    chosen = exact if batch_invariant else kernels
    cached = make(REFERENCE, LENGTHS, (6, 3, 16))
    together = cached.attend(chosen, list(DECODE), None)
    for part, rows in zip(DECODE[:2], together, strict=False):
        assert torch.equal(cached.attend(chosen, [part], None)[0], rows)
    mixed = cached.attend(chosen, [(3, 0, 40), DECODE[1]], None)
    assert torch.equal(mixed[1], together[1])


@pytest.mark.parametrize("num_rows", [1, 2])
def test_sequences_that_share_more_than_the_cache_has_room_for_have_the_bits_of_one(
    kernels: Kernels, num_rows: int
) -> None:
    """Parts of 6 rows or more times 3 chunks, where the cache has 2 chunks."""
    cached = make(REFERENCE, (520,), (4, 2, 16))
    part: Part = (0, 520 - num_rows, 520)
    alone = cached.attend(kernels, [part], None)[0]
    assert all(torch.equal(rows, alone) for rows in cached.attend(kernels, [part] * 6, None))


def test_sequences_without_rows_change_nothing(exact: Kernels) -> None:
    """As in a captured step that is not full, also where others have several."""
    cached = make(REFERENCE, (40, 30), (4, 2, 16))
    expected = torch.cat(cached.attend(exact, [(0, 38, 40), (1, 29, 30)], None))
    (first, second), unused = cached.tables, torch.zeros(1, dtype=torch.int64)
    parts = [(0, 2, 38, first), (0, 0, 0, unused), (2, 1, 29, second), (3, 0, 0, unused), (3, 0, 0, unused)]
    q_THD = torch.cat([cached.queries[0][38:40], cached.queries[1][29:30], torch.full((2, 4, 16), math.nan)])
    out_THD = exact.attention(q_THD, cached.k_cache_BSJD, cached.v_cache_BSJD, Sequences.of(parts), None)
    assert torch.equal(out_THD[:3], expected)
    assert cached.attend(exact, [(0, 20, 20)], None)[0].shape == (0, 4, 16)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_positions_behind_the_window_are_not_read(kernels: Kernels, poison: float) -> None:
    cached, window = make(REFERENCE, (300,), (4, 2, 16)), 20
    clean = cached.attend(kernels, [(0, 299, 300)], window)[0]
    slots = slots_of(cached.tables[0], torch.arange(280), 16)
    for cache in (cached.k_cache_BSJD, cached.v_cache_BSJD):
        cache.flatten(0, 1)[slots] = poison
    assert torch.equal(cached.attend(kernels, [(0, 299, 300)], window)[0], clean)


@pytest.mark.parametrize("num_rows", [1, 20])
def test_a_poisoned_sequence_does_not_reach_its_neighbours(kernels: Kernels, num_rows: int) -> None:
    cached = make(REFERENCE, (60, 50, 20), (4, 2, 16))
    parts: list[Part] = [(seq, len(query) - num_rows, len(query)) for seq, query in enumerate(cached.queries)]
    clean = [rows.clone() for rows in cached.attend(kernels, parts, None)]
    slots = slots_of(cached.tables[1], torch.arange(50), 16)
    for cache in (cached.k_cache_BSJD, cached.v_cache_BSJD):
        cache.flatten(0, 1)[slots] = math.nan
    found = cached.attend(kernels, parts, None)
    assert torch.equal(found[0], clean[0]) and torch.equal(found[2], clean[2]) and found[1].isnan().all()


@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e30])
def test_scores_far_beyond_exp_neither_overflow_nor_vanish(kernels: Kernels, scale: float) -> None:
    cached = make(REFERENCE, (260,), (2, 1, 4))
    cached.queries[0].mul_(scale)
    part: list[Part] = [(0, 259, 260)]
    found, expected = cached.attend(kernels, part, None)[0], cached.attend(REFERENCE, part, None)[0]
    assert torch.allclose(found, expected, rtol=0, atol=1e-2)
