"""What accelerators have in common as far as efficiency goes: classes of devices, of links and of weight formats.

Constants are fitted per class, so that a card that nobody measured is forecast like its kin. Knows no constants.
"""

from farthing.hardware.accelerator import Accelerator
from farthing.quantization.base import WeightFormat

DEVICE_CLASSES = (
    "geforce", "workstation", "ampere-hbm", "hopper", "blackwell-hbm", "volta", "cdna", "radeon", "gaudi", "neuron",
    "tpu", "apple", "arc", "cpu", "asic",
)  # fmt: skip
LINK_CLASSES = ("nvlink", "mesh", "fabric", "pcie", "staged", "network")
FORMAT_CLASSES = ("16", "fp8", "int8", "4bit")

_HBM_OF_NVIDIA = {"v100": "volta", "a100": "ampere-hbm", "a800": "ampere-hbm", "b200": "blackwell-hbm",
                  "b300": "blackwell-hbm", "gb300": "blackwell-hbm"}  # fmt: skip


def device_class(accelerator: Accelerator) -> str:
    """One of DEVICE_CLASSES."""
    vendor, series = accelerator.vendor, accelerator.id.partition("-")[0]
    on_package = (accelerator.memory_type or "").startswith("HBM")
    if accelerator.kind in ("cpu", "vm"):
        return "cpu"
    if vendor == "nvidia":
        if on_package:
            return _HBM_OF_NVIDIA.get(series, "hopper")
        return "geforce" if "GeForce" in accelerator.name else "workstation"
    if vendor == "amd":
        return "cdna" if on_package else "radeon"
    if vendor == "intel":
        return "gaudi" if accelerator.kind == "asic" else "arc"
    return {"aws": "neuron", "google": "tpu", "apple": "apple"}.get(vendor, "asic")


def link_class(accelerator: Accelerator, num_ranks: int, p2p: bool | None = None) -> str:
    """What joins so many of them in one node: one of LINK_CLASSES but "network"."""
    kind = accelerator.scale_up.kind
    joined = accelerator.scale_up.bytes_per_second is not None and ("bridge" not in kind or num_ranks == 2)
    if joined:
        return "nvlink" if kind.startswith("nvlink") else "mesh" if "mesh" in kind else "fabric"
    if p2p is None:
        p2p = accelerator.p2p is not None and accelerator.p2p.value.startswith(("yes", "pcie", "nvlink", "pair"))
    return "pcie" if p2p else "staged"


def format_class(weight_format: WeightFormat) -> str:
    """One of FORMAT_CLASSES: what a product must do with the weights before it multiplies."""
    if not weight_format.quantized:
        return "16"
    if weight_format.math == "fp8":
        return "fp8"
    return "int8" if weight_format.bits >= 6 else "4bit"
