"""Paged attention in C++: that of the reference at any context, page and head, blind to slots that are not its own, and
bit-equal however a sequence is cut into steps, batches and threads.

Shapes as in paged_sequences.py.
"""

import math
from functools import cache

import pytest
import torch
from native_kernels import native
from paged_sequences import Part, make, slots_of

from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.reference import CHUNK, ReferenceKernels

REFERENCE = ReferenceKernels()
HEADS = [(4, 4, 16), (4, 2, 24), (6, 3, 10), (4, 1, 8), (1, 1, 2), (9, 3, 128), (32, 4, 64)]  # H, J, D
BLOCK_SIZES = (2, 3, 4, 16, 32)
WINDOWS = (None, 1, 16, 257)
LENGTHS = (513, 301, 258, 257, 256, 255, 40, 5, 1)
MIXED: tuple[Part, ...] = (  # a prefill, parts of prefills, tokens one at a time
    (0, 0, 513), (1, 300, 301), (2, 254, 258), (3, 100, 140), (4, 255, 256), (5, 253, 255), (6, 0, 40), (7, 4, 5),
    (8, 0, 1),
)  # fmt: skip
CONTEXTS = (1, 2, 15, 16, 17, 255, 256, 257, 1000, 4095, 4097, 8192)
FP32, BF16, INT8 = torch.float32, torch.bfloat16, torch.int8
PAIRS = [(FP32, FP32), (BF16, BF16), (FP32, INT8), (BF16, INT8)]  # of activations and cache
EVERY_PAIR = pytest.mark.parametrize(("dtype", "kv_dtype"), PAIRS, ids=str)
EVERY_CACHE = pytest.mark.parametrize(("dtype", "kv_dtype"), PAIRS[:3], ids=str)


def assert_close(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for rows, others in zip(found, expected, strict=True):
        atol = (1e-5 if rows.dtype == torch.float32 else 1e-2) * float(others.abs().max())
        assert rows.dtype == others.dtype and torch.allclose(rows.float(), others.float(), rtol=0, atol=atol)


@cache
def of_the_reference(
    heads: tuple[int, int, int], dtype: torch.dtype, kv_dtype: torch.dtype, window: int | None
) -> list[torch.Tensor]:
    """Rows of MIXED; one answer for all levels and pages."""
    return make(REFERENCE, LENGTHS, heads, dtype, kv_dtype=kv_dtype).attend(REFERENCE, list(MIXED), window)


@EVERY_PAIR
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_attention_is_that_of_the_reference_on_pages_of_any_size(
    kernels: NativeKernels, level: str, heads: tuple[int, int, int], dtype: torch.dtype, kv_dtype: torch.dtype
) -> None:
    for block_size in BLOCK_SIZES[1:2] if level == "portable" else BLOCK_SIZES:
        sequences = make(kernels, LENGTHS, heads, dtype, block_size=block_size, kv_dtype=kv_dtype)
        for window in (16,) if level == "portable" else WINDOWS:
            found = sequences.attend(kernels, list(MIXED), window)
            assert_close(found, of_the_reference(heads, dtype, kv_dtype, window))


@cache
def long_contexts(dtype: torch.dtype, kv_dtype: torch.dtype, window: int | None) -> list[torch.Tensor]:
    sequences = make(REFERENCE, CONTEXTS, (6, 2, 20), dtype, kv_dtype=kv_dtype)
    return sequences.attend(REFERENCE, last_tokens(1), window)


def last_tokens(count: int) -> list[Part]:
    return [(seq, max(0, length - count), length) for seq, length in enumerate(CONTEXTS)]


@EVERY_PAIR
@pytest.mark.parametrize("window", [None, 1000])
def test_the_next_token_after_1_to_8192_is_that_of_the_reference_and_bit_equal_alone_and_on_any_number_of_threads(
    level: str, dtype: torch.dtype, kv_dtype: torch.dtype, window: int | None
) -> None:
    """Alone, chunks are shared among threads; together they are not."""
    one = native(level, 1)
    sequences = make(one, CONTEXTS, (6, 2, 20), dtype, kv_dtype=kv_dtype)
    together = sequences.attend(one, last_tokens(1), window)
    assert_close(together, long_contexts(dtype, kv_dtype, window))
    for num_threads in (1, 2, 3):
        kernels = native(level, num_threads)
        assert all(map(torch.equal, sequences.attend(kernels, last_tokens(1), window), together))
        for part, rows in zip(last_tokens(1), together, strict=True):
            assert torch.equal(sequences.attend(kernels, [part], window)[0], rows)
        for few, rows in zip(sequences.attend(kernels, last_tokens(3), window), together, strict=True):
            assert torch.equal(few[-1:], rows)


@EVERY_CACHE
@pytest.mark.parametrize("num_threads", [1, 2, 3])
@pytest.mark.parametrize("heads", [(4, 2, 24), (4, 1, 8), (9, 3, 128)], ids=str)
def test_rows_are_bit_equal_alone_batched_chunked_and_decoded(
    level: str, heads: tuple[int, int, int], num_threads: int, dtype: torch.dtype, kv_dtype: torch.dtype
) -> None:
    if level == "portable":  # slow
        heads = (heads[0] // heads[1], 1, 2 * (heads[2] // 16 + 1))
    kernels, one = native(level, num_threads), native(level, 1)
    sequences = make(kernels, LENGTHS, heads, dtype, block_size=4, kv_dtype=kv_dtype)
    for window in (None, 3, 257):
        alone = sequences.alone(one, window)
        whole: list[Part] = [(seq, 0, length) for seq, length in enumerate(LENGTHS)]
        for parts in (
            whole[::-1],
            [(6, 10, 11), (0, 0, 100), (7, 0, 5)],
            [(0, 100, 300), (8, 0, 1), (3, 255, 256)],
            [(0, 255, 258), (3, 256, 257), (4, 255, 256), (5, 254, 255)],
            [(0, 512, 513), (0, 256, 257), (0, 257, 258)],
            [(0, 256, 513)],
            [(1, 299, 301)],
        ):
            for (seq, first, end), rows in zip(parts, sequences.attend(kernels, parts, window), strict=True):
                assert torch.equal(rows, alone[seq][first:end])


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_every_position_decodes_to_what_prefill_gave_it(level: str, num_threads: int) -> None:
    kernels = native(level, num_threads)
    sequences = make(kernels, (CHUNK + 9,), (4, 2, 8), block_size=8)
    for window in (None, 5):
        whole = sequences.alone(kernels, window)[0]
        decoded = [sequences.attend(kernels, [(0, p, p + 1)], window)[0] for p in range(CHUNK + 9)]
        assert torch.equal(torch.cat(decoded), whole)


@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_a_row_of_40_sequences_is_the_row_that_one_gives(level: str, num_threads: int) -> None:
    kernels = native(level, num_threads)
    sequences = make(kernels, tuple(range(1, 400, 10)), (6, 3, 16))
    decodes = [(seq, len(query) - 1, len(query)) for seq, query in enumerate(sequences.queries)]
    alone = [sequences.attend(kernels, [part], None)[0] for part in decodes]
    for count in range(1, len(decodes) + 1):
        assert all(map(torch.equal, sequences.attend(kernels, decodes[:count], None), alone))
        assert all(map(torch.equal, sequences.attend(kernels, decodes[-count:], None), alone[-count:]))


@EVERY_CACHE
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_positions_behind_the_window_are_not_read(
    kernels: NativeKernels, poison: float, dtype: torch.dtype, kv_dtype: torch.dtype
) -> None:
    sequences, window = make(kernels, (300,), (4, 2, 16), dtype, kv_dtype=kv_dtype), 20
    clean = sequences.attend(kernels, [(0, 299, 300)], window)[0]
    poisons = torch.full((280, 2, 16), poison, dtype=dtype)
    slots = slots_of(sequences.tables[0], torch.arange(280), 16)
    kernels.store_kv(poisons, poisons, sequences.k_cache_BSJD, sequences.v_cache_BSJD, slots)
    assert torch.equal(sequences.attend(kernels, [(0, 299, 300)], window)[0], clean)


@EVERY_CACHE
@pytest.mark.parametrize("num_rows", [1, 2, 70])
def test_a_poisoned_sequence_does_not_reach_its_neighbours(
    kernels: NativeKernels, num_rows: int, dtype: torch.dtype, kv_dtype: torch.dtype
) -> None:
    sequences = make(kernels, (300, 290, 70), (4, 2, 16), dtype, kv_dtype=kv_dtype)
    parts: list[Part] = [(seq, len(query) - num_rows, len(query)) for seq, query in enumerate(sequences.queries)]
    clean = [rows.clone() for rows in sequences.attend(kernels, parts, None)]
    sequences.queries[1].fill_(math.nan)
    poisons = torch.full((290, 2, 16), math.nan, dtype=dtype)
    slots = slots_of(sequences.tables[1], torch.arange(290), 16)
    kernels.store_kv(poisons, poisons, sequences.k_cache_BSJD, sequences.v_cache_BSJD, slots)
    found = sequences.attend(kernels, parts, None)
    assert torch.equal(found[0], clean[0]) and torch.equal(found[2], clean[2]) and found[1].isnan().all()


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("cache", ["k", "v"])
def test_one_value_that_is_not_finite_shows_through_a_cache_of_int8(
    kernels: NativeKernels, cache: str, poison: float
) -> None:
    """With K or V in 16 bits it would show, too: codes alone would hide it."""
    for backend in (kernels, REFERENCE):
        sequences = make(backend, (40,), (4, 2, 16), kv_dtype=INT8)
        rows = {"k": sequences.keys[0][7:8].clone(), "v": sequences.values[0][7:8].clone()}
        rows[cache][0, 1, 3] = poison
        slots = slots_of(sequences.tables[0], torch.tensor([7]), 16)
        backend.store_kv(rows["k"], rows["v"], sequences.k_cache_BSJD, sequences.v_cache_BSJD, slots)
        (found,) = sequences.attend(backend, [(0, 39, 40)], None)
        assert found[:, :2].isfinite().all() and found[:, 2:].isnan().all(), "the other KV head knows nothing of it"


def test_rows_of_zeros_and_of_tiny_and_huge_numbers_are_kept_in_int8(kernels: NativeKernels) -> None:
    for scale in (0.0, 1e-42, 1e-36, 1e30):
        both = [make(backend, (40,), (4, 2, 16), kv_dtype=INT8) for backend in (kernels, REFERENCE)]
        for sequences, backend in zip(both, (kernels, REFERENCE), strict=True):
            slots = slots_of(sequences.tables[0], torch.arange(40), 16)
            values = sequences.values[0] * scale
            backend.store_kv(sequences.keys[0], values, sequences.k_cache_BSJD, sequences.v_cache_BSJD, slots)
        found, expected = (
            sequences.attend(backend, [(0, 0, 40)], None)[0]
            for sequences, backend in zip(both, (kernels, REFERENCE), strict=True)
        )
        assert found.isfinite().all() and torch.allclose(found, expected, rtol=0, atol=1e-5 * scale + 1e-40)


def test_scores_far_beyond_exp_neither_overflow_nor_vanish(kernels: NativeKernels) -> None:
    for scale in (1e-30, 1e4, 1e30):
        sequences, plain = (make(backend, (520,), (2, 1, 4)) for backend in (kernels, REFERENCE))
        for queries in (sequences.queries, plain.queries):
            queries[0].mul_(scale)
        part: list[Part] = [(0, 0, 520)]
        found, expected = sequences.attend(kernels, part, None)[0], plain.attend(REFERENCE, part, None)[0]
        assert torch.allclose(found, expected, rtol=0, atol=1e-2)


def test_no_sequences_give_no_rows(kernels: NativeKernels) -> None:
    sequences = make(kernels, (20,), (4, 2, 16))
    assert sequences.attend(kernels, [(0, 20, 20)], None)[0].shape == (0, 4, 16)
