"""Linear: which of the kernels multiplies how many rows by a weight, as data, and the calls.

A Plan is made once for a weight, at load, from its shape, its format and the chip: by rule where rows must not depend
on their batch - one tile for any number of rows -, else measured (choice.py). Knows how each format's activations are
rounded. Shapes: T rows, N outputs, K columns.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
import triton

from farthing.kernels.activations import Activations, Rounded
from farthing.kernels.triton.activations import round_rows
from farthing.kernels.triton.gemm import Tile, tiled
from farthing.kernels.triton.gemv import Strip, one_row
from farthing.kernels.triton.launch import Chip, Launcher, meta
from farthing.kernels.weight import TORCH_DTYPES, Weight
from farthing.quantization.base import WeightFormat, formats

_LIMITS = (1, 16, 64)
"""Numbers of rows up to which another kernel may be the best; behind the last come any more."""
_DECODE_FORMATS = ("w4a16", "w4a16-zp", "bf16", "w8a16", "fp8")
_MANY_ROWS = 1024
_FEW_OUTPUTS, _MANY_OUTPUTS = 1024, 22_016
"""Of the matrices of examples: few have K in splits, many have it in one."""
_COLUMNS = (4096, 1376)
"""Of these: whole steps of any kernel and, of LLaMA-2 7B's down_proj (11,008 columns) on 8 ranks, of none."""
_LEAST_STAGES = 3  # of a tile that is not the usual one: with fewer, loads wait for products
_WAVES = 2  # blocks that splits of K give each multiprocessor


@dataclass(frozen=True, slots=True)
class Library:
    """torch's own product: cuBLAS; of fp8 its scaled product."""


Kernel = Strip | Tile | Library


@dataclass(frozen=True, slots=True)
class Plan:
    """Kernels by number of rows: (up to so many, kernel), in this order; `more` for more."""

    upto: tuple[tuple[int, Kernel], ...]
    more: Kernel

    def kernel(self, num_rows: int) -> Kernel:
        return next((kernel for limit, kernel in self.upto if num_rows <= limit), self.more)


def supports(weight_format: WeightFormat, dtype: torch.dtype) -> bool:
    """Whether there are kernels for the format, beside activations of this dtype."""
    if not weight_format.quantized:
        return TORCH_DTYPES[weight_format.storage] == dtype
    if weight_format.bits == 4:
        return weight_format.activation_bits == 16 and (weight_format.group_size or 0) >= 32
    return True


def linear(
    launch: Launcher,
    x_TK: Activations,
    weight: Weight,
    bias_N: torch.Tensor | None,
    plan: Plan,
) -> torch.Tensor:
    """x W^T + b in the dtype of x. x is contiguous; it is rounded here if the format asks for it and it is not yet."""
    dtype = x_TK.dtype
    if not isinstance(x_TK, Rounded) and weight.format.activation_bits == 8:
        x_TK = round_rows(launch, x_TK, weight.format)
    operand_TK, scale_T = (x_TK.codes_TK, x_TK.scale_T) if isinstance(x_TK, Rounded) else (x_TK, None)
    assert operand_TK.is_contiguous()
    if operand_TK.shape[0] == 0:
        return operand_TK.new_empty((0, weight.codes.shape[0]), dtype=dtype)
    match plan.kernel(operand_TK.shape[0]):
        case Strip() as strip:
            return one_row(launch, operand_TK, weight, bias_N, strip, scale_T, dtype)
        case Tile() as tile:
            return tiled(launch, operand_TK, weight, bias_N, tile, scale_T, dtype)
        case Library():
            return _by_library(operand_TK, weight, bias_N, scale_T, dtype)


def _by_library(
    x_TK: torch.Tensor,
    weight: Weight,
    bias_N: torch.Tensor | None,
    scale_T: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    if scale_T is None:
        return torch.nn.functional.linear(x_TK, weight.codes, bias_N)
    assert weight.scale_NG is not None
    return torch._scaled_mm(
        x_TK,
        weight.codes.T,
        scale_a=scale_T[:, None],
        scale_b=weight.scale_NG.T,
        bias=bias_N,
        out_dtype=dtype,
        use_fast_accum=True,
    )


def by_rule(weight: Weight, dtype: torch.dtype, chip: Chip) -> Plan:
    """One tile for any number of rows. Tall enough to read W seldom in prefill, low enough that a decode step waits for
    memory and not for products with rows that are not there."""
    rows = {32: 16, 16: 64, 8: 32, 4: 16}[weight.format.bits]
    return Plan((), _filling(Tile(rows, 64, _columns(weight, dtype)), weight, chip))


def candidates(weight: Weight, dtype: torch.dtype, chip: Chip) -> Iterator[tuple[int | None, int, tuple[Kernel, ...]]]:
    """(up to so many rows, rows to measure with, kernels to choose from); None: for any more."""
    for limit in _LIMITS:
        yield limit, limit, tuple(_for_few_rows(limit, weight, dtype, chip))
    yield None, _MANY_ROWS, tuple(_for_many_rows(weight, dtype, chip))


def _for_few_rows(limit: int, weight: Weight, dtype: torch.dtype, chip: Chip) -> Iterator[Kernel]:
    if _library_knows(weight, dtype, chip):
        yield Library()
    columns = _columns(weight, dtype)
    if limit == 1:
        length = 8 * columns if weight.format.bits == 4 else 1024
        yield from (Strip(4, length), Strip(2, 2 * length), Strip(8, length, num_warps=8))
    for outputs in (64,) if limit == 1 else (64, 32, 128):
        num_warps = 8 if limit * outputs > 64 * 64 else 4
        tile = Tile(max(limit, 16), outputs, columns, num_warps=num_warps, num_stages=4)
        while tile.shared_bytes(weight, _bytes_of_x(weight, dtype), chip) > chip.shared_bytes:
            tile = replace(tile, num_stages=tile.num_stages - 1)
        if outputs == 64 or tile.num_stages >= _LEAST_STAGES:
            yield _filling(tile, weight, chip)


def _for_many_rows(weight: Weight, dtype: torch.dtype, chip: Chip) -> Iterator[Kernel]:
    if _library_knows(weight, dtype, chip):
        yield Library()
    if not weight.format.quantized:
        return
    columns = weight.format.group_size or (128 if _bytes_of_x(weight, dtype) == 1 else 64)
    # Of 4 bits a group's sums stand beside those of all; before Hopper both are too much for the registers at 128.
    tile = Tile(128, 64 if weight.format.bits == 4 and chip.capability != 90 else 128, columns, num_warps=8)
    if tile.shared_bytes(weight, _bytes_of_x(weight, dtype), chip) > chip.shared_bytes:
        tile = replace(tile, rows=64)
    yield tile


def _columns(weight: Weight, dtype: torch.dtype) -> int:
    return weight.format.group_size or (64 if dtype == torch.float32 else 128)


def _filling(tile: Tile, weight: Weight, chip: Chip) -> Tile:
    """With so many splits of K that a tile of rows gives work to the whole chip."""
    steps = triton.cdiv(weight.in_features, tile.columns)
    blocks = triton.cdiv(weight.codes.shape[0], tile.outputs)
    splits = max(1, min(_WAVES * chip.num_multiprocessors // blocks, steps // 4, 8))
    return replace(tile, splits=splits)


def _bytes_of_x(weight: Weight, dtype: torch.dtype) -> int:
    return 1 if weight.format.activation_bits == 8 else dtype.itemsize


def _library_knows(weight: Weight, dtype: torch.dtype, chip: Chip) -> bool:
    """Of fp8 the products that torch scales row by row: results in bf16, sizes that 16 divides."""
    if not weight.format.quantized:
        return True
    sizes = (weight.in_features, weight.codes.shape[0])
    fp8 = weight.format.math == "fp8" and chip.has_fp8
    return fp8 and dtype == torch.bfloat16 and all(size % 16 == 0 for size in sizes)


def examples(launch: Launcher) -> None:
    """For few outputs all that can be chosen in the formats of decode, and by rule in the others; for many, whose types
    are the same, what has constants that were not there yet."""
    known, matrices = formats(), product((_FEW_OUTPUTS, _MANY_OUTPUTS), _COLUMNS)
    seen: set[tuple[object, ...]] = set()
    for (outputs, columns), name in product(matrices, dict.fromkeys((*_DECODE_FORMATS, *known))):
        weight_format = known[name]
        dtype = torch.bfloat16 if weight_format.quantized else TORCH_DTYPES[weight_format.storage]
        if not supports(weight_format, dtype):
            continue
        stored = [meta(*each.shape, dtype=TORCH_DTYPES[each.dtype]) for each in weight_format.stored(outputs, columns)]
        codes, scale_NG, zero_NG = (*stored, None, None)[:3]
        weight = Weight(weight_format, columns, codes, scale_NG, zero_NG=zero_NG)
        chosen: list[tuple[int, Kernel]] = []
        if name in _DECODE_FORMATS:
            chosen += [(rows, each) for _, rows, kernels in candidates(weight, dtype, launch.chip) for each in kernels]
        chosen += [(rows, by_rule(weight, dtype, launch.chip).more) for rows in (_LIMITS[-1], _MANY_ROWS)]
        for rows, kernel in chosen:
            if isinstance(kernel, Library):
                continue
            constants = _constants(kernel, rows, weight)
            if outputs == _FEW_OUTPUTS or constants not in seen:
                seen.add(constants)
                linear(launch, meta(rows, columns, dtype=dtype), weight, None, Plan((), kernel))


def _constants(kernel: Strip | Tile, rows: int, weight: Weight) -> tuple[object, ...]:
    """What is known of a product when its kernel is compiled, but for types."""
    is_whole, halves = weight.in_features % kernel.columns == 0, weight.format.bits == 4
    if isinstance(kernel, Strip):
        return kernel, is_whole, halves
    return replace(kernel, splits=min(kernel.splits, 2)), rows > _LIMITS[-1], is_whole, halves
