"""What kernels compute with: products summed in fp32, and rounding to nearest even, on a GPU and in the interpreter.

To the interpreter bf16 and fp8 are integers, so values are loaded, cast to fp32, computed there and rounded at the end.
"""

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Whether Triton's interpreter runs the kernels (TRITON_INTERPRET=1, which is Triton's own)."""


@triton.jit
def dot(a, b, sums=None):
    """a @ b, on top of `sums`, in fp32; fp32 operands as they are, not as TF32. In the interpreter as on matrix units a
    row's bits don't depend on how many there are; those of the BLAS under its tl.dot do."""
    if INTERPRETED:
        products = a.to(tl.float32)[:, :, None] * b.to(tl.float32)[None, :, :]
        return tl.sum(products, 1) if sums is None else sums + tl.sum(products, 1)
    else:
        return tl.dot(a, b, sums, input_precision="ieee")


@triton.jit
def nearest(x):
    """fp32 of less than 2**22 to the nearest integer, ties to even: bits behind the point fall off a large sum."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def rounded(x, dtype: tl.constexpr):
    """fp32 in `dtype`; what fp8 can't hold becomes its largest. The interpreter cuts bits off, so they are rounded
    before."""
    if INTERPRETED and dtype == tl.bfloat16:
        bits = x.to(tl.int32, bitcast=True)
        x = ((bits + 0x7FFF + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
    if INTERPRETED and dtype == tl.float8e4nv:
        x = tl.minimum(tl.maximum(x, -448.0), 448.0)
        exponent = tl.maximum((x.to(tl.int32, bitcast=True) >> 23) & 255, 121)  # below 2**-6 steps stay what they are
        step = ((exponent - 3) << 23).to(tl.float32, bitcast=True)
        x = nearest(x / step) * step
    return x.to(dtype)
