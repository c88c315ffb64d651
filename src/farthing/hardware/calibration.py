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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import platformdirs

from farthing.errors import FarthingError
from farthing.hardware.curves import Curve, Surface, best, interpolate, interpolate_power, interpolate_surface
from farthing.hardware.machine import cpu_name, num_cores

SCHEMA = "farthing.calibration/2"
_OLD_SCHEMAS = ("farthing.calibration/1",)  # measured again
_MEASURE_AGAIN = "run farthing probe"
_MAX_FILE_BYTES = 2**20
_MAX_RATES = 2**14  # that are remembered: a server asks for new ones as long as it runs
_FALLBACK_MATH = "fp32"
ATTENTION, SMALL_OPS = "attention", "small ops"  # the format of such products, the op of such reads


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """Which machine a calibration belongs to; with any other processor, core count or version it is not used.

    `kind`: "cpu" or "cuda". `versions`: "torch 2.13.0+cpu" and which kernels compute, on a GPU with CUDA and driver.
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

    `num_threads` are host threads; a GPU reads with all of itself and has 1 here. `op` "small ops": norms, additions
    and activations, whose bytes read and written are counted.
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
    """y_MN = x_MK @ w_NK^T. `math`: the name that Cost.flops uses ("fp32", "bf16", "int8", ...).

    `format`: the weight format, where it is more than the math ("w4a8"). `working_set_bytes`: of weights that were read
    in turn, 0 where no more than one matrix was. `format` "attention": `m` queries that share `n` positions of `k`
    values, whose keys and values are the working set.
    """

    math: str
    m: int
    n: int
    k: int
    num_threads: int
    flops_per_second: float
    spread: float
    format: str = ""
    working_set_bytes: int = 0

    def __post_init__(self) -> None:
        _require_positive(self.m, self.n, self.k, self.num_threads, self.flops_per_second)

    @property
    def kind(self) -> str:
        """What its rate is looked up by: the format, or the math where that is all."""
        return self.format or self.math


@dataclass(frozen=True, slots=True)
class PeakPoint:
    """Multiplications and additions of one math without any memory: what no product exceeds."""

    math: str
    num_threads: int
    flops_per_second: float
    spread: float

    def __post_init__(self) -> None:
        _require_positive(self.num_threads, self.flops_per_second)


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

    `records`: steps are recorded once and replayed, so that a call is a recorded one (on a GPU one of a graph); else it
    is one of torch. `overhead_seconds_per_op`: what a call of a decode step costs beside its work, with all threads,
    and `..._alone` with one. `overhead_seconds_per_step`, `..._per_sequence` and `..._per_logit` of one: Python around
    the calls; on a GPU, which Python does not hold up, what passes between two graphs.
    `process_bytes`: interpreter and torch before any model. `device_context_bytes`: what the CUDA context takes of the
    GPU, 0 on a CPU. `peaks`: none where they were not measured.
    """

    device: DeviceKey
    date: str
    bandwidth: tuple[BandwidthPoint, ...]
    gemm: tuple[GemmPoint, ...]
    links: tuple[LinkPoint, ...]
    overhead_seconds_per_op: float
    process_bytes: int
    device_context_bytes: int
    peaks: tuple[PeakPoint, ...] = ()
    records: bool = False
    overhead_seconds_per_op_alone: float | None = None
    overhead_seconds_per_step: float = 0.0
    overhead_seconds_per_sequence: float = 0.0
    overhead_seconds_per_logit: float = 0.0

    def __post_init__(self) -> None:
        _require_positive(self.overhead_seconds_per_op, self.process_bytes)
        if not self.bandwidth or _FALLBACK_MATH not in {point.math for point in self.gemm}:
            raise ValueError("a calibration has at least one bandwidth and one fp32 GEMM")

    def read_bandwidth(self, bytes_touched: int) -> float:
        """Bytes/s at which `bytes_touched` can be read over and over: the best of ops and threads at each working set,
        linear in its logarithm between two of them, flat beyond the smallest and the largest."""
        return interpolate(self._bandwidth_curve, bytes_touched)

    def small_op_bandwidth(self, bytes_moved: float, bytes_touched: int) -> float:
        """Bytes/s of a norm, an addition or an activation that moves so many; where none was measured, those of the
        memory that the step touches."""
        curve = self._small_op_curve
        return interpolate(curve, bytes_moved) if curve else self.read_bandwidth(bytes_touched)

    def flops_per_second(self, math: str, rows: float) -> float:
        """FLOP/s of a GEMM with `rows` rows: the best of shapes and threads at each row count, a power of the rows
        between two of them, flat beyond the smallest and the largest.

        A math that was not measured is done in fp32, and priced so: that is what the reference kernels do.
        """
        curves = self._best_curves
        return interpolate_power(curves.get(math, curves[_FALLBACK_MATH]), rows)

    def product_rate(self, weight_format: str, math: str, rows: float, bytes_touched: float) -> float:
        """FLOP/s of a product with weights in a format, in a step that touches so many bytes; where the format was not
        measured, those of its kin with other groups ("w4a8" of "w4a8-g64"), or of its math."""
        return self._rate((weight_format, weight_format.partition("-")[0], math), math, rows, bytes_touched)

    def attention_rate(self, math: str, queries: float, bytes_attended: float) -> float:
        """FLOP/s of attention where so many queries share keys and values of so many bytes."""
        return self._rate((ATTENTION,), math, queries, bytes_attended)

    def peak(self, math: str) -> float:
        """FLOP/s that no product exceeds: of the instructions alone, or of the best product where that was faster."""
        curve = self._best_curves.get(math, self._best_curves[_FALLBACK_MATH])
        return max(self._peaks.get(math, 0.0), max(rate for _, rate in curve))

    def _rate(self, kinds: tuple[str, ...], math: str, rows: float, num_bytes: float) -> float:
        """Of the first kind that was measured, else of the math. Asked for every op of every step, so it is remembered,
        for bytes to five binary digits."""
        touched = int(num_bytes)
        unit = max(0, touched.bit_length() - 5)
        key = (kinds[0], math, rows, touched >> unit, unit)
        if key not in self._rates:
            if len(self._rates) >= _MAX_RATES:
                self._rates.clear()
            surface = next((self._surfaces[kind] for kind in kinds if kind in self._surfaces), None)
            rounded = touched >> unit << unit
            self._rates[key] = (
                interpolate_surface(surface, rows, rounded) if surface else self.flops_per_second(math, rows)
            )
        return self._rates[key]

    def host_seconds(self, num_sequences: int, vocab_size: int) -> float:
        """What a step takes around its calls."""
        each = self.overhead_seconds_per_sequence + vocab_size * self.overhead_seconds_per_logit
        return self.overhead_seconds_per_step + num_sequences * each

    def at_threads(self, num_threads: int) -> "Calibration":
        """The same machine with no more than so many host threads, as far as it was measured with fewer at all."""
        bandwidth = tuple(point for point in self.bandwidth if point.num_threads <= num_threads)
        gemm = tuple(point for point in self.gemm if point.num_threads <= num_threads)
        if not bandwidth or _FALLBACK_MATH not in {point.math for point in gemm}:
            return self
        peaks = tuple(point for point in self.peaks if point.num_threads <= num_threads)
        alone = self.overhead_seconds_per_op_alone if num_threads == 1 else None
        overhead = self.overhead_seconds_per_op if alone is None else alone
        return replace(self, bandwidth=bandwidth, gemm=gemm, peaks=peaks, overhead_seconds_per_op=overhead)

    @cached_property
    def _bandwidth_curve(self) -> Curve:
        reads = (point for point in self.bandwidth if point.op != SMALL_OPS)
        return best((point.working_set_bytes, point.bytes_per_second) for point in reads)

    @cached_property
    def _small_op_curve(self) -> Curve:
        small = (point for point in self.bandwidth if point.op == SMALL_OPS)
        return best((point.working_set_bytes, point.bytes_per_second) for point in small)

    @cached_property
    def _best_curves(self) -> Mapping[str, Curve]:
        products = [point for point in self.gemm if point.format != ATTENTION]
        return {
            name: best((point.m, point.flops_per_second) for point in products if point.math == name)
            for name in {point.math for point in products}
        }

    @cached_property
    def _peaks(self) -> Mapping[str, float]:
        maths = {point.math for point in self.peaks}
        return {math: max(one.flops_per_second for one in self.peaks if one.math == math) for math in maths}

    @cached_property
    def _rates(self) -> dict[tuple[str, str, float, int, int], float]:
        return {}

    @cached_property
    def _surfaces(self) -> Mapping[str, Surface]:
        """By kind, of those with a working set: by rows a curve over the working set."""
        kinds: dict[str, dict[int, list[tuple[int, float]]]] = {}
        for point in self.gemm:
            if point.working_set_bytes:
                at = (point.working_set_bytes, point.flops_per_second)
                kinds.setdefault(point.kind, {}).setdefault(point.m, []).append(at)
        return {kind: tuple((m, best(rows[m])) for m in sorted(rows)) for kind, rows in kinds.items()}


def _require_positive(*values: float) -> None:
    if not all(math.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"a measured figure is finite and above zero: {values}")


def cpu_key(kernels: str = "") -> DeviceKey:
    """The key of this machine's processor, with the torch that is installed (found without importing it) and the
    kernels that compute beside it."""
    return DeviceKey("cpu", cpu_name(), num_cores(), ", ".join(filter(None, (_torch_version(), kernels))))


def cuda_key(device_name: str, *, cuda: str, driver: str, kernels: str = "") -> DeviceKey:
    """The key of a GPU as torch names it ("NVIDIA H200"), in a host with this many cores; `kernels` as of `cpu_key`."""
    versions = (_torch_version(), f"CUDA {cuda}", f"driver {driver}", kernels)
    return DeviceKey("cuda", device_name, num_cores(), ", ".join(filter(None, versions)))


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
    """The calibration of this device, or None if it was never measured (or another processor, torch or kernels were, or
    an older Farthing measured less).

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
        if schema in _OLD_SCHEMAS:
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FarthingError(f"the calibration file {path} is damaged", fix=_MEASURE_AGAIN) from None
    raise FarthingError(f"the calibration file {path} has schema {schema!r}, not {SCHEMA!r}", fix=_MEASURE_AGAIN)


def saved_here(folder: Path | None = None) -> list[Calibration]:
    """Every calibration of this machine's devices with the torch that is installed, of each the last, and one of
    compiled kernels before one of torch's; damaged and old files are left out."""
    found = []
    for path in sorted((folder or calibration_folder()).glob("*.json")):
        try:
            content = json.loads(path.read_bytes()[:_MAX_FILE_BYTES])
            if content.pop("schema") != SCHEMA:
                continue
            calibration: Calibration = _decode(Calibration, content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        key = calibration.device
        if key.num_cores == num_cores() and key.versions.split(",")[0] == _torch_version():
            found.append(calibration)
    known = {(one.device.kind, one.device.name): one for one in sorted(found, key=lambda one: (one.records, one.date))}
    return [one for one in known.values() if one.device.kind != "cpu" or one.device.name == cpu_name()]


def _decode(kind: Any, value: Any) -> Any:
    """`value` out of JSON as `kind`: a dataclass, a tuple of them, str, int or float. ValueError if it is not one."""
    if is_dataclass(kind):
        names = {field.name: field.type for field in fields(kind)}
        if set(value) != set(names):
            raise ValueError(f"{kind} has the fields {sorted(names)}")
        return kind(**{name: _decode(type_, value[name]) for name, type_ in names.items()})  # type: ignore[operator]
    if get_origin(kind) is UnionType:  # of something and None
        return None if value is None else _decode(get_args(kind)[0], value)
    if get_origin(kind) is tuple:
        return tuple(_decode(get_args(kind)[0], item) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise ValueError(f"{value!r} is not a {kind.__name__}")
    return value
