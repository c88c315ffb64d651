"""What a claim's hardware can do at most for its model: bytes/s, FLOP/s, bytes of memory, seconds of a step.

Nominal figures at 100 %, with the margins for what chips are known to exceed: caches that keep a part of the weights
and clocks above the rated boost. Knows no verdict: planner/claims/factcheck.py compares.
"""

from dataclasses import dataclass

from farthing.hardware.accelerator import Accelerator
from farthing.planner.claims.claim import Claim
from farthing.planner.claims.claimed_model import ClaimedModel
from farthing.planner.claims.weight_bits import UNNAMED, WeightBits

# Matrix products above the rated peak: 5090 1.21, 3090 1.10, 4090 1.08 (`measured` in hardware/catalog).
BOOST = 1.25
# Where l2_bytes is unknown, and for AMD's parts, of which it leaves out the memory-side cache (up to 256 MiB).
LARGE_CACHE_BYTES = 256 * 2**20
# What helps where weights do not fit and the claim names no host memory: a desktop's, two channels of DDR5-6400.
DESKTOP_BYTES_PER_SECOND = 102.4e9
# Where it names host memory: the fastest of the catalogue (xeon-6980p, 12 channels of MRDIMM-8800).
HOST_BYTES_PER_SECOND = 844.8e9
# A claim says nothing of how keys and values are stored: 4 bits is the least that engines offer.
KV_BYTES_PER_VALUE = 0.5

_BY_OPERAND_BITS = {16: ("fp16", "fp16_acc16", "bf16"), 8: ("fp8", "fp8_acc16", "int8"), 4: ("int4", "fp4")}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of all devices of the claim together; None is unknown. `held_bytes`: weights in the claimed format, at least.

    `host_bytes_per_second`: how fast weights are read that do not fit the devices.
    """

    model: ClaimedModel
    weights: WeightBits
    held_bytes: float
    memory_bytes: float | None
    bandwidth: float | None
    cache_bytes: float
    peak_flops: float | None
    host_bytes_per_second: float

    @property
    def spilled_share(self) -> float:
        """The part of the weights that lies outside the devices."""
        if self.memory_bytes is None:
            return 0.0
        return max(0.0, 1 - self.memory_bytes / self.held_bytes)

    @property
    def step_weight_bytes(self) -> float:
        return self.model.decode_parameters * self.weights.least / 8

    def kv_bytes(self, num_sequences: int, context: float) -> float:
        return num_sequences * context * self.model.kv_values_per_token * KV_BYTES_PER_VALUE

    def step_bytes(self, num_sequences: int = 1, context: float = 0) -> float:
        """What a decode step moves at least: weights and keys and values, less what caches may keep."""
        return max(0.0, self.step_weight_bytes + self.kv_bytes(num_sequences, context) - self.cache_bytes)

    def read_seconds(self, num_bytes: float) -> float | None:
        if self.bandwidth is None:
            return None
        spilled = num_bytes * self.spilled_share
        return (num_bytes - spilled) / self.bandwidth + spilled / self.host_bytes_per_second

    def room_for_sequences(self, context: float) -> int | None:
        """How many sequences of this context fit beside the weights; None: nothing bounds them."""
        each = self.kv_bytes(1, context)
        if not each or self.memory_bytes is None or self.spilled_share:
            return None
        return max(1, int((self.memory_bytes - self.held_bytes) / each))


def limits_of(claim: Claim, model: ClaimedModel) -> Limits:
    """`model` is the claim's."""
    weights = claim.weights or UNNAMED
    devices = claim.devices
    links = sum(device.host.bytes_per_second.value for device in devices if device.host.bytes_per_second)
    return Limits(
        model=model,
        weights=weights,
        held_bytes=model.num_parameters * weights.least / 8,
        memory_bytes=_total([memory_bytes(device) for device in devices]),
        bandwidth=_total([device.bandwidth.value if device.bandwidth else None for device in devices]),
        cache_bytes=sum(cache_bytes(device) for device in devices),
        peak_flops=_total([peak_flops(device, weights.operand_bits) for device in devices]),
        host_bytes_per_second=HOST_BYTES_PER_SECOND if claim.offload else max(DESKTOP_BYTES_PER_SECOND, links),
    )


def memory_bytes(device: Accelerator) -> float | None:
    """Usable bytes if the driver's count is known, else the nominal; a nominal GB that may mean GiB is read as GiB."""
    if device.usable_bytes:
        return device.usable_bytes.value
    if device.nominal_bytes is None:
        return None
    nominal = device.nominal_bytes.value
    return nominal if nominal % 2**20 == 0 else nominal / 1e9 * 2**30


def cache_bytes(device: Accelerator) -> int:
    known = device.l2_bytes.value if device.l2_bytes else LARGE_CACHE_BYTES
    return max(known, LARGE_CACHE_BYTES) if device.vendor == "amd" else known


def peak_flops(device: Accelerator, operand_bits: int) -> float | None:
    """Rated FLOP/s of the fastest math that the device may use with operands of these bits; None if unknown.

    Where the rate of narrower operands is unknown, twice that of operands twice as wide is taken.
    """
    peak: float | None = None
    for bits, dtypes in _BY_OPERAND_BITS.items():
        if bits < min(operand_bits, 16):
            break
        rates = [device.flops[dtype].value for dtype in dtypes if dtype in device.flops]
        if rates:
            peak = max(*rates, peak or 0.0)
        elif peak is not None and not device.unsupported_dtypes.issuperset(dtypes):
            peak *= 2
    return peak


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if values and len(known) == len(values) else None
