"""Devices in nodes: their order, their number and what the whole is called."""

import pytest

from farthing.hardware.accelerator import load_accelerator
from farthing.hardware.cluster import Cluster, Node

RTX_4090, RTX_3090 = load_accelerator("rtx-4090"), load_accelerator("rtx-3090")


def test_devices_stand_node_by_node_in_order() -> None:
    cluster = Cluster((Node((RTX_4090, RTX_3090)), Node((RTX_4090,))))
    assert cluster.devices == (RTX_4090, RTX_3090, RTX_4090)
    assert cluster.num_devices == 3


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ([(RTX_4090,)], "1x rtx-4090"),
        ([(RTX_4090,) * 8], "8x rtx-4090"),
        ([(RTX_4090,) * 4 + (RTX_3090,) * 2], "4x rtx-4090 + 2x rtx-3090"),
        ([(RTX_4090,) * 8] * 2, "2x8x rtx-4090"),
        ([(RTX_4090,) * 8, (RTX_3090,) * 8], "1x8x rtx-4090 + 1x8x rtx-3090"),
        ([(RTX_4090, RTX_3090), (RTX_4090,)], "1x rtx-4090 + 1x rtx-3090 + 1x1x rtx-4090"),
    ],
)
def test_a_cluster_is_called_by_its_counts(nodes: list[tuple[object, ...]], name: str) -> None:
    assert Cluster(tuple(Node(accelerators) for accelerators in nodes)).name == name  # type: ignore[arg-type]


def test_clusters_of_the_same_devices_are_equal() -> None:
    assert Cluster((Node((RTX_4090,)),)) == Cluster((Node((RTX_4090,)),))
    assert Cluster((Node((RTX_4090,)),)) != Cluster((Node((RTX_3090,)),))
