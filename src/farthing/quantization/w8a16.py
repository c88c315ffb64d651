"""w8a16: int8 weights with one scale a row, widened to bf16 in the product: half the bytes, the math of bf16."""

from farthing.quantization.base import WeightFormat

FORMATS = (WeightFormat("w8a16", math="bf16", bits=8, storage="int8", scale_dtype="fp32"),)
