"""Paged attention: bit-equal however a sequence is cut into steps and batches, right against a plain softmax, and blind
to whatever stands in slots that are not its own.

Shapes: L positions of a sequence, H query heads, J KV heads, D head_dim, B blocks, S slots of a block.
"""

import math

import pytest
import torch
from paged_sequences import Cached, make

from farthing.kernels.kv_rows import round_rows
from farthing.kernels.reference import CHUNK, ReferenceKernels
from farthing.kernels.vendor import VendorKernels

REFERENCE, VENDOR = ReferenceKernels(), VendorKernels()
BLOCK_SIZE = 16
HEADS = [(4, 4, 16), (4, 2, 24), (6, 3, 10), (4, 1, 8), (1, 1, 2), (8, 2, 64)]  # H, J, D: MHA, GQA, odd, MQA, tiny
WINDOWS = (None, 1, 16, 256, 257)
LENGTHS = (513, 257, 256, 255, 40, 5, 1)


def softmax_attention(
    q_LHD: torch.Tensor, k_LJD: torch.Tensor, v_LJD: torch.Tensor, window: int | None
) -> torch.Tensor:
    """The definition in float64: every score of the square, those that are not visible at minus infinity."""
    length, num_heads, head_dim = q_LHD.shape
    group = num_heads // k_LJD.shape[1]
    k_LHD, v_LHD = (x.double().repeat_interleave(group, 1) for x in (k_LJD, v_LJD))
    scores_HLL = torch.einsum("qhd,khd->hqk", q_LHD.double(), k_LHD) / math.sqrt(head_dim)
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    hidden = (distance < 0) | (distance >= (window or length))
    weights_HLL = scores_HLL.masked_fill(hidden, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights_HLL, v_LHD)


@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_attention_is_the_softmax_of_its_definition(kernels: ReferenceKernels, heads: tuple[int, int, int]) -> None:
    sequences = make(kernels, LENGTHS, heads)
    parts = [(seq, 0, length) for seq, length in enumerate(LENGTHS)]
    for window in WINDOWS:
        found = sequences.attend(kernels, parts, window)
        for seq, rows in enumerate(found):
            expected = softmax_attention(sequences.queries[seq], sequences.keys[seq], sequences.values[seq], window)
            assert torch.allclose(rows.double(), expected, rtol=0, atol=1e-5)


def test_a_prefill_that_goes_on_from_a_cached_prefix_is_the_end_of_the_whole(kernels: ReferenceKernels) -> None:
    sequences = make(kernels, (300,), (4, 2, 16))
    for window in (None, 16, 257):
        whole = softmax_attention(sequences.queries[0], sequences.keys[0], sequences.values[0], window)
        for first, end in ((1, 300), (255, 257), (100, 290), (299, 300)):
            rows = sequences.attend(kernels, [(0, first, end)], window)[0]
            assert torch.allclose(rows.double(), whole[first:end], rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_rows_are_bit_equal_alone_batched_chunked_and_decoded(heads: tuple[int, int, int], dtype: torch.dtype) -> None:
    sequences = make(REFERENCE, LENGTHS, heads, dtype)
    for window in (None, 3, 257):
        alone = sequences.alone(REFERENCE, window)
        together = sequences.attend(REFERENCE, [(seq, 0, n) for seq, n in enumerate(LENGTHS)][::-1], window)[::-1]
        assert all(map(torch.equal, together, alone))
        for parts in (
            [(4, 10, 11), (0, 0, 100), (5, 0, 5)],
            [(0, 100, 300), (6, 0, 1), (1, 255, 256)],
            [(0, 255, 258), (1, 256, 257), (2, 255, 256), (3, 254, 255)],
            [(0, 512, 513), (0, 256, 257), (0, 257, 258)],
        ):
            for (seq, first, end), rows in zip(parts, sequences.attend(REFERENCE, parts, window), strict=True):
                assert torch.equal(rows, alone[seq][first:end])


def test_every_position_decodes_to_what_prefill_gave_it() -> None:
    sequences = make(REFERENCE, (CHUNK + 9,), (4, 2, 8))
    for window in (None, 5):
        whole = sequences.alone(REFERENCE, window)[0]
        decoded = [sequences.attend(REFERENCE, [(0, p, p + 1)], window)[0] for p in range(CHUNK + 9)]
        assert torch.equal(torch.cat(decoded), whole)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_rows_are_bit_equal_with_any_number_of_threads(num_threads: int) -> None:
    sequences, before = make(REFERENCE, (270, 40), (8, 2, 64)), torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        alone = [sequences.attend(REFERENCE, [part], None)[0] for part in ((1, 30, 40), (0, 250, 260), (0, 260, 270))]
        together = sequences.attend(REFERENCE, [(1, 30, 40), (0, 250, 270)], None)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.cat(together), torch.cat(alone))


def test_nan_in_unused_slots_and_blocks_never_leaks(kernels: ReferenceKernels) -> None:
    sequences = make(kernels, LENGTHS, (4, 2, 16))  # all other slots are NaN
    for window in (None, 16):
        parts = [(seq, 0, n) for seq, n in enumerate(LENGTHS)]
        assert all(rows.isfinite().all() for rows in sequences.attend(kernels, parts, window))


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_positions_behind_the_window_are_not_read(poison: float) -> None:
    sequences, window = make(REFERENCE, (300,), (4, 2, 16)), 20
    clean = sequences.attend(REFERENCE, [(0, 299, 300)], window)[0]
    for position in range(280):
        block, slot = sequences.tables[0][position // BLOCK_SIZE], position % BLOCK_SIZE
        sequences.k_cache_BSJD[block, slot] = sequences.v_cache_BSJD[block, slot] = poison
    assert torch.equal(sequences.attend(REFERENCE, [(0, 299, 300)], window)[0], clean)


def test_scores_far_beyond_exp_neither_overflow_nor_vanish(kernels: ReferenceKernels) -> None:
    sequences = make(kernels, (520,), (2, 1, 4))
    sequences.queries[0].mul_(1e4)
    rows = sequences.attend(kernels, [(0, 0, 520)], None)[0]
    expected = softmax_attention(sequences.queries[0], sequences.keys[0], sequences.values[0], None)
    assert torch.allclose(rows.double(), expected, rtol=0, atol=1e-2)
    assert rows.isfinite().all()


def test_a_cache_of_16_bits_is_read_as_it_was_rounded() -> None:
    sequences = make(REFERENCE, (40,), (4, 2, 16))
    rounded = Cached(
        sequences.queries,
        [key.bfloat16() for key in sequences.keys],
        [value.bfloat16() for value in sequences.values],
        sequences.tables,
        sequences.k_cache_BSJD.bfloat16(),
        sequences.v_cache_BSJD.bfloat16(),
    )
    expected = softmax_attention(rounded.queries[0], rounded.keys[0], rounded.values[0], None)
    for kernels in (REFERENCE, VENDOR):
        rows = rounded.attend(kernels, [(0, 0, 40)], None)[0]
        assert rows.dtype == torch.float32
        assert torch.allclose(rows.double(), expected, rtol=0, atol=1e-5)


def test_a_cache_of_int8_is_read_as_it_was_rounded() -> None:
    sequences = make(REFERENCE, (40,), (4, 2, 16), kv_dtype=torch.int8)
    k_LJD, v_LJD = (
        codes_LJD.float() * scale_LJ[..., None]
        for codes_LJD, scale_LJ in map(round_rows, (sequences.keys[0], sequences.values[0]))
    )
    expected = softmax_attention(sequences.queries[0], k_LJD, v_LJD, None)
    for kernels in (REFERENCE, VENDOR):
        rows = sequences.attend(kernels, [(0, 0, 40)], None)[0]
        assert rows.dtype == torch.float32
        assert torch.allclose(rows.double(), expected, rtol=0, atol=1e-5)
