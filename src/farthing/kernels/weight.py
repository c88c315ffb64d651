"""A weight matrix in memory: the tensors that a WeightFormat stores, and the one way to write and read them.

`quantize` and `dequantize` follow the format's data alone, so that a new format runs everywhere before it has a
kernel. Knows no model and no device.

Shapes: N out_features, K in_features, G groups of K.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from farthing.quantization.base import WeightFormat

TORCH_DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.int8,
    "uint8": torch.uint8,
    "fp8_e4m3": torch.float8_e4m3fn,
}
CODES_OF_TOP = (-8.0, -7.0, -7.5, -8.5, -9.0)
"""What the value of the largest magnitude of a group is tried as, in 4 bits."""
SHARES_OF_SPAN = (1.0, 0.95, 0.9, 0.85)
"""How much of what lies between the least and the most of a group is spanned, in 4 bits with zero points."""
_LEAST_SCALE = 2.0**-126  # smaller numbers have no finite inverse


@dataclass(frozen=True, slots=True)
class Weight:
    """W_NK as stored: `codes` in the format's storage dtype, `scale_NG` and `zero_NG` where the format has scales and
    zero points. `packed`: in the layout of the backend that prepared it."""

    format: WeightFormat
    in_features: int
    codes: torch.Tensor
    scale_NG: torch.Tensor | None = None
    packed: bool = False
    zero_NG: torch.Tensor | None = None

    def part(self, rows: slice) -> "Weight":
        """Some of its rows, in the same memory."""
        scales, zeros = (None if one is None else one[rows] for one in (self.scale_NG, self.zero_NG))
        return replace(self, codes=self.codes[rows], scale_NG=scales, zero_NG=zeros)

    def store(self, other: "Weight") -> None:
        """Take over all that another one of the same format and shape holds."""
        for into, held in zip(self._tensors(), other._tensors(), strict=True):
            into.copy_(held)

    def _tensors(self) -> list[torch.Tensor]:
        return [one for one in (self.codes, self.scale_NG, self.zero_NG) if one is not None]


def joined(weights: Sequence[Weight]) -> Weight | None:
    """All rows as one matrix in the same memory; None where they do not lie one after the other."""
    first = weights[0]
    parts = [together(parts) for parts in zip(*(weight._tensors() for weight in weights), strict=True)]
    if any(part is None for part in parts) or any(weight.format != first.format for weight in weights):
        return None
    named = iter(parts)
    codes, scale_NG, zero_NG = (
        None if one is None else next(named) for one in (first.codes, first.scale_NG, first.zero_NG)
    )
    assert codes is not None
    return replace(first, codes=codes, scale_NG=scale_NG, zero_NG=zero_NG)


def together(tensors: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """All rows as one tensor in the same memory; None where they do not lie one after the other."""
    first, end = tensors[0], tensors[0].data_ptr()
    for tensor in tensors:
        same_memory = tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (same_memory and tensor.is_contiguous() and tensor.data_ptr() == end):
            return None
        end += tensor.nbytes
    return first.as_strided((sum(map(len, tensors)), *first.shape[1:]), first.stride())


def quantize(w_NK: torch.Tensor, weight_format: WeightFormat) -> Weight:
    """Round W to the format. 4 bits: each group by the scale that fits it best; else the largest magnitude of a group
    becomes the largest code. Scales that are not finite tell that weights are not."""
    num_columns = w_NK.shape[1]
    storage = TORCH_DTYPES[weight_format.storage]
    if weight_format.scale_dtype is None:
        return Weight(weight_format, num_columns, w_NK.to(storage))
    scale_dtype = TORCH_DTYPES[weight_format.scale_dtype]
    grouped_NGg = _grouped(w_NK.float(), weight_format)
    if weight_format.bits == 4:
        scale_NG, codes_NGg, zero_NG = _best_of_4_bits(grouped_NGg, weight_format)
        zero_NG = None if zero_NG is None else zero_NG.to(torch.uint8)
        stored_NGg = codes_NGg.add_(8 if zero_NG is None else zero_NG.unsqueeze(-1)).to(torch.uint8)
        packed = _pack(stored_NGg.flatten(1)[:, :num_columns])
        return Weight(weight_format, num_columns, packed, scale_NG, zero_NG=zero_NG)
    limit = weight_format.max_code
    scale_NG = _divided(grouped_NGg.abs().amax(-1), limit).to(scale_dtype)
    if weight_format.storage == "fp8_e4m3":
        divisor_NG1 = scale_NG.float().unsqueeze(-1)
        codes_NGg = (grouped_NGg / torch.where(divisor_NG1 == 0, 1.0, divisor_NG1)).clamp_(-limit, limit).to(storage)
    else:
        codes_NGg = (grouped_NGg * _inverse(scale_NG)).round_().clamp_(-limit, limit).to(torch.int8)
    return Weight(weight_format, num_columns, codes_NGg.flatten(1)[:, :num_columns], scale_NG)


def _best_of_4_bits(
    grouped_NGg: torch.Tensor, weight_format: WeightFormat
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Scales, codes and zero points: of each group the first candidate of the least sum of squared errors. Codes are
    counted from zero: from -8, or from minus the zero point, fifteen upward."""
    scale_NG = codes_NGg = error_NG1 = zero_NG = None
    for tried_NG, tried_zero_NG in _candidates(grouped_NGg, weight_format):
        rounded_NGg = (grouped_NGg * _inverse(tried_NG)).round_()
        if tried_zero_NG is None:
            rounded_NGg.clamp_(-8, 7)
        else:
            least_NG1 = -tried_zero_NG.unsqueeze(-1)
            rounded_NGg.clamp_(least_NG1, least_NG1 + 15)
        tried_codes_NGg = rounded_NGg.to(torch.int8)
        off_NGg = rounded_NGg.mul_(tried_NG.float().unsqueeze(-1)).sub_(grouped_NGg)
        tried_error_NG1 = _sum_by_halves(off_NGg.square_())
        if scale_NG is None or codes_NGg is None or error_NG1 is None:
            scale_NG, codes_NGg, error_NG1, zero_NG = tried_NG, tried_codes_NGg, tried_error_NG1, tried_zero_NG
            continue
        better_NG1 = tried_error_NG1 < error_NG1
        scale_NG = torch.where(better_NG1[..., 0], tried_NG, scale_NG)
        codes_NGg = torch.where(better_NG1, tried_codes_NGg, codes_NGg)
        error_NG1 = torch.where(better_NG1, tried_error_NG1, error_NG1)
        if zero_NG is not None and tried_zero_NG is not None:
            zero_NG = torch.where(better_NG1[..., 0], tried_zero_NG, zero_NG)
    assert scale_NG is not None and codes_NGg is not None
    return scale_NG, codes_NGg, zero_NG


def _candidates(
    grouped_NGg: torch.Tensor, weight_format: WeightFormat
) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
    """Scales, and zero points in fp32 where the format has them.

    Without: the value of the largest magnitude becomes code -8, as in ggml's Q4_0, or something near it: beyond -8 it
    is cut off, for the good of the others. With: the codes span all values and zero, or so much of them, or as much on
    both sides of zero.
    """
    scale_dtype = TORCH_DTYPES[weight_format.scale_dtype or "fp32"]
    least_NG, most_NG = grouped_NGg.amin(-1), grouped_NGg.amax(-1)
    if not weight_format.zero_points:
        top_NG = torch.where(-least_NG > most_NG, least_NG, most_NG)
        yield from ((_divided(top_NG, divisor).to(scale_dtype), None) for divisor in CODES_OF_TOP)
        return
    largest_NG = torch.maximum(-least_NG, most_NG)
    yield _divided(largest_NG, 7).to(scale_dtype), torch.full_like(largest_NG, 8)
    least_NG, most_NG = least_NG.clamp(max=0), most_NG.clamp(min=0)
    for share in SHARES_OF_SPAN:
        scale_NG = ((most_NG - least_NG) * (share / 15)).to(scale_dtype)
        yield scale_NG, (least_NG * -share * _inverse(scale_NG)[..., 0]).round_().clamp_(0, 15)


def _divided(x: torch.Tensor, number: float) -> torch.Tensor:
    """x / number, rounded once: by a plain number torch divides on CUDA by multiplying with its inverse."""
    return x / x.new_full((), number)


def _inverse(scale_NG: torch.Tensor) -> torch.Tensor:
    """1 / scale, [N, G, 1]; 0 where it would not be finite."""
    wide_NG1 = scale_NG.float().unsqueeze(-1)
    return torch.where(wide_NG1.abs() < _LEAST_SCALE, 0.0, 1 / wide_NG1)


def _sum_by_halves(x: torch.Tensor) -> torch.Tensor:
    """Over the last dimension, which stays as one: the first half on the second, again and again."""
    while x.shape[-1] > 1:
        if x.shape[-1] % 2:
            x = torch.nn.functional.pad(x, (0, 1))
        x = torch.add(*x.chunk(2, dim=-1))
    return x


def dequantize(weight: Weight, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """W_NK in `dtype`: code, counted from its group's zero, times the group's scale."""
    if weight.scale_NG is None:
        return weight.codes.to(dtype)
    codes_NK = _unpack(weight.codes, weight.in_features) if weight.format.bits == 4 else weight.codes
    grouped_NGg = _grouped(codes_NK.float(), weight.format)
    if weight.format.bits == 4:
        grouped_NGg = grouped_NGg - (8 if weight.zero_NG is None else weight.zero_NG.float().unsqueeze(-1))
    return (grouped_NGg * weight.scale_NG.float().unsqueeze(-1)).flatten(1)[:, : weight.in_features].to(dtype)


def round_activations(x_TK: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """x as the format's math sees it: rounded row by row to 8 bits and back; x itself for 16-bit activations."""
    if weight_format.activation_bits != 8:
        return x_TK
    limit = 448.0 if weight_format.math == "fp8" else 127.0
    scale_T1 = _divided(x_TK.abs().amax(-1, keepdim=True).float().clamp(min=1e-12), limit)
    scaled_TK = x_TK.float() / scale_T1
    codes_TK = scaled_TK.to(torch.float8_e4m3fn).float() if weight_format.math == "fp8" else scaled_TK.round()
    return codes_TK * scale_T1


def largest_stored(weight: Weight) -> torch.Tensor:
    """The largest magnitude that a weight's format can give it; not finite if one of its values is not."""
    if weight.scale_NG is None:
        return largest_magnitude(weight.codes)
    return weight.scale_NG.abs().max().float() * weight.format.max_code


def largest_magnitude(x: torch.Tensor) -> torch.Tensor:
    """A number on the device of x, in fp32; NaN if there is one."""
    least, most = x.aminmax()
    return torch.maximum(-least.float(), most.float())


def _grouped(w_NK: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """W as [N, groups, group_size]; the last group is filled up with zeros."""
    num_columns = w_NK.shape[1]
    groups = weight_format.num_groups(num_columns)
    size = weight_format.group_size or num_columns
    if groups * size > num_columns:
        w_NK = torch.nn.functional.pad(w_NK, (0, groups * size - num_columns))
    return w_NK.unflatten(1, (groups, size))


def _pack(codes_NK: torch.Tensor) -> torch.Tensor:
    """Two codes 0..15 to a uint8: the even column in the low half."""
    if codes_NK.shape[1] % 2:
        codes_NK = torch.nn.functional.pad(codes_NK, (0, 1))
    return codes_NK[:, 0::2] | (codes_NK[:, 1::2] << 4)


def _unpack(packed: torch.Tensor, num_columns: int) -> torch.Tensor:
    both_NK2 = torch.stack((packed & 15, packed >> 4), dim=-1)
    return both_NK2.flatten(1)[:, :num_columns]
