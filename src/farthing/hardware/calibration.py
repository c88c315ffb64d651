"""What a machine was measured to do (bandwidth, GEMM rates, overhead, fixed memory) and the file that keeps it.

`farthing probe` (runtime/probe.py) fills it, both wings read it. A figure is a limit: the best that was measured under
the conditions asked for. Knows no torch and no catalogue: measured peaks never go into hardware/catalog.
"""

import hashlib
import importlib.metadata
import json
import math
import os
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin

import platformdirs

from farthing.errors import FarthingError
from farthing.hardware.machine import cpu_name, num_cores

SCHEMA = "farthing.calibration/1"
_MEASURE_AGAIN = "run farthing probe"
_MAX_FILE_BYTES = 2**20
_FALLBACK_MATH = "fp32"


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """Which machine a calibration belongs to; with any other processor, core count or version it is not used.

    `kind`: "cpu" or "cuda". `versions`: "torch 2.13.0+cpu", on a GPU with CUDA and driver.
    """

    kind: str
    name: str
    num_cores: int
    versions: str

    @property
    def file_name(self) -> str:
        text = f"{self.kind} {self.name} {self.num_cores} cores {self.versions}"
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        return f"{re.sub(r'[^a-z0-9.]+', '-', text.lower()).strip('-')[:100]}-{digest}.json"


@dataclass(frozen=True, slots=True)
class BandwidthPoint:
    """Reading `working_set_bytes` again and again with `op`; `spread`: interquartile range of the repeats / median.

    `num_threads` are host threads; a GPU reads with all of itself and has 1 here.
    """

    working_set_bytes: int
    num_threads: int
    op: str
    bytes_per_second: float
    spread: float

    def __post_init__(self) -> None:
        _require_positive(self.working_set_bytes, self.num_threads, self.bytes_per_second)


@dataclass(frozen=True, slots=True)
class GemmPoint:
    """y_MN = x_MK @ w_NK^T. `math`: the name that Cost.flops uses ("fp32", "bf16", "int8", ...)."""

    math: str
    m: int
    n: int
    k: int
    num_threads: int
    flops_per_second: float
    spread: float

    def __post_init__(self) -> None:
        _require_positive(self.m, self.n, self.k, self.num_threads, self.flops_per_second)


@dataclass(frozen=True, slots=True)
class LinkPoint:
    """Moving `payload_bytes` to another device, one direction."""

    peer: str
    payload_bytes: int
    bytes_per_second: float
    spread: float

    def __post_init__(self) -> None:
        _require_positive(self.payload_bytes, self.bytes_per_second)


@dataclass(frozen=True)
class Calibration:
    """Everything that one `probe` measured. `date` is ISO 8601, UTC.

    `overhead_seconds_per_op`: what one torch call of a decode step (a kernel launch on a GPU) costs beside its work.
    `process_bytes`: interpreter and torch before any model. `device_context_bytes`: what the CUDA context takes of the
    GPU, 0 on a CPU.
    """

    device: DeviceKey
    date: str
    bandwidth: tuple[BandwidthPoint, ...]
    gemm: tuple[GemmPoint, ...]
    links: tuple[LinkPoint, ...]
    overhead_seconds_per_op: float
    process_bytes: int
    device_context_bytes: int

    def __post_init__(self) -> None:
        _require_positive(self.overhead_seconds_per_op, self.process_bytes)
        if not self.bandwidth or _FALLBACK_MATH not in {point.math for point in self.gemm}:
            raise ValueError("a calibration has at least one bandwidth and one fp32 GEMM")

    def read_bandwidth(self, bytes_touched: int) -> float:
        """Bytes/s at which `bytes_touched` can be read over and over: the best of ops and threads at each working set,
        linear in its logarithm between two of them, flat beyond the smallest and the largest."""
        return _interpolate(self._bandwidth_curve, bytes_touched)

    def flops_per_second(self, math: str, rows: int) -> float:
        """FLOP/s of a GEMM with `rows` rows: the best of shapes and threads at each row count, linear in its logarithm
        between two of them, flat beyond the smallest and the largest.

        A math that was not measured is done in fp32, and priced so: that is what the reference kernels do.
        """
        return _interpolate(self._gemm_curves.get(math, self._gemm_curves[_FALLBACK_MATH]), rows)

    def at_threads(self, num_threads: int) -> "Calibration":
        """The same machine with no more than so many host threads, as far as it was measured with fewer at all."""
        bandwidth = tuple(point for point in self.bandwidth if point.num_threads <= num_threads)
        gemm = tuple(point for point in self.gemm if point.num_threads <= num_threads)
        if not bandwidth or _FALLBACK_MATH not in {point.math for point in gemm}:
            return self
        return replace(self, bandwidth=bandwidth, gemm=gemm)

    @cached_property
    def _bandwidth_curve(self) -> tuple[tuple[int, float], ...]:
        return _best((point.working_set_bytes, point.bytes_per_second) for point in self.bandwidth)

    @cached_property
    def _gemm_curves(self) -> Mapping[str, tuple[tuple[int, float], ...]]:
        return {
            name: _best((point.m, point.flops_per_second) for point in self.gemm if point.math == name)
            for name in {point.math for point in self.gemm}
        }


def _best(points: Iterable[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """The highest y at each x, sorted by x."""
    best: dict[int, float] = {}
    for x, y in points:
        best[x] = max(y, best.get(x, 0.0))
    return tuple(sorted(best.items()))


def _interpolate(curve: tuple[tuple[int, float], ...], x: float) -> float:
    right = bisect_right(curve, x, key=lambda point: point[0])
    if right in (0, len(curve)):
        return curve[max(0, right - 1)][1]
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * math.log(x / x0) / math.log(x1 / x0)


def _require_positive(*values: float) -> None:
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"a measured figure is finite and above zero: {values}")


def cpu_key() -> DeviceKey:
    """The key of this machine's processor, with the torch that is installed (found without importing it)."""
    return DeviceKey("cpu", cpu_name(), num_cores(), _torch_version())


def cuda_key(device_name: str, *, cuda: str, driver: str) -> DeviceKey:
    """The key of a GPU as torch names it ("NVIDIA H200"), in a host with this many cores."""
    return DeviceKey("cuda", device_name, num_cores(), f"{_torch_version()}, CUDA {cuda}, driver {driver}")


def _torch_version() -> str:
    try:
        return f"torch {importlib.metadata.version('torch')}"
    except importlib.metadata.PackageNotFoundError:
        return "no torch"


def calibration_folder() -> Path:
    """Where calibrations are kept: `calibration` in the user's data folder."""
    return Path(platformdirs.user_data_dir("farthing")) / "calibration"


def to_json_object(calibration: Calibration) -> dict[str, Any]:
    """The calibration as the JSON object of the file and of `farthing probe --json`."""
    return {"schema": SCHEMA, **asdict(calibration)}


def save(calibration: Calibration, folder: Path | None = None) -> Path:
    """Write the calibration whole or not at all; a reader sees the old file or the new one. Returns its path."""
    path = (folder or calibration_folder()) / calibration.device.file_name
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(to_json_object(calibration), indent=1), encoding="utf-8")
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        what = f"the calibration can't be written to {path}: {error.strerror}"
        raise FarthingError(what, fix=f"make {path.parent} writable") from None
    return path


def load(key: DeviceKey, folder: Path | None = None) -> Calibration | None:
    """The calibration of this device, or None if it was never measured (or another processor or torch was).

    FarthingError if the file is damaged or was written by a newer Farthing.
    """
    path = (folder or calibration_folder()) / key.file_name
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_FILE_BYTES))
        schema = content.pop("schema")
        if schema == SCHEMA:
            calibration: Calibration = _decode(Calibration, content)
            return calibration if calibration.device == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FarthingError(f"the calibration file {path} is damaged", fix=_MEASURE_AGAIN) from None
    raise FarthingError(f"the calibration file {path} has schema {schema!r}, not {SCHEMA!r}", fix=_MEASURE_AGAIN)


def saved_here(folder: Path | None = None) -> list[Calibration]:
    """Every calibration of this machine's devices with the torch that is installed; damaged files are left out."""
    found = []
    for path in sorted((folder or calibration_folder()).glob("*.json")):
        try:
            content = json.loads(path.read_bytes()[:_MAX_FILE_BYTES])
            calibration: Calibration = _decode(Calibration, {k: v for k, v in content.items() if k != "schema"})
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        key = calibration.device
        if key.num_cores == num_cores() and key.versions.split(",")[0] == _torch_version():
            found.append(calibration)
    return [one for one in found if one.device.kind != "cpu" or one.device == cpu_key()]


def _decode(kind: Any, value: Any) -> Any:
    """`value` out of JSON as `kind`: a dataclass, a tuple of them, str, int or float. ValueError if it is not one."""
    if is_dataclass(kind):
        names = {field.name: field.type for field in fields(kind)}
        if set(value) != set(names):
            raise ValueError(f"{kind} has the fields {sorted(names)}")
        return kind(**{name: _decode(type_, value[name]) for name, type_ in names.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        return tuple(_decode(get_args(kind)[0], item) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    return value
