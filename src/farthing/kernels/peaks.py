"""What the kernels that are compiled for this processor reach, for those who must not know which kernels these are; and
which kernels of ours a processor or a GPU computes with.

runtime/probe.py times the tasks; where nothing can be compiled it times torch.
"""

import hashlib
from pathlib import Path

import torch

from farthing import discover
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


def gpu_version(device: torch.device) -> str:
    """Which kernels compute on a GPU, told apart from those of any other Farthing; '' if it has none of ours."""
    try:
        triton = discover.load("farthing.kernels.triton", "backend")
    except ImportError:
        return ""
    if triton.chip_of(device).capability < triton.LEAST_CAPABILITY:
        return ""
    return f"kernels triton-{digest_of(Path(triton.__file__).parent)}"


def digest_of(folder: Path) -> str:
    """Of the names and texts of the Python files in a folder."""
    known = hashlib.sha256()
    for source in sorted(folder.glob("*.py")):
        known.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return known.hexdigest()[:8]
