"""Seconds of kernels as seconds of what they were called for: the methods of kernels/reference.py, in order.

What prepares a product belongs to it, and what attention needs beside itself to attention. Knows no clock.
"""

from collections.abc import Iterable

_BEFORE = {"quantize_rows": "linear", "widen": "linear", "store_kv": "attention"}  # part of what comes next
_AFTER = {"combine_attention": "attention"}  # part of what came before
_METHODS = ("linear", "attention", "rms_norm", "rotary_angles", "rope", "silu_mul", "add", "gather")


def by_method(timed: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Method and seconds of each of its calls; a kernel that belongs to none is a method of its own name."""
    found: list[tuple[str, float]] = []
    waiting = 0.0
    for kernel, seconds in timed:
        if _one_of(kernel, _BEFORE):
            waiting += seconds
        elif found and _one_of(kernel, _AFTER) == found[-1][0]:
            found[-1] = (found[-1][0], found[-1][1] + seconds)
        else:
            method = next((name for name in _METHODS if kernel.startswith(name)), kernel)
            found.append((method, waiting + seconds))
            waiting = 0.0
    if found:  # the logits in fp32, behind the last product
        found[-1] = (found[-1][0], found[-1][1] + waiting)
    return found


def _one_of(kernel: str, parts: dict[str, str]) -> str | None:
    return next((whole for part, whole in parts.items() if kernel.startswith(part)), None)
