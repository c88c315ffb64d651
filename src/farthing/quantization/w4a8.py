"""w4a8: int4 weights with a scale per 128 columns, activations rounded to int8 row by row (CPU VNNI)."""

from farthing.quantization.base import WeightFormat

FORMATS = (
    WeightFormat("w4a8", math="int8", bits=4, storage="uint8", scale_dtype="bf16", group_size=128, activation_bits=8),
)
