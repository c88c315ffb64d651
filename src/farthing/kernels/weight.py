"""A weight matrix in memory: the tensors that a WeightFormat stores, and the one way to write and read them.

`quantize` and `dequantize` follow the format's data alone, so that a new format runs everywhere before it has a
kernel. Knows no model and no device.

Shapes: N out_features, K in_features, G groups of K.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Weight:
    """W_NK as stored: `codes` in the format's storage dtype, `scale_NG` where the format has scales. `packed`: in the
    layout of the backend that prepared it."""

    format: WeightFormat
    in_features: int
    codes: torch.Tensor
    scale_NG: torch.Tensor | None = None
    packed: bool = False


def quantize(w_NK: torch.Tensor, weight_format: WeightFormat) -> Weight:
    """Round W to the format: symmetric, the largest magnitude of a group becomes the largest code."""
    num_columns = w_NK.shape[1]
    storage = TORCH_DTYPES[weight_format.storage]
    if weight_format.scale_dtype is None:
        return Weight(weight_format, num_columns, w_NK.to(storage))
    grouped_NGg = _grouped(w_NK.float(), weight_format)
    scale_NG = (grouped_NGg.abs().amax(-1) / weight_format.max_code).to(TORCH_DTYPES[weight_format.scale_dtype])
    divisor_NG1 = scale_NG.float().unsqueeze(-1)
    codes_NK = (grouped_NGg / torch.where(divisor_NG1 == 0, 1.0, divisor_NG1)).flatten(1)[:, :num_columns]
    limit = weight_format.max_code
    if weight_format.storage == "fp8_e4m3":
        return Weight(weight_format, num_columns, codes_NK.clamp(-limit, limit).to(storage), scale_NG)
    rounded_NK = codes_NK.round().clamp(-limit, limit).to(torch.int8)
    return Weight(weight_format, num_columns, _pack(rounded_NK) if weight_format.bits == 4 else rounded_NK, scale_NG)


def dequantize(weight: Weight, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """W_NK in `dtype`: code * scale of its group."""
    if weight.scale_NG is None:
        return weight.codes.to(dtype)
    codes_NK = _unpack(weight.codes, weight.in_features) if weight.format.bits == 4 else weight.codes
    grouped_NGg = _grouped(codes_NK.float(), weight.format)
    return (grouped_NGg * weight.scale_NG.float().unsqueeze(-1)).flatten(1)[:, : weight.in_features].to(dtype)


def round_activations(x_TK: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """x as the format's math sees it: rounded row by row to 8 bits and back; x itself for 16-bit activations."""
    if weight_format.activation_bits != 8:
        return x_TK
    limit = 448.0 if weight_format.math == "fp8" else 127.0
    scale_T1 = x_TK.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / limit
    scaled_TK = x_TK.float() / scale_T1
    codes_TK = scaled_TK.to(torch.float8_e4m3fn).float() if weight_format.math == "fp8" else scaled_TK.round()
    return codes_TK * scale_T1


def _grouped(w_NK: torch.Tensor, weight_format: WeightFormat) -> torch.Tensor:
    """W as [N, groups, group_size]; the last group is filled up with zeros."""
    num_columns = w_NK.shape[1]
    groups = weight_format.num_groups(num_columns)
    size = weight_format.group_size or num_columns
    padded_NK = torch.nn.functional.pad(w_NK, (0, groups * size - num_columns))
    return padded_NK.unflatten(1, (groups, size))


def _pack(codes_NK: torch.Tensor) -> torch.Tensor:
    """Two codes -7..7, stored plus 8, to a uint8: the even column in the low half."""
    shifted_NK = torch.nn.functional.pad((codes_NK + 8).to(torch.uint8), (0, codes_NK.shape[1] % 2))
    return shifted_NK[:, 0::2] | (shifted_NK[:, 1::2] << 4)


def _unpack(packed: torch.Tensor, num_columns: int) -> torch.Tensor:
    both_NK2 = torch.stack((packed & 15, packed >> 4), dim=-1)
    return both_NK2.flatten(1)[:, :num_columns].to(torch.int8) - 8
