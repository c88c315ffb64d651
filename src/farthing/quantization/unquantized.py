"""Plain floating point: fp32, bf16, fp16. Stored as multiplied; no scales."""

from farthing.quantization.base import WeightFormat

FORMATS = (
    WeightFormat("fp32", math="fp32", bits=32, storage="fp32"),
    WeightFormat("bf16", math="bf16", bits=16, storage="bf16"),
    WeightFormat("fp16", math="fp16", bits=16, storage="fp16"),
)
