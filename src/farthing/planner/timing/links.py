"""What devices say to each other, in seconds: the link between ranks, and collectives over it.

`ops/comm` counts payloads; the factor from payload to wire is here. A link is a measured figure of the entry where
there is one, else its nominal rate times the fraction that is usual for its kind. Knows no model.
Source of the ring factors: Thakur et al. 2005 (collectives of MPICH).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from farthing.hardware.accelerator import Accelerator, Link, Measured
from farthing.hardware.defaults import default
from farthing.ops.comm import Comm
from farthing.planner.engines.engine_profile import EngineProfile
from farthing.planner.engines.engine_replica import nominal_link
from farthing.planner.timing.device_class import link_class
from farthing.planner.timing.step_work import wire_factor
from farthing.units import format_count

STAGED_MANY_BYTES_PER_SECOND = 5e9  # all-reduce of more than two cards through host memory: a guess, no figure found
_PCIE_LATENCY_SECONDS = 42e-6  # 8-byte all-reduce of 8 RTX 4090: NVIDIA/nccl issue 1530
_NETWORK_LATENCY_SECONDS = 30e-6  # assumed: a DGX Spark pair takes 30 to 35 us over 200 Gb/s Ethernet
_JOINED_BY_NVLINK = ("h100", "a100", "b200")  # whose figures are not those of their PCIe versions
_SMALL_US_BY_PREFIX = {
    "h100": "h100",
    "h200": "h100",
    "h800": "h100",
    "a100": "a100",
    "a800": "a100",
    "b200": "b200",
    "rtx-pro-6000": "rtx_pro_6000",
    "l40s": "l40s",
    "arc-pro-b60": "b60",
}


@dataclass(frozen=True, slots=True)
class RankLink:
    """`bytes_per_second`: one direction (bus bandwidth of a ring in a collective), achievable. `note`: where from."""

    bytes_per_second: float
    latency_seconds: float
    note: str

    def seconds(self, comm: Comm, payload_bytes: int) -> float:
        return self.latency_seconds + wire_factor(comm) * payload_bytes / self.bytes_per_second


def engine_link(accelerator: Accelerator, num_ranks: int, engine: EngineProfile, p2p: bool | None = None) -> RankLink:
    """What an engine reaches between so many devices of one node, or, for 2, from one stage to the next."""
    kind = link_class(accelerator, num_ranks, p2p)
    reached = engine.link(kind)
    rate = nominal_link(accelerator, kind, num_ranks) * reached.share
    latency = reached.seconds * math.log2(num_ranks)
    note = f"{accelerator.id}: {engine.name} reaches {reached.share:.0%} of {kind}, {latency * 1e6:.0f} us a message"
    return RankLink(rate, latency, f"{note} (fitted: benchmarks/forecasts.md)")


def tensor_link(ranks: Sequence[Accelerator], *, p2p: bool | None, one_node: bool, network: float) -> RankLink:
    """The link under the collectives of a tensor-parallel group of at least two.

    `p2p`: True for a patched driver, False for host staging, None for what the catalogue says.
    """
    if not one_node:
        return _network_link(network)
    return _slowest([_tensor_link_of(accelerator, len(ranks), p2p) for accelerator in _kinds(ranks)])


def stage_link(
    first: Accelerator, second: Accelerator, num_ranks: int, *, p2p: bool | None, one_node: bool, network: float
) -> RankLink:
    """The link that hands hidden states from one pipeline stage to the next, in a replica of `num_ranks`."""
    if not one_node:
        return _network_link(network)
    return _slowest([_point_to_point(accelerator, num_ranks, p2p) for accelerator in _kinds((first, second))])


def _kinds(accelerators: Sequence[Accelerator]) -> list[Accelerator]:
    """Each kind once. Different kinds have no link of their own in common: what is left is the host's."""
    kinds = list({accelerator.id: accelerator for accelerator in accelerators}.values())
    return kinds if len(kinds) == 1 else [replace(kind, scale_up=Link("none"), measured={}) for kind in kinds]


def _slowest(links: Sequence[RankLink]) -> RankLink:
    """The narrowest link, with the longest latency of them all."""
    latency_seconds = max(link.latency_seconds for link in links)
    return replace(min(links, key=lambda link: link.bytes_per_second), latency_seconds=latency_seconds)


def _tensor_link_of(accelerator: Accelerator, num_ranks: int, p2p: bool | None) -> RankLink:
    """What was measured of all-reduce on about as many of them, else the link's nominal rate and usual share."""
    joined, direct = _scale_up(accelerator, num_ranks), _direct(accelerator, p2p)
    latency, each = _small_latency(accelerator, joined)
    name = accelerator.id
    if joined or direct:
        for n, measured in _measured_all_reduce(accelerator, num_ranks, patched=not _direct(accelerator, None)):
            is_mesh = "mesh" in accelerator.scale_up.kind  # where each has a link to each of the others
            bandwidth = measured.value * ((num_ranks - 1) / (n - 1) if is_mesh else 1)
            note = f"{name}: all-reduce at {format_count(bandwidth, 'B/s')} bus bandwidth, measured on {n} of them"
            if bandwidth != measured.value:
                rates = [format_count(rate, "B/s") for rate in (bandwidth, measured.value)]
                note = f"{name}: all-reduce at {rates[0]}, by links of a mesh of which {n} devices reach {rates[1]}"
            doubt = f"; {measured.note}" if measured.note else ""
            return RankLink(bandwidth, latency, f"{note} ({', '.join(measured.sources)}{doubt}); {each}")
    if joined:
        assert accelerator.scale_up.bytes_per_second is not None
        share = default("nvlink_fraction_allreduce_ring").value
        bandwidth = accelerator.scale_up.bytes_per_second.value * share
        note = f"{name}: all-reduce over {accelerator.scale_up.kind} at {share:.0%} of its nominal rate"
        return RankLink(bandwidth, latency, f"{note}, {format_count(bandwidth, 'B/s')}; {each}")
    link = _point_to_point(accelerator, num_ranks, p2p)
    if not direct and num_ranks > 2:
        bandwidth = min(STAGED_MANY_BYTES_PER_SECOND, link.bytes_per_second)
        note = (
            f"{name}: no P2P, so all-reduce of {num_ranks} goes through host memory at {format_count(bandwidth, 'B/s')}"
        )
        return RankLink(
            bandwidth, latency, f"{note} (a guess: no figure was found; --p2p for a patched driver); {each}"
        )
    return RankLink(link.bytes_per_second, latency, f"{link.note}; all-reduce {each}")


def _measured_all_reduce(accelerator: Accelerator, num_ranks: int, *, patched: bool) -> Iterator[tuple[int, Measured]]:
    """(devices, figure), the nearest number of devices first; of cards that need a patched driver, with it."""
    for n in sorted((2, 4, 6, 8), key=lambda n: abs(n - num_ranks)):
        for suffix in ("_patched",) if patched else ("", "_ring"):
            measured = accelerator.measured.get(f"allreduce_busbw_{n}gpu{suffix}")
            if measured is not None:
                yield n, measured


def _point_to_point(accelerator: Accelerator, num_ranks: int, p2p: bool | None) -> RankLink:
    """From one of `num_ranks` devices to the next."""
    latency = default("aic_p2p_latency_s").value
    if _scale_up(accelerator, num_ranks):
        assert accelerator.scale_up.bytes_per_second is not None
        share = default("nvlink_fraction_allreduce_ring").value
        rate = accelerator.scale_up.bytes_per_second.value * share
        return RankLink(rate, latency, f"{accelerator.id}: {accelerator.scale_up.kind} at {share:.0%} of nominal")
    nominal = accelerator.host.bytes_per_second
    rate = nominal.value if nominal is not None else default("pcie_gen4_x16").value
    what = accelerator.host.kind if nominal is not None else "an assumed PCIe 4 x16"
    direct = _direct(accelerator, p2p)
    share = default("pcie_fraction_p2p" if direct else "pcie_fraction_host_staged").value
    way = "P2P" if direct else "through host memory (no P2P)"
    note = f"{accelerator.id}: {what} {way} at {share:.0%} of nominal, {format_count(rate * share, 'B/s')}"
    if accelerator.scale_up.kind != "none" and accelerator.scale_up.bytes_per_second is None:
        note += f" (its {accelerator.scale_up.kind} is not counted: rate unknown)"
    return RankLink(rate * share, latency, note)


def _scale_up(accelerator: Accelerator, num_ranks: int) -> bool:
    """Whether that many of them are joined by their own fast link. A bridge joins two."""
    if accelerator.scale_up.bytes_per_second is None:
        return False
    return num_ranks == 2 or "bridge" not in accelerator.scale_up.kind


def _direct(accelerator: Accelerator, p2p: bool | None) -> bool:
    if p2p is not None:
        return p2p
    known = accelerator.p2p
    return known is not None and known.value.startswith(("yes", "pcie", "nvlink", "pair"))


def _small_latency(accelerator: Accelerator, joined: bool) -> tuple[float, str]:
    """Seconds of an all-reduce of a few KB, and whose figure it is: its own, else that of a part linked alike."""
    table = default("allreduce_small_us_8gpu").value
    own = next((key for prefix, key in _SMALL_US_BY_PREFIX.items() if accelerator.id.startswith(prefix)), None)
    if not joined and (own is None or own in _JOINED_BY_NVLINK):
        return _PCIE_LATENCY_SECONDS, f"{_PCIE_LATENCY_SECONDS * 1e6:.0f} us each, as measured on 8 rtx-4090"
    like = own or ("h100" if accelerator.scale_up.kind.startswith("nvlink") else "b200")
    return float(table[like]) * 1e-6, f"{table[like]} us each, as measured on 8 {like.replace('_', '-')}"


def _network_link(network: float) -> RankLink:
    """Between nodes; a ring crosses each node's network once, whatever the number of its devices."""
    note = f"network between nodes: {format_count(network, 'B/s')} a node, as --network says or by default"
    latency = f"{_NETWORK_LATENCY_SECONDS * 1e6:.0f} us"
    return RankLink(network, _NETWORK_LATENCY_SECONDS, f"{note}, {latency} a message (assumed)")
