"""Which kernel multiplies how many rows by a weight of one shape: measured once a chip, at load, and kept on disk.

Only where rows may depend on their batch; else a rule says it (linear.by_rule). The file's name is made of all that the
answer depends on - chip, versions, shape, format, and the kernels to choose from -, so an old one is never met. Nothing
here ever fails a load, and nothing is measured while stepping.
"""

import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import platformdirs
import torch
import triton
from triton.runtime.errors import TritonError

from farthing.kernels.triton.launch import Launcher
from farthing.kernels.triton.linear import Kernel, Plan, by_rule, candidates, linear
from farthing.kernels.weight import Weight

Measure = Callable[[Callable[[], object]], float]
"""Seconds that a call takes on the device."""


def measured(call: Callable[[], object]) -> float:
    """The median; caches are emptied between two calls, as a step's other weights would do."""
    milliseconds: float = triton.testing.do_bench(call, warmup=5, rep=20, return_mode="median")
    return milliseconds / 1000


class Chooser:
    """Plans of one process; equal shapes share theirs. `folder`: where they are kept."""

    def __init__(
        self,
        launch: Launcher,
        *,
        batch_invariant: bool,
        folder: Path | None = None,
        measure: Measure = measured,
    ) -> None:
        self._launch, self._batch_invariant, self._measure = launch, batch_invariant, measure
        self._folder = folder or Path(platformdirs.user_cache_dir("farthing")) / "products"
        self._plans: dict[str, Plan] = {}

    def plan(self, weight: Weight, dtype: torch.dtype) -> Plan:
        """For a weight as `linear` reads it, beside activations of `dtype`."""
        if self._batch_invariant:
            return by_rule(weight, dtype, self._launch.chip)
        choices = tuple(candidates(weight, dtype, self._launch.chip))
        name = self._name(weight, dtype, choices)
        if name not in self._plans:
            chosen = self._kept(name, [kernels for _, _, kernels in choices])
            if chosen is None:
                chosen = [self._fastest(weight, dtype, rows, kernels) for _, rows, kernels in choices]
                self._keep(name, chosen)
            best = [kernels[index] for (_, _, kernels), index in zip(choices, chosen, strict=True)]
            limits = [limit for limit, _, _ in choices if limit is not None]
            self._plans[name] = Plan(tuple(zip(limits, best, strict=False)), best[-1])
        return self._plans[name]

    def _name(self, weight: Weight, dtype: torch.dtype, choices: object) -> str:
        device = weight.codes.device
        chip = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        versions = (torch.__version__, triton.__version__)
        shape = (weight.codes.shape[0], weight.in_features)
        known = repr((chip, self._launch.chip, versions, weight.format, shape, dtype, choices))
        return f"{hashlib.sha256(known.encode()).hexdigest()[:24]}.json"

    def _fastest(self, weight: Weight, dtype: torch.dtype, rows: int, kernels: Sequence[Kernel]) -> int:
        """Its place among them. A kernel that this chip or this torch refuses is none."""
        if len(kernels) == 1:
            return 0
        x_TK = torch.ones((rows, weight.in_features), dtype=dtype, device=weight.codes.device)
        seconds = []
        for kernel in kernels:
            call = functools.partial(linear, self._launch, x_TK, weight, None, Plan((), kernel))
            try:
                seconds.append(self._measure(call))
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, TritonError):
                seconds.append(float("inf"))
        if min(seconds) == float("inf"):
            raise RuntimeError(f"no kernel multiplies by a matrix of {weight.format.name} here")
        return seconds.index(min(seconds))

    def _kept(self, name: str, choices: Sequence[Sequence[Kernel]]) -> list[int] | None:
        """None if there is none, or a damaged one."""
        try:
            chosen = json.loads((self._folder / name).read_text(encoding="utf-8"))
            for index, kernels in zip(chosen, choices, strict=True):
                kernels[index]
        except (OSError, ValueError, TypeError, IndexError):
            return None
        return list(chosen)

    def _keep(self, name: str, chosen: list[int]) -> None:
        """The file appears at once or not at all, so two processes may write the same."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, path = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(chosen, file)
            Path(path).replace(self._folder / name)
