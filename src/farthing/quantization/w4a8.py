"""w4a8: int4 weights with a scale per 32, 64 or 128 columns, activations rounded to int8 row by row (CPU VNNI).

32 is what `int4` means on a CPU: half a bit a weight for scales buys most of the quality (benchmarks/quality.md).
"""

from farthing.quantization.base import WeightFormat


def _groups_of(size: int, name: str) -> WeightFormat:
    return WeightFormat(
        name, math="int8", bits=4, storage="uint8", scale_dtype="bf16", group_size=size, activation_bits=8
    )


FORMATS = (_groups_of(32, "w4a8"), _groups_of(64, "w4a8-g64"), _groups_of(128, "w4a8-g128"))
