"""w4a16: int4 weights with a scale per 128 columns, widened to bf16 in the product (GPU decode).

With a zero point for each scale, too (-zp): a sixteenth of a bit a weight more, and better where a group leans to one
side.
"""

from farthing.quantization.base import WeightFormat


def _with(name: str, *, zero_points: bool) -> WeightFormat:
    return WeightFormat(
        name, math="bf16", bits=4, storage="uint8", scale_dtype="bf16", group_size=128, zero_points=zero_points
    )


FORMATS = (_with("w4a16", zero_points=False), _with("w4a16-zp", zero_points=True))
