"""w8a8: int8 weights with one scale a row, activations rounded to int8 row by row, int8 products (CPU VNNI, GPU)."""

from farthing.quantization.base import WeightFormat

FORMATS = (WeightFormat("w8a8", math="int8", bits=8, storage="int8", scale_dtype="fp32", activation_bits=8),)
