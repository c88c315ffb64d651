"""WeightFormat: how a weight matrix W[out, in] is stored, and in which math it is multiplied - as data.

A format file (quantization/w8a16.py, ...) holds one or more values of it named FORMATS; a file's name is its
registration. `kernels.dequantize` reads the data, so that a new format runs everywhere before it has a kernel.
Knows no tensors and no devices: `resolve` only maps the spellings that people type to a format.
"""

from dataclasses import dataclass

from farthing.discover import load, names
from farthing.errors import UnsupportedError

DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "int8": 1, "uint8": 1, "fp8_e4m3": 1}
SIDE_SUFFIXES = ("weight_scale", "weight_zero")
"""Of what is stored beside the codes of a quantized matrix."""
SPELLINGS = {
    "int8": {"cpu": "w8a8", "cuda": "w8a16"},
    "int4": {"cpu": "w4a8", "cuda": "w4a16"},
    "float32": {"*": "fp32"},
    "f32": {"*": "fp32"},
    "bfloat16": {"*": "bf16"},
    "float16": {"*": "fp16"},
    "f16": {"*": "fp16"},
    "half": {"*": "fp16"},
}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a stored weight: `suffix` is appended to the op's name ("weight", or one of SIDE_SUFFIXES)."""

    suffix: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count * DTYPE_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """`bits` per weight stored in `storage` (two 4-bit values to a uint8, the even column in the low half).

    `group_size` input columns share a scale (None: the whole row does); `scale_dtype` None means no scales, that is
    plain floating point. value = scale * code: codes from -`max_code` to `max_code`; of 4 bits -8..7, under scales of
    either sign. `zero_points`, of 4 bits alone: codes 0..15, and which of them is zero, a uint8 for each scale:
    value = scale * (code - zero).
    `activation_bits` 8: each activation row is rounded to int8 with its own scale before the product.
    `math` is the unit of hardware/ that multiplies (the key of Cost.flops).
    """

    name: str
    math: str
    bits: int
    storage: str
    scale_dtype: str | None = None
    group_size: int | None = None
    activation_bits: int = 16
    zero_points: bool = False

    @property
    def quantized(self) -> bool:
        return self.scale_dtype is not None

    @property
    def max_code(self) -> float:
        """The largest magnitude of a stored code: 127, 7 (from a zero point, 15), or 448 (the largest fp8 e4m3 number,
        OCP OFP8 1.0)."""
        if self.storage == "fp8_e4m3":
            return 448.0
        return float(2**self.bits - 1 if self.zero_points else 2 ** (self.bits - 1) - 1)

    def num_groups(self, in_features: int) -> int:
        return 1 if self.group_size is None else -(-in_features // self.group_size)

    def stored(self, out_features: int, in_features: int) -> tuple[StoredTensor, ...]:
        """The tensors of W[out, in]: codes first, then scales and zero points [out, groups]."""
        columns = -(-in_features * self.bits // (8 * DTYPE_BYTES[self.storage]))
        weight = StoredTensor("weight", self.storage, (out_features, columns))
        if self.scale_dtype is None:
            return (weight,)
        groups = (out_features, self.num_groups(in_features))
        scale = StoredTensor("weight_scale", self.scale_dtype, groups)
        return (weight, scale, StoredTensor("weight_zero", "uint8", groups)) if self.zero_points else (weight, scale)

    def nbytes(self, out_features: int, in_features: int) -> int:
        return sum(tensor.num_bytes for tensor in self.stored(out_features, in_features))


def formats() -> dict[str, WeightFormat]:
    """All formats by name, from the files of this folder."""
    found: dict[str, WeightFormat] = {}
    for module in names("farthing.quantization"):
        if module != "base":
            for weight_format in load("farthing.quantization", module).FORMATS:
                found[weight_format.name] = weight_format
    return found


def resolve(spelling: str, device_kind: str) -> WeightFormat:
    """'int4' on 'cuda' -> w4a16; 'w8a8' -> w8a8. UnsupportedError lists the formats there are."""
    known = formats()
    by_device = SPELLINGS.get(spelling.lower(), {})
    name = by_device.get(device_kind) or by_device.get("*") or spelling.lower()
    if name not in known:
        choices = ", ".join(sorted({*known, *SPELLINGS}))
        raise UnsupportedError(f"weight format {spelling!r} is not known", fix=f"use one of {choices}")
    return known[name]
