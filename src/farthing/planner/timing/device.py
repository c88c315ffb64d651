"""One device of a plan: its memory, and how fast the roofline may take it to be - from the catalogue or from a probe.

A catalogue entry prints peaks; what a kernel reaches of them is the entry's own measured fraction, or the fraction that
is usual for its kind of memory and class of chip. Every figure that was not measured on the entry is told in
`assumptions`. Knows no model.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from farthing.errors import UnsupportedError, UsageError
from farthing.hardware.accelerator import Accelerator
from farthing.hardware.calibration import Calibration
from farthing.hardware.defaults import default
from farthing.planner.timing.calls import Calls, calls_of
from farthing.planner.timing.roofline import Machine
from farthing.quantization.base import WeightFormat
from farthing.units import format_bytes, format_count

SHARE_HERE = {"cpu": 0.8, "cuda": 0.9}  # of this machine's free memory: others use it, too
CPU_CALL_SECONDS = 0.4e-6  # farthing probe, two cores of an Intel Xeon (Sapphire Rapids), 2026-11
CONTEXT_BYTES = 600 * 2**20
PROCESS_BYTES = 150 * 2**20  # farthing probe, the same machine
_RESERVED = {
    "cpu": "interpreter and torch, as measured on a Sapphire Rapids CPU",
    "cuda": "context and libraries, as of torch 2.11 on Hopper",
}
_BANDWIDTH_KEYS = ("copy", "local_copy", "stream", "copy_effective", "copy_a800_pcie", "copy_simple")
_CONSUMER = ("GeForce", "Radeon RX", "Arc A", "Arc B")


@dataclass(frozen=True, slots=True)
class CatalogueMachine:
    """A roofline machine: `bandwidth` in bytes/s and `rates` in FLOP/s by math, both achievable, not peak."""

    name: str
    bandwidth: float | None
    rates: Mapping[str, float]
    overhead_seconds_per_op: float

    def read_bandwidth(self, bytes_touched: int) -> float:
        """UnsupportedError if it is unknown; so below."""
        if self.bandwidth is None:
            raise UnsupportedError(
                f"the memory bandwidth of {self.name} is not known", fix="measure it: farthing probe"
            )
        return self.bandwidth

    def small_op_bandwidth(self, bytes_moved: float, bytes_touched: int) -> float:
        return self.read_bandwidth(bytes_touched)

    def flops_per_second(self, math: str, rows: float) -> float:
        return self.peak(math)

    def product_rate(self, weight_format: str, math: str, rows: float, bytes_touched: float) -> float:
        return self.peak(math)

    def attention_rate(self, math: str, queries: float, bytes_attended: float) -> float:
        return self.peak(math)

    def peak(self, math: str) -> float:
        if math not in self.rates:
            known = ", ".join(self.rates) or "nothing"
            raise UnsupportedError(f"the rate of {self.name} in {math} is not known", fix=f"known: {known}")
        return self.rates[math]

    def host_seconds(self, num_sequences: int, vocab_size: int) -> float:
        """Not known of a catalogue's entry, and nothing beside the rest."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Device:
    """`memory_bytes`: all that a process may use, `reserve_bytes` of it taken before a model is loaded.

    `kind` is what a format resolves for: "cpu", or "cuda" for every accelerator.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    memory_bytes: int
    reserve_bytes: int
    machine: Machine
    accelerator: Accelerator | None
    assumptions: tuple[str, ...]
    is_here: bool = False  # this machine, under Farthing's own engine
    records: bool = False  # its kernels were compiled for this machine, and replay whole steps
    unsupported: frozenset[str] = frozenset()  # maths without a fast path
    rate_notes: Mapping[str, str] = field(default_factory=dict)  # by math: what a forecast in it rests on

    @property
    def calls(self) -> Calls:
        """What Farthing's own engine makes of a step here and on any CPU, and a good engine on any GPU."""
        return calls_of(self.kind, records=self.records or not self.is_here)

    @property
    def captures(self) -> bool:
        """Whether the engine here keeps graphs of its steps."""
        return self.is_here and self.kind == "cuda" and self.records

    @property
    def overlaps(self) -> bool:
        """Whether the engine here makes the next step while one computes, before it knows that one's tokens."""
        return self.is_here and self.kind == "cuda"

    def widens(self, weight_format: WeightFormat) -> bool:
        """Whether the engine here has no kernel for a format, so that it widens a matrix at a time, slowly."""
        has_kernel = self.records and (self.kind == "cuda" or weight_format.math == "int8")
        return self.is_here and weight_format.quantized and not has_kernel


def catalogue_device(accelerator: Accelerator, memory_bytes: int | None) -> Device:
    """`memory_bytes`: what may be used of it. UnsupportedError if that is unknown."""
    name = accelerator.id
    if memory_bytes is None:
        raise UnsupportedError(
            f"the memory of {name} is not known: it depends on the machine", fix="say --memory 64GiB"
        )
    known = accelerator.nominal_bytes or accelerator.usable_bytes
    if known is not None and memory_bytes > known.value:
        raise UsageError(
            f"--memory {format_bytes(memory_bytes)} is more than the {format_bytes(known.value)} of {name}",
            fix="name hardware that has it",
        )
    assumptions = []
    if accelerator.usable_bytes is None and memory_bytes == accelerator.memory_bytes:
        decimal = "; GB on the label are read as 10^9 bytes, it may be 7 % more" if memory_bytes % 10**9 == 0 else ""
        assumptions.append(f"{name}: memory is the nominal size, what the driver leaves is not known{decimal}")
    bandwidth = None
    if accelerator.bandwidth is not None:
        share, why = _bandwidth_share(accelerator)
        bandwidth, peak = accelerator.bandwidth.value * share, format_count(accelerator.bandwidth.value, "B/s")
        assumptions.append(f"{name}: {share:.1%} of {peak} memory bandwidth is reached ({why})")
    rates, rate_notes = {}, {}
    for math, figure in accelerator.flops.items():
        share, why = _matmul_share(accelerator, math)
        rates[math] = figure.value * share
        peak = format_count(figure.value, "FLOP/s")
        rate_notes[math] = f"{name}: {share:.0%} of {peak} dense {math} is reached ({why})"
    on_cpu = accelerator.kind in ("cpu", "vm")
    reserve_bytes = PROCESS_BYTES if on_cpu else CONTEXT_BYTES
    latency = CPU_CALL_SECONDS if on_cpu else float(default("aic_mem_latency_s").value)
    what = "recorded call, measured on a Sapphire Rapids CPU" if on_cpu else "kernel (NVIDIA's planner, all its GPUs)"
    if not on_cpu and accelerator.vendor != "nvidia":
        what = f"kernel, as on NVIDIA's GPUs: no figure for {accelerator.vendor}"
    assumptions.append(f"{name}: {latency * 1e6:.2g} us beside its work for each {what}")
    assumptions.append(f"{name}: {format_bytes(reserve_bytes)} taken by {_RESERVED['cpu' if on_cpu else 'cuda']}")
    return Device(
        name=name,
        kind="cpu" if on_cpu else "cuda",
        memory_bytes=memory_bytes,
        reserve_bytes=reserve_bytes,
        machine=CatalogueMachine(name, bandwidth, rates, latency),
        accelerator=accelerator,
        assumptions=tuple(assumptions),
        rate_notes=rate_notes,
        unsupported=accelerator.unsupported_dtypes,
    )


def calibrated_device(calibration: Calibration, *, memory_bytes: int, accelerator: Accelerator | None) -> Device:
    """This machine as `farthing probe` measured it; `accelerator`: the catalogue entry that prices it."""
    key = calibration.device
    on_cpu = key.kind == "cpu"
    return Device(
        name=key.name,
        kind="cpu" if on_cpu else "cuda",
        memory_bytes=memory_bytes,
        reserve_bytes=calibration.process_bytes if on_cpu else calibration.device_context_bytes,
        machine=calibration,
        accelerator=accelerator,
        assumptions=(
            f"{key.name}: bandwidth, rates and latency as measured on {calibration.date[:10]} (farthing probe)",
        ),
        is_here=True,
        records=calibration.records,
    )


def _bandwidth_share(accelerator: Accelerator) -> tuple[float, str]:
    for key in _BANDWIDTH_KEYS:
        measured = accelerator.measured.get(key)
        if measured is not None and measured.fraction_of_peak is not None:
            return measured.fraction_of_peak, f"measured on it: {', '.join(measured.sources)}"
    memory_type = accelerator.memory_type or ""
    if memory_type.startswith("HBM"):
        kind = "hbm"
    elif memory_type.startswith("GDDR"):
        kind = "gddr"
    else:
        kind = "unified"
    return default(f"copy_fraction_{kind}").value, f"usual for {memory_type or 'this memory'}; not measured on it"


def _matmul_share(accelerator: Accelerator, math: str) -> tuple[float, str]:
    for key in (f"matmul_{math}", "matmul_bf16", "matmul_fp16"):
        measured = accelerator.measured.get(key)
        if measured is not None and measured.fraction_of_peak is not None:
            return measured.fraction_of_peak, f"best shape, {key} measured on it: {', '.join(measured.sources)}"
    consumer = accelerator.name.startswith(_CONSUMER)
    figure = default("matmul_fraction_consumer_bf16" if consumer else "matmul_fraction_datacentre_bf16")
    return figure.value, "best shape, usual for its class; not measured on it"
