"""How a kernel is started: now, or noted, to be compiled ahead of time for a chip that is not there.

A file of kernels has functions that take `launch` first, allocate what they return and call `launch`; and
`examples(launch)`, which calls them on meta tensors (shapes without memory) so that every specialization that can be
chosen on `launch.chip` is noted once. What ahead.py compiles is therefore what runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import triton

_SHARED_KIB = {80: 163, 86: 99, 87: 163, 89: 99, 90: 227, 100: 227, 103: 227, 120: 99, 121: 99}
"""Shared memory that one block may take. Source: CUDA C++ programming guide, compute capabilities."""


@dataclass(frozen=True, slots=True)
class Chip:
    """What configurations are chosen by. `capability`: 89 is sm_89."""

    capability: int
    num_multiprocessors: int

    @property
    def shared_bytes(self) -> int:
        return _SHARED_KIB.get(self.capability, 99) * 1024

    @property
    def has_fp8(self) -> bool:
        """Whether it converts and multiplies fp8_e4m3."""
        return self.capability >= 89

    @property
    def starts_early(self) -> bool:
        """Whether a kernel may be started before the one before it has ended (programmatic dependent launch)."""
        return self.capability >= 90


FP_FUSION = False
"""Products fuse into sums only where the kernel says so (tl.fma): the same lines give the same bits in any kernel."""
CHIPS = (Chip(80, 108), Chip(86, 82), Chip(89, 128), Chip(90, 132), Chip(120, 170))
"""A100, RTX 3090, RTX 4090, H100 and H200, RTX 5090: what the kernels are compiled for ahead of time."""

EARLY = "EARLY"
"""The constexpr argument of kernels that wait by themselves for the kernel before them, where they are started early
(order.after_others)."""

Operand = torch.Tensor | int | float | bool | None


def constants_for(kernel: Any, chip: Chip, constants: Mapping[str, Any]) -> dict[str, Any]:
    """All constexpr arguments: those of the call, and of what the chip can."""
    can = {EARLY: chip.starts_early and not triton.knobs.runtime.interpret}
    return {**constants, **{name: value for name, value in can.items() if name in kernel.arg_names}}


@dataclass(frozen=True, slots=True)
class Launch:
    """`operands` in the order of the kernel's arguments; `constants`, its constexpr arguments, by name."""

    kernel: Any
    grid: tuple[int, ...]
    operands: tuple[Operand, ...]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int


class Launcher(Protocol):
    chip: Chip

    def __call__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        *operands: Operand,
        num_warps: int = 4,
        num_stages: int = 2,
        **constants: Any,
    ) -> None:
        """An empty grid does nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Now:
    """On the device of the operands; in the interpreter, on CPU tensors."""

    chip: Chip

    def __call__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        *operands: Operand,
        num_warps: int = 4,
        num_stages: int = 2,
        **constants: Any,
    ) -> None:
        if all(grid):
            constants = constants_for(kernel, self.chip, constants)
            options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": FP_FUSION}
            kernel[grid](*operands, **constants, **options, launch_pdl=constants.get(EARLY, False))


@dataclass(frozen=True, slots=True)
class Noted:
    """Launches pile up; nothing runs."""

    chip: Chip
    launches: list[Launch] = field(default_factory=list)

    def __call__(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        *operands: Operand,
        num_warps: int = 4,
        num_stages: int = 2,
        **constants: Any,
    ) -> None:
        constants = constants_for(kernel, self.chip, constants)
        self.launches.append(Launch(kernel, grid, operands, constants, num_warps, num_stages))


def meta(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of examples."""
    return torch.empty(shape, dtype=dtype, device="meta")
