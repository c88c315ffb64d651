"""Codes of quantized weights as numbers that are multiplied: 4 bits and fp8 e4m3, inside of kernels.

Exact: every code is a bf16 and an fp16 number. Knows no scales and no layouts.
"""

import triton
import triton.language as tl

from farthing.kernels.triton.arithmetic import INTERPRETED, nearest

_NIBBLES = """{
    .reg .b32 low, high, one, minus;
    mov.b32 one, ONE;
    mov.b32 minus, MINUS;
    and.b32 low, $4, 0x0F0F0F0F;
    shr.u32 high, $4, 4;
    and.b32 high, high, 0x0F0F0F0F;
    prmt.b32 $0, low, MAGIC, 0x4140;
    prmt.b32 $1, low, MAGIC, 0x4342;
    prmt.b32 $2, high, MAGIC, 0x4140;
    prmt.b32 $3, high, MAGIC, 0x4342;
    fma.rn.TYPEx2 $0, $0, one, minus;
    fma.rn.TYPEx2 $1, $1, one, minus;
    fma.rn.TYPEx2 $2, $2, one, minus;
    fma.rn.TYPEx2 $3, $3, one, minus;
}"""


def _nibbles_in(kind: str, magic: str, one: str, minus: str) -> tl.constexpr:
    words = {"TYPE": kind, "MAGIC": f"0x{magic * 4}", "ONE": f"0x{one * 2}", "MINUS": f"0x{minus * 2}"}
    text = _NIBBLES
    for name, word in words.items():
        text = text.replace(name, word)
    return tl.constexpr(text)


_NIBBLES_BF16 = _nibbles_in("bf16", "43", "3F80", "C308")
"""Four bytes to eight bf16 numbers in 11 instructions: a nibble n below the byte 0x43 is 128 + n, and 136 goes off."""
_NIBBLES_FP16 = _nibbles_in("f16", "64", "3C00", "E408")
"""The same in fp16: 1024 + n, less 1032."""
_REGISTERS = tl.constexpr("=r,=r,=r,=r,r")  # two numbers of each half to a register, four bytes in


@triton.jit
def nibbles(packed, dtype: tl.constexpr):
    """Both halves of each byte, less 8, as numbers -8..7 of `dtype`: (low, high)."""
    if INTERPRETED or dtype == tl.float32:
        low = ((packed & 15).to(tl.float32) - 8.0).to(dtype)
        high = ((packed >> 4).to(tl.float32) - 8.0).to(dtype)
    elif dtype == tl.bfloat16:
        low, high = tl.inline_asm_elementwise(
            _NIBBLES_BF16, _REGISTERS, [packed], dtype=(tl.bfloat16, tl.bfloat16), is_pure=True, pack=4
        )
    else:
        low, high = tl.inline_asm_elementwise(
            _NIBBLES_FP16, _REGISTERS, [packed], dtype=(tl.float16, tl.float16), is_pure=True, pack=4
        )
    return low, high


@triton.jit
def e4m3(byte):
    """The fp32 number of each byte that is an e4m3 number other than NaN, on chips that don't know these: its exponent
    counts from 7 where that of fp32 counts from 127."""
    wide = byte.to(tl.uint32)
    bits = ((wide & 0x80) << 24) | ((wide & 0x7F) << 20)
    return bits.to(tl.float32, bitcast=True) * 1.329227995784916e36  # 2^120


@triton.jit
def e4m3_byte(x):
    """fp32 rounded to the nearest e4m3 number, ties to even, as its byte; beyond 448 the largest. Integers alone, so
    that every chip can."""
    bits = x.to(tl.uint32, bitcast=True)
    size = tl.minimum(tl.abs(x), 448.0)
    normal = size.to(tl.uint32, bitcast=True)
    normal = ((normal + 0x7FFFF + ((normal >> 20) & 1)) >> 20) - (120 << 3)
    steps = nearest(size * 512.0).to(tl.uint32)  # below 2**-6 the numbers are 2**-9 apart
    return (tl.where(size < 0.015625, steps, normal) | ((bits >> 24) & 0x80)).to(tl.uint8)
