"""Devices in nodes: what runs together, what shares a host.

Knows no name that people use (hardware/names.py) and no time of a message (planner/timing/links.py).
"""

from dataclasses import dataclass
from itertools import groupby

from farthing.hardware.accelerator import Accelerator


@dataclass(frozen=True, slots=True)
class Node:
    """The accelerators of one host, in order."""

    accelerators: tuple[Accelerator, ...]

    def __post_init__(self) -> None:
        assert self.accelerators, "a node has at least one device"

    @property
    def name(self) -> str:
        """ "8x rtx-4090"; with several kinds "4x rtx-4090 + 4x rtx-3090"."""
        runs = groupby(accelerator.id for accelerator in self.accelerators)
        return " + ".join(f"{len(list(run))}x {id}" for id, run in runs)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes that a network joins."""

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        assert self.nodes, "a cluster has at least one node"

    @property
    def devices(self) -> tuple[Accelerator, ...]:
        """Every device, node by node."""
        return tuple(accelerator for node in self.nodes for accelerator in node.accelerators)

    @property
    def num_devices(self) -> int:
        return sum(len(node.accelerators) for node in self.nodes)

    @property
    def name(self) -> str:
        """As parse_hardware reads it: "8x rtx-4090"; "2x8x h100-sxm" are two nodes of eight."""
        if len(self.nodes) == 1:
            return self.nodes[0].name
        groups = ((name, len(list(same))) for name, same in groupby(node.name for node in self.nodes))
        return " + ".join(name if " + " in name else f"{num_nodes}x{name}" for name, num_nodes in groups)
