"""w4a16: int4 weights with a scale per 128 columns, widened to bf16 in the product (GPU decode)."""

from farthing.quantization.base import WeightFormat

FORMATS = (WeightFormat("w4a16", math="bf16", bits=4, storage="uint8", scale_dtype="bf16", group_size=128),)
