"""Kernels in Triton for tests: on a device, from CPU tensors and back, so that a test does for interpreter and GPU."""

from typing import Any

import torch

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.sequences import Sequences
from farthing.kernels.triton.backend import TritonKernels, chip_of
from farthing.kernels.triton.launch import Chip, Launcher, Now


def launcher(device: str) -> Launcher:
    """Of the device; the interpreter acts as a 4090 of one multiprocessor, for it runs programs one by one."""
    return Now(chip_of(torch.device("cuda")) if device == "cuda" else Chip(89, 1))


def open_kernels(device: str, *, batch_invariant: bool) -> "Kernels":
    return Kernels(TritonKernels(launcher(device), batch_invariant=batch_invariant), device)


class Kernels(ReferenceKernels):
    """Takes and returns CPU tensors; what is written in place is copied back."""

    def __init__(self, on_device: TritonKernels, device: str) -> None:
        self.on_device, self._device = on_device, device

    def _call(self, method: str, *operands: Any) -> Any:
        moved = [x.to(self._device) if isinstance(x, torch.Tensor) else x for x in operands]
        found = getattr(self.on_device, method)(*moved)
        return tuple(x.cpu() for x in found) if isinstance(found, tuple) else found.cpu()

    def rms_norm(self, *operands: Any) -> torch.Tensor:
        return self._call("rms_norm", *operands)

    def silu_mul(self, *operands: Any) -> torch.Tensor:
        return self._call("silu_mul", *operands)

    def largest(self, *operands: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return self._call("largest", *operands)

    def rope_and_store(
        self,
        q_THD: torch.Tensor,
        k_TJD: torch.Tensor,
        v_TJD: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        cache: tuple[torch.Tensor, torch.Tensor],
        slots_T: torch.Tensor,
    ) -> torch.Tensor:
        rows, turned, written = (
            tuple(x.to(self._device) for x in moved) for moved in ((q_THD, k_TJD, v_TJD), angles, cache)
        )
        found_THD = self.on_device.rope_and_store(*rows, turned, written, slots_T.to(self._device))
        for here, there in zip(cache, written, strict=True):
            here.copy_(there)
        return found_THD.cpu()

    def attention(
        self,
        q_THD: torch.Tensor,
        k_cache_BSJD: torch.Tensor,
        v_cache_BSJD: torch.Tensor,
        sequences: Sequences,
        window: int | None,
    ) -> torch.Tensor:
        columns = (sequences.first_rows_S, sequences.num_rows_S, sequences.starts_S, sequences.tables_SP)
        there = Sequences(*(column.to(self._device) for column in columns))
        return self._call("attention", q_THD, k_cache_BSJD, v_cache_BSJD, there, window)
