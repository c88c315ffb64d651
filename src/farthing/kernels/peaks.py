"""What the kernels that are compiled for this processor reach, for those who must not know which kernels these are.

runtime/probe.py times the tasks; where nothing can be compiled it times torch.
"""

import torch

from farthing.kernels.native.compiler import NoCompilerError, best_level, compiled
from farthing.kernels.native.library import Pool
from farthing.kernels.native.peaks import NativePeaks as Peaks
from farthing.kernels.native.peaks import Task as Task


def open_peaks(data: torch.Tensor, num_threads: int) -> Peaks | None:
    """Tasks of so many threads, which read `data`: ones, in fp32. None if there is no compiler."""
    level = best_level()
    try:
        return Peaks(Pool(compiled(level), num_threads), level, data)
    except NoCompilerError:
        return None


def compiled_version() -> str:
    """Which kernels are compiled for this processor, told apart from those of any other Farthing; '' if none are."""
    try:
        return compiled(best_level()).stem[:-8].replace("-", " ", 1)
    except NoCompilerError:
        return ""
