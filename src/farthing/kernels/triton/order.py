"""The order of kernels that are started early: each waits for the one before it where it begins to read.

On Hopper and later chips a kernel that takes EARLY is started while the one before it still runs (programmatic
dependent launch), so that what it takes to start one is hidden. Others wait as ever.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def after_others(EARLY: tl.constexpr):
    """The first line of a kernel: what earlier kernels wrote is there, and the next one may be started."""
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
