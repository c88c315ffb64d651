"""What a search looks at: which accelerators, in which formats, divided how, under which engine.

Knows no load, no seconds and no money.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property

from farthing.errors import FarthingError, UnsupportedError, UsageError
from farthing.hardware.accelerator import Accelerator, accelerator_ids, load_accelerator
from farthing.hardware.names import matching_ids, parse_hardware
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.engines.engine_profile import GENERIC, find_engine
from farthing.planner.formats import candidate_formats, precision_of
from farthing.planner.request import PlanRequest
from farthing.planner.search.runs_with import runs_with
from farthing.planner.timing.device import Device, catalogue_device
from farthing.planner.timing.step_times import NODE_DEVICES, StepTimes, least_memory_bytes, step_times
from farthing.quantization.base import resolve

ANY = "any"
HERE = "here"
_MACHINES = ("cpu", "vm", "soc", "apu")  # one device each: the network would join them
_SHAPES = tuple((tp, pp) for tp in (1, 2, 4, 8) for pp in (1, 2, 4, 8) if tp * pp <= NODE_DEVICES)
_OVER_NODES = ((8, 2), (8, 4), (4, 4), (4, 8), (1, 16))  # where a node's devices are too small together


@dataclass(frozen=True, slots=True)
class Target:
    """An accelerator, and how many of it: None is any number."""

    accelerator: Accelerator
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What narrows a search. `min_quality`: of the full score, 0 to 1; `max_dollars` a month; `max_watts` of the site.

    `engine`: that alone; None: any that the accelerator has. `include_all`: also what can't be had or driven.
    """

    format: str = "auto"
    kv_format: str = "auto"
    tp: int | None = None
    pp: int | None = None
    engine: str | None = None
    min_quality: float | None = None
    max_devices: int = 64
    max_dollars: float | None = None
    max_watts: float | None = None
    network: float = 1.25e9
    include_all: bool = False


@dataclass(frozen=True, slots=True)
class Configuration:
    """One replica: `tp` x `pp` devices. `engine`: whose profile forecasts it; `runs_with`: all that run it."""

    accelerator: Accelerator
    precision: Precision
    tp: int
    pp: int
    engine: str
    runs_with: tuple[str, ...]

    @property
    def num_devices(self) -> int:
        return self.tp * self.pp

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        precision = self.precision
        return self.accelerator.id, precision.format.name, precision.kv_dtype, self.tp, self.pp

    @property
    def split(self) -> str:
        parts = [f"tp {self.tp}"] * (self.tp > 1) + [f"pp {self.pp}"] * (self.pp > 1)
        return " x ".join(parts) or "whole"


def targets_of(on: str) -> tuple[Target, ...]:
    """`any`, or a list like "4090,h100,8x3090": a bare name is any number of each that it can mean.

    UsageError for what the catalogue does not have.
    """
    if on.strip().lower() == ANY:
        return tuple(Target(load_accelerator(id)) for id in accelerator_ids())
    if on.strip().lower() == HERE:
        raise UsageError(
            "--on here is one machine, and a search is over several", fix="write any, or a list like 4090,h100"
        )
    found: dict[tuple[str, int | None], Target] = {}
    for item in filter(None, (part.strip() for part in on.split(","))):
        for target in _targets(item):
            found[target.accelerator.id, target.count] = target
    if not found:
        raise UsageError("--on names no hardware", fix="write any, or a list like 4090,h100-sxm")
    return tuple(found.values())


def _targets(item: str) -> Iterator[Target]:
    try:
        cluster = parse_hardware(item)
    except UsageError:
        for id in matching_ids(item):  # "h100": each of its kinds
            yield Target(load_accelerator(id))
        return
    devices = cluster.devices
    if len({device.id for device in devices}) > 1:
        raise UsageError(f"--on {item!r:.60} mixes devices", fix="a search takes one kind a replica: name them apart")
    yield Target(devices[0], len(devices) if item.strip()[0].isdigit() and len(devices) > 1 else None)


def shapes(wishes: Wishes) -> tuple[tuple[int, int], ...]:
    """(tp, pp), few devices first; those over several nodes last. UsageError where the wishes leave none."""
    if wishes.tp is not None and wishes.pp is not None:
        return ((wishes.tp, wishes.pp),)
    found = [
        (tp, pp)
        for tp, pp in (*_SHAPES, *_OVER_NODES)
        if wishes.tp in (None, tp) and wishes.pp in (None, pp) and tp * pp <= wishes.max_devices
    ]
    if not found:
        said = " ".join(f"--{name} {count}" for name, count in (("tp", wishes.tp), ("pp", wishes.pp)) if count)
        raise UsageError(
            f"a search divides a replica by 1, 2, 4 or 8, in at most {wishes.max_devices} devices: there is no {said}",
            fix="leave it out, or say both --tp and --pp",
        )
    return tuple(sorted(found, key=lambda shape: (shape[0] * shape[1], shape[1])))


def fits_shape(accelerator: Accelerator, tp: int, pp: int) -> bool:
    return tp * pp == 1 or accelerator.kind not in _MACHINES


@cache
def device_of(accelerator: Accelerator) -> Device | None:
    """None where its memory is not known."""
    try:
        return catalogue_device(accelerator, accelerator.memory_bytes)
    except FarthingError:
        return None


def precisions(accelerator: Accelerator, config: ConfigReader, wishes: Wishes) -> tuple[Precision, ...]:
    """Those that it multiplies fast, widest first. UnsupportedError for a format that it has no path for."""
    device = device_of(accelerator)
    if device is None:
        raise UnsupportedError(f"the memory of {accelerator.id} is not known", fix="name other hardware")
    request = PlanRequest(format=wishes.format)
    formats = list(candidate_formats(request, config, [device]))
    if wishes.format == "auto" and accelerator.kind == "gpu" and "int8" in accelerator.flops:
        formats.append(resolve("w8a8", "cuda"))
    found: dict[tuple[str, str], Precision] = {}
    for weight_format in formats:
        for kv_format in _kv_formats(accelerator, wishes):
            precision = precision_of(replace(request, kv_format=kv_format), weight_format, config, [device])
            found.setdefault((precision.format.name, precision.kv_dtype), precision)
    return tuple(found.values())


def _kv_formats(accelerator: Accelerator, wishes: Wishes) -> Sequence[str]:
    if wishes.kv_format != "auto":
        return (wishes.kv_format,)
    return ("auto", "fp8") if "fp8" in accelerator.flops else ("auto",)


def engines_of(
    accelerator: Accelerator, model: ModelSpec, tp: int, pp: int, wishes: Wishes
) -> tuple[str, tuple[str, ...]] | None:
    """(whose profile, all that run it); None where none does and only what runs is asked for."""
    found = runs_with(accelerator, model, tp, pp)
    if wishes.engine is not None:
        found = tuple(name for name in found if name == wishes.engine)
    if found:
        return found[0], found
    return (wishes.engine or GENERIC, ()) if wishes.include_all else None


class _HashedSpec(ModelSpec):
    """A description that is looked up thousands of times: its thousands of values are hashed once."""

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()


class Descriptions:
    """The model in each precision, described once; each configuration, priced once."""

    def __init__(self, config: ConfigReader) -> None:
        self.config = config
        self._specs: dict[Precision, ModelSpec] = {}
        self._precisions: dict[tuple[object, ...], tuple[Precision, ...]] = {}
        self._divisible: dict[tuple[int, int], bool] = {}
        self._times: dict[tuple[object, ...], tuple[Configuration, StepTimes | None]] = {}  # keeps what ids are of

    def spec(self, precision: Precision) -> ModelSpec:
        if precision not in self._specs:
            spec = describe(self.config, precision)
            self._specs[precision] = _HashedSpec(**{field.name: getattr(spec, field.name) for field in fields(spec)})
        return self._specs[precision]

    def precisions(self, accelerator: Accelerator, wishes: Wishes) -> tuple[Precision, ...]:
        """As precisions(), once for accelerators that multiply in the same formats."""
        key = (accelerator.kind, frozenset(accelerator.flops), accelerator.unsupported_dtypes, wishes)
        if device_of(accelerator) is None or key not in self._precisions:
            self._precisions[key] = precisions(accelerator, self.config, wishes)
        return self._precisions[key]

    def specs(self) -> tuple[ModelSpec, ...]:
        """All that were described."""
        return tuple(self._specs.values())

    def is_divisible(self, precision: Precision, tp: int, pp: int) -> bool:
        if (tp, pp) not in self._divisible:
            try:
                parallelize(self.spec(precision), tp, pp)
                self._divisible[tp, pp] = True
            except UnsupportedError:
                self._divisible[tp, pp] = False
        return self._divisible[tp, pp]

    def check_divisible(self, precisions: Iterable[Precision], shapes: Sequence[tuple[int, int]]) -> None:
        """UnsupportedError, naming the size, where none of these divides the model."""
        for precision in precisions:
            if not any(self.is_divisible(precision, tp, pp) for tp, pp in shapes):
                parallelize(self.spec(precision), *shapes[0])

    def has_room(self, configuration: Configuration) -> bool:
        """By the bound: whether its weights can fit at all."""
        memory = configuration.accelerator.memory_bytes
        spec, engine = self.spec(configuration.precision), find_engine(configuration.engine)
        return memory is not None and least_memory_bytes(spec, engine, configuration.num_devices) <= memory

    def times(self, configuration: Configuration, network: float) -> StepTimes | None:
        """None where a bandwidth or rate is not known."""
        key = (*configuration.key, configuration.engine, id(configuration.accelerator), network)
        if key not in self._times:
            self._times[key] = (configuration, self._priced(configuration, network))
        return self._times[key][1]

    def _priced(self, configuration: Configuration, network: float) -> StepTimes | None:
        spec, engine = self.spec(configuration.precision), find_engine(configuration.engine)
        try:
            return step_times(spec, configuration.accelerator, configuration.tp, configuration.pp, engine, network)
        except FarthingError:
            return None
