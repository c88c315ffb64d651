"""fp8: e4m3 weights with one scale a row, activations rounded to e4m3 row by row (Ada, Hopper)."""

from farthing.quantization.base import WeightFormat

FORMATS = (WeightFormat("fp8", math="fp8", bits=8, storage="fp8_e4m3", scale_dtype="fp32", activation_bits=8),)
