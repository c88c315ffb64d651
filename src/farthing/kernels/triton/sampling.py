"""One token a row: temperature, top-k, top-p, min-p and one draw, without sorting, for any mix of wishes.

A logit below the largest, divided by the temperature, is a float of which only the size counts; as an integer its bits
keep the order, so the last token that is kept is found by bisection over integers, exactly. A token's mass is exp() of
it as an integer of 2^-40, so sums don't depend on their order. The first bisection, at powers of two, is made by all
blocks of a row; what it leaves is gathered, and one block does the rest.

The token is that of runtime/sampler.py for the same request seed and index. Where they may differ: of top-p, a token at
whose place the sums reach p within the rounding of that file's own fp32 sums (about 1e-6); and a number that falls as
near to the border of two tokens, about one draw in a million.
Shapes: R rows, V vocabulary, C chunks of it, P pivots.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from farthing.kernels.histories import History
from farthing.kernels.triton.adjusting import CHUNK, adjusted, largest
from farthing.kernels.triton.launch import Launcher, meta
from farthing.kernels.wishes import Wishes

_PIVOTS = 8
_BLOCK = 2048
_FINITE = tl.constexpr(0x7F7FFFFF)  # the largest size that is not infinite
_UNIT = tl.constexpr(1099511627776.0)  # 2^40: the mass of the largest


@dataclass(frozen=True, slots=True)
class _Coarse:
    """Of each chunk, how many tokens are within each pivot, and their mass."""

    counts_RCP: torch.Tensor
    masses_RCP: torch.Tensor


def sample(
    launch: Launcher, logits_RV: torch.Tensor, wishes: Wishes, history: History | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(token, largest adjusted logit) of each row, int64 and fp32. A largest that is not finite tells of a row that
    can't be drawn from; its token means nothing."""
    rows, vocabulary = logits_RV.shape
    given_RV = logits_RV
    logits_RV, tops = adjusted(launch, given_RV, history)
    value_R, token_R = largest(launch, tops)
    chunks = tops.value_RC.shape[1]
    gathered_RV, tokens_RV = (logits_RV.new_empty((rows, vocabulary), dtype=torch.int32) for _ in range(2))
    # A size takes the place of its logit, unless that is the caller's.
    sizes_RV = torch.empty_like(gathered_RV) if logits_RV is given_RV else logits_RV.view(torch.int32)
    coarse = _Coarse(
        logits_RV.new_empty((rows, chunks, _PIVOTS), dtype=torch.int32),
        logits_RV.new_empty((rows, chunks, _PIVOTS), dtype=torch.int64),
    )
    of_chunks = {"CHUNKS": triton.next_power_of_2(chunks), "PIVOTS": _PIVOTS}
    launch(
        _temper,
        (rows, chunks),
        sizes_RV, coarse.counts_RCP, coarse.masses_RCP, logits_RV, value_R, wishes.temperature_R, vocabulary,
        CHUNK=CHUNK,
        PIVOTS=_PIVOTS,
        num_warps=8,
    )  # fmt: skip
    launch(
        _gather,
        (rows, chunks),
        gathered_RV, tokens_RV, sizes_RV, coarse.counts_RCP, coarse.masses_RCP,
        wishes.temperature_R, wishes.top_k_R, wishes.top_p_R, wishes.min_p_R, vocabulary,
        CHUNK=CHUNK,
        **of_chunks,
    )  # fmt: skip
    launch(
        _draw,
        (rows,),
        token_R, sizes_RV, gathered_RV, tokens_RV, coarse.counts_RCP, coarse.masses_RCP,
        wishes.temperature_R, wishes.top_k_R, wishes.top_p_R, wishes.min_p_R,
        wishes.seeds_R, wishes.token_indices_R, wishes.sample_indices_R, vocabulary, chunks,
        CHUNK=CHUNK,
        BLOCK=_BLOCK,
        **of_chunks,
        num_warps=8,
    )  # fmt: skip
    return token_R, value_R


@triton.jit
def _temper(
    sizes, counts, masses, logits, largest, temperatures, vocabulary, CHUNK: tl.constexpr, PIVOTS: tl.constexpr
):
    """The largest becomes 0, and no temperature above 0 makes infinity minus infinity; sizes as bits."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    temperature = tl.load(temperatures + row)
    if temperature > 0:
        token_C = chunk * CHUNK + tl.arange(0, CHUNK)
        mask_C = token_C < vocabulary
        logit_C = tl.load(logits + row * vocabulary + token_C, mask=mask_C, other=float("-inf"))
        below_C = tl.load(largest + row) - logit_C
        size_C = (below_C.to(tl.float64) / temperature).to(tl.float32).to(tl.int32, bitcast=True)
        size_C = size_C & 0x7FFFFFFF  # there are two zeros
        tl.store(sizes + row * vocabulary + token_C, size_C, mask=mask_C)
        within_CP = size_C[:, None] <= _powers_of_two(PIVOTS)[None, :]
        place_P = (row * tl.num_programs(1) + chunk) * PIVOTS + tl.arange(0, PIVOTS)
        tl.store(counts + place_P, tl.sum(within_CP.to(tl.int32), 0))
        tl.store(masses + place_P, tl.sum(tl.where(within_CP, _mass(size_C)[:, None], 0), 0))


@triton.jit
def _gather(
    gathered, tokens, sizes, counts, masses, temperatures, top_ks, top_ps, min_ps, vocabulary,
    CHUNK: tl.constexpr, CHUNKS: tl.constexpr, PIVOTS: tl.constexpr,
):  # fmt: skip
    """The tokens within the row's reach, in the order of their ids."""
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    if (tl.load(temperatures + row) > 0) & _leaves_out(row, top_ks, top_ps, min_ps, vocabulary):
        reach, _, before = _reach(
            row, chunk, tl.num_programs(1), counts, masses, top_ks, top_ps, vocabulary, CHUNKS, PIVOTS
        )
        token_C = chunk * CHUNK + tl.arange(0, CHUNK)
        size_C = tl.load(sizes + row * vocabulary + token_C, mask=token_C < vocabulary, other=0x7F800000)
        kept_C = size_C <= reach
        place_C = row * vocabulary + before + tl.cumsum(kept_C.to(tl.int32), 0) - 1
        tl.store(gathered + place_C, size_C, mask=kept_C)
        tl.store(tokens + place_C, token_C, mask=kept_C)


@triton.jit
def _draw(
    drawn, sizes, gathered, tokens, counts, masses, temperatures, top_ks, top_ps, min_ps,
    seeds, token_indices, sample_indices, vocabulary, num_chunks,
    CHUNK: tl.constexpr, BLOCK: tl.constexpr, CHUNKS: tl.constexpr, PIVOTS: tl.constexpr,
):  # fmt: skip
    """Inverse of the cumulative distribution at one Philox number, in the order of token ids."""
    row = tl.program_id(0).to(tl.int64)
    if tl.load(temperatures + row) > 0:
        number = _uniform(tl.load(seeds + row), tl.load(token_indices + row), tl.load(sample_indices + row))
        if _leaves_out(row, top_ks, top_ps, min_ps, vocabulary):
            token = _draw_from_some(
                number, row, gathered + row * vocabulary, tokens + row * vocabulary, counts, masses, top_ks, top_ps,
                min_ps, vocabulary, num_chunks, BLOCK, CHUNKS, PIVOTS,
            )  # fmt: skip
        else:
            token = _draw_from_all(number, row, sizes, masses, vocabulary, num_chunks, CHUNK, CHUNKS, PIVOTS)
        tl.store(drawn + row, tl.minimum(token, vocabulary - 1).to(tl.int64))  # of NaN none is found


@triton.jit
def _leaves_out(row, top_ks, top_ps, min_ps, vocabulary):
    """Whether a row wants no more than some of its tokens."""
    narrows = (tl.load(top_ks + row) < vocabulary) | (tl.load(top_ps + row) < 1)
    return narrows | (tl.load(min_ps + row) > 0)


@triton.jit
def _draw_from_all(
    number, row, sizes, masses, vocabulary, num_chunks, CHUNK: tl.constexpr, CHUNKS: tl.constexpr, PIVOTS: tl.constexpr
):
    """The masses of the chunks say in which of them the token is."""
    chunk_C = tl.arange(0, CHUNKS)
    place_C = (row * num_chunks + chunk_C) * PIVOTS + PIVOTS - 1
    mass_C = tl.load(masses + place_C, mask=chunk_C < num_chunks, other=0)
    total, end_C = tl.sum(mass_C, 0), tl.cumsum(mass_C, 0)
    target = _target(number, total)
    is_before_C = end_C <= target
    chunk, before = tl.sum(is_before_C.to(tl.int32), 0), tl.sum(tl.where(is_before_C, mass_C, 0), 0)
    token_V = chunk * CHUNK + tl.arange(0, CHUNK)
    size_V = tl.load(sizes + row * vocabulary + token_V, mask=token_V < vocabulary, other=0x7F800000)
    passed_V = before + tl.cumsum(_mass(size_V), 0) > target
    return tl.min(tl.where(passed_V, token_V, 0x7FFFFFFF), 0)


@triton.jit
def _target(number, total):
    return tl.minimum((number * total.to(tl.float64)).to(tl.int64), total - 1)


@triton.jit
def _draw_from_some(
    number, row, sizes, tokens, counts, masses, top_ks, top_ps, min_ps, vocabulary, num_chunks,
    BLOCK: tl.constexpr, CHUNKS: tl.constexpr, PIVOTS: tl.constexpr,
):  # fmt: skip
    """`sizes`, `tokens`: those within the row's reach."""
    reach, total, num_kept = _reach(
        row, num_chunks, num_chunks, counts, masses, top_ks, top_ps, vocabulary, CHUNKS, PIVOTS
    )
    top_k, top_p = tl.load(top_ks + row), tl.load(top_ps + row)
    last = reach
    if top_k < vocabulary:
        last = _bisect(sizes, num_kept, tl.minimum(top_k, num_kept).to(tl.int64), reach, False, BLOCK, PIVOTS)
        total = _within(sizes, num_kept, last, BLOCK)
    needed = total
    before = total * 0
    if top_p < 1:
        needed = tl.maximum(tl.ceil(top_p * total.to(tl.float64)).to(tl.int64), 1)
        last = _bisect(sizes, num_kept, needed, last, True, BLOCK, PIVOTS)
        before = _within(sizes, num_kept, last - 1, BLOCK)
    min_p = tl.load(min_ps + row)
    total, _ = _cumulate(sizes, tokens, num_kept, last, before, needed, top_p < 1, min_p, total, BLOCK)
    _, token = _cumulate(sizes, tokens, num_kept, last, before, needed, top_p < 1, min_p, _target(number, total), BLOCK)
    return token


@triton.jit
def _reach(
    row, chunk, num_chunks, counts, masses, top_ks, top_ps, vocabulary, CHUNKS: tl.constexpr, PIVOTS: tl.constexpr
):
    """The smallest power of two, as a size, that no wish goes beyond; the mass of all tokens; and how many within
    reach the chunks before `chunk` have."""
    chunk_C, pivots_P = tl.arange(0, CHUNKS), _powers_of_two(PIVOTS)
    place_CP = (row * num_chunks + chunk_C[:, None]) * PIVOTS + tl.arange(0, PIVOTS)[None, :]
    there_C1 = (chunk_C < num_chunks)[:, None]
    count_CP = tl.load(counts + place_CP, mask=there_C1, other=0)
    count_P = tl.sum(count_CP, 0)
    mass_P = tl.sum(tl.load(masses + place_CP, mask=there_C1, other=0), 0)
    total = tl.max(mass_P, 0)
    top_k = tl.load(top_ks + row)
    by_count_P = count_P >= tl.minimum(top_k, tl.max(count_P, 0))
    by_mass_P = mass_P.to(tl.float64) >= tl.load(top_ps + row) * total.to(tl.float64)
    enough_P = tl.where(top_k < vocabulary, by_count_P, by_mass_P)
    reach = tl.min(tl.where(enough_P, pivots_P, _FINITE), 0)
    before_CP = (chunk_C < chunk)[:, None] & (pivots_P == reach)[None, :]
    return reach, total, tl.sum(tl.sum(tl.where(before_CP, count_CP, 0), 1), 0)


@triton.jit
def _powers_of_two(PIVOTS: tl.constexpr):
    """Sizes 1/4, 1/2, 1 and on as bits; the last, all that is finite."""
    pivot_P = tl.arange(0, PIVOTS)
    return tl.where(pivot_P == PIVOTS - 1, _FINITE, (125 + pivot_P) << 23)


@triton.jit
def _mass(size):
    """exp(-size) in units of 2^-40."""
    return (tl.exp(-size.to(tl.float32, bitcast=True)) * _UNIT).to(tl.int64)


@triton.jit
def _bisect(sizes, num, needed, high, BY_MASS: tl.constexpr, BLOCK: tl.constexpr, PIVOTS: tl.constexpr):
    """The smallest size within which there are `needed` tokens, or is so much mass; `high` is large enough."""
    low = high * 0 - 1
    while high - low > 1:
        part_P = (tl.arange(0, PIVOTS) + 1).to(tl.int64)
        pivot_P = low + ((high - low).to(tl.int64) * part_P // (PIVOTS + 1)).to(tl.int32)
        found_BP = tl.zeros((BLOCK, PIVOTS), dtype=tl.int64 if BY_MASS else tl.int32)
        for start in range(0, num, BLOCK):
            at_B = start + tl.arange(0, BLOCK)
            size_B = tl.load(sizes + at_B, mask=at_B < num, other=0x7F800000)
            within_BP = size_B[:, None] <= pivot_P[None, :]
            if BY_MASS:
                found_BP += tl.where(within_BP, _mass(size_B)[:, None], 0)
            else:
                found_BP += within_BP.to(tl.int32)
        enough_P = tl.sum(found_BP, 0).to(tl.int64) >= needed
        new_high = tl.min(tl.where(enough_P, pivot_P, high), 0)
        low = tl.max(tl.where(enough_P, low, pivot_P), 0)
        high = new_high
    return high


@triton.jit
def _within(sizes, num, last, BLOCK: tl.constexpr):
    """The mass of sizes up to `last`."""
    mass_B = tl.zeros((BLOCK,), dtype=tl.int64)
    for start in range(0, num, BLOCK):
        at_B = start + tl.arange(0, BLOCK)
        size_B = tl.load(sizes + at_B, mask=at_B < num, other=0x7F800000)
        mass_B += tl.where(size_B <= last, _mass(size_B), 0)
    return tl.sum(mass_B, 0)


@triton.jit
def _cumulate(sizes, tokens, num, last, before, needed, shares, min_p, target, BLOCK: tl.constexpr):
    """The mass of all that is kept, and the first token at which it passes `target`.

    Tokens of the size `last` may not all be needed (`shares`): the lowest ids come first, each while what lies before
    it is less than `needed`.
    """
    mass = target * 0
    num_tied = num * 0
    first = num * 0 + 0x7FFFFFFF
    for start in range(0, num, BLOCK):
        at_B = start + tl.arange(0, BLOCK)
        size_B = tl.load(sizes + at_B, mask=at_B < num, other=0x7F800000)
        token_B = tl.load(tokens + at_B, mask=at_B < num, other=0x7FFFFFFF)
        mass_B = _mass(size_B)
        tied_B = size_B == last
        rank_B = num_tied + tl.cumsum(tied_B.to(tl.int32), 0) - tied_B.to(tl.int32)
        needed_B = (before + rank_B.to(tl.int64) * mass_B < needed) | (shares == 0)
        kept_B = (size_B < last) | (tied_B & needed_B)
        kept_B = kept_B & (tl.exp(-size_B.to(tl.float32, bitcast=True)) >= min_p)
        kept_mass_B = tl.where(kept_B, mass_B, 0)
        passed_B = mass + tl.cumsum(kept_mass_B, 0) > target
        first = tl.minimum(first, tl.min(tl.where(passed_B, token_B, 0x7FFFFFFF), 0))
        mass += tl.sum(kept_mass_B, 0)
        num_tied += tl.sum(tied_B.to(tl.int32), 0)
    return mass, first


@triton.jit
def _uniform(seed, token_index, sample_index):
    """As kernels/philox.uniform."""
    zero = tl.full((), 0, tl.uint32)
    high, low, _, _ = tl.philox(seed, token_index.to(tl.uint32), sample_index.to(tl.uint32), zero, zero)
    bits = (high >> 5).to(tl.int64) * 67108864 + (low >> 6).to(tl.int64)
    return bits.to(tl.float64) * 1.1102230246251565e-16  # 2^-53


def examples(launch: Launcher) -> None:
    """Of a large vocabulary and of a small one."""
    rows = 8
    wishes = Wishes(
        meta(rows, dtype=torch.float64),
        meta(rows, dtype=torch.int64),
        meta(rows, dtype=torch.float64),
        meta(rows, dtype=torch.float64),
        *(meta(rows, dtype=torch.int64) for _ in range(3)),
    )
    for vocabulary in (128_256, 32_000):
        sample(launch, meta(rows, vocabulary, dtype=torch.float32), wishes, None)
