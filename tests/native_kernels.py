"""The native kernels for tests: every level that this processor has, with any number of threads, compiled once."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from farthing.hardware.machine import cpp_compiler, cpu_flags
from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.native.compiler import LEVELS, best_level, compiled
from farthing.kernels.native.library import Pool
from farthing.quantization.base import WeightFormat, formats


def levels_here() -> list[str]:
    """All that this processor can run, those too that are not the fastest on it."""
    has = {flag.replace("_", "") for flag in cpu_flags()}
    return [level for level, needs in LEVELS.items() if has.issuperset(needs)]


def native(level: str | None = None, num_threads: int = 2) -> NativeKernels:
    """New ones, that have prepared no weight yet; of the best level unless told otherwise."""
    level = level or best_level()
    return NativeKernels(pool(level, num_threads), level)


@cache
def pool(level: str, num_threads: int) -> Pool:
    return Pool(library(level), num_threads)


def library(level: str) -> Path:
    if cpp_compiler() is None:
        pytest.skip("there is no C++ compiler here")
    return compiled(level)  # a compiler that can't compile these sources is no reason to skip


def weight_formats(dtype: torch.dtype) -> list[WeightFormat]:
    """What there are kernels for beside activations of this dtype, int4 with every size of group."""
    known = formats()
    plain = known["fp32" if dtype == torch.float32 else "bf16"]
    return [plain, known["w8a8"], *(replace(known["w4a8"], group_size=size) for size in (32, 64, 128))]
