"""Cost: what an operation costs on any machine - FLOPs by math, bytes moved, bytes handed to collectives.

A value that adds and scales. Knows no hardware: planner/timing/roofline.py turns a Cost into seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cost:
    """`flops` by the name of the math that the hardware must do ("fp32", "bf16", "int8", ...): dense, 2 per MAC.

    `read_bytes` and `write_bytes` are memory traffic with nothing cached between ops; `comm_bytes` is the payload that
    one rank hands to a collective or a send (wire factors belong to hardware/).
    """

    flops: Mapping[str, int] = field(default_factory=dict)
    read_bytes: int = 0
    write_bytes: int = 0
    comm_bytes: int = 0

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())

    @property
    def moved_bytes(self) -> int:
        return self.read_bytes + self.write_bytes

    def __add__(self, other: "Cost") -> "Cost":
        flops = dict(self.flops)
        for math, count in other.flops.items():
            flops[math] = flops.get(math, 0) + count
        return Cost(
            flops,
            self.read_bytes + other.read_bytes,
            self.write_bytes + other.write_bytes,
            self.comm_bytes + other.comm_bytes,
        )

    def __mul__(self, factor: int) -> "Cost":
        return Cost(
            {math: count * factor for math, count in self.flops.items()},
            self.read_bytes * factor,
            self.write_bytes * factor,
            self.comm_bytes * factor,
        )
