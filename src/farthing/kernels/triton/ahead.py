"""Every kernel of this folder compiled ahead of time, for chips that need not be there.

`python -m farthing.kernels.triton.ahead` prints one JSON object a compilation. Not under TRITON_INTERPRET=1, where
there is nothing to compile. Knows no kernel: a file that has `examples` is compiled (launch.py says what these are).
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from farthing import discover
from farthing.kernels.triton.launch import CHIPS, FP_FUSION, Chip, Launch, Noted

PACKAGE = "farthing.kernels.triton"
_TYPES = {
    torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float8_e4m3fn: "fp8e4nv",
    torch.int8: "i8", torch.uint8: "u8", torch.int32: "i32", torch.int64: "i64", torch.bool: "i1",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compiled:
    """`shared_bytes` of `limit_bytes` that a block takes on the chip."""

    file: str
    kernel: str
    chip: int
    specialization: str
    shared_bytes: int
    limit_bytes: int


def files() -> tuple[str, ...]:
    """Names of the files of this folder that have kernels."""
    return tuple(name for name in discover.names(PACKAGE) if hasattr(discover.load(PACKAGE, name), "examples"))


def compile_file(name: str, chips: tuple[Chip, ...] = CHIPS) -> Iterator[Compiled]:
    """Each specialization of the file's kernels on each chip, once."""
    for chip in chips:
        noted, done = Noted(chip), set()
        discover.load(PACKAGE, name).examples(noted)
        for launch in noted.launches:
            compiled = _compile(name, launch, chip)
            if compiled is not None and compiled not in done:
                done.add(compiled)
                yield compiled


def _compile(name: str, launch: Launch, chip: Chip) -> Compiled | None:
    signature, constants, attributes = _specialize(launch)
    source = ASTSource(launch.kernel, signature, constants, attributes)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": FP_FUSION}
    binary = triton.compile(source, target=GPUTarget("cuda", chip.capability, 32), options=options)
    types = " ".join(kind for kind in signature.values() if kind != "constexpr")
    values = " ".join(f"{key}={value}" for key, value in launch.constants.items())
    text = f"{types} {values} warps={launch.num_warps} stages={launch.num_stages}"
    return Compiled(name, launch.kernel.__name__, chip.capability, text, binary.metadata.shared, chip.shared_bytes)


def _specialize(launch: Launch) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[object]]]]:
    """Signature, constants and attributes as Triton would find them at the launch: None and 1 become constants, and
    what 16 divides is said to be so (torch aligns memory to more)."""
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[object]]] = {}
    operands = dict(zip(launch.kernel.arg_names, launch.operands, strict=False)) | dict(launch.constants)
    for index, argument in enumerate(launch.kernel.arg_names):
        value = operands[argument]
        if argument in launch.constants or value is None or (type(value) is int and value == 1):
            signature[argument], constants[argument] = "constexpr", value
            continue
        if isinstance(value, torch.Tensor):
            signature[argument] = f"*{_TYPES[value.dtype]}"
        elif isinstance(value, bool):
            signature[argument] = "i1"
        elif isinstance(value, int):
            signature[argument] = "i32" if -(2**31) <= value < 2**31 else "i64"
        else:
            signature[argument] = "fp32"
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(index,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _all_of(name: str) -> list[Compiled]:
    return list(compile_file(name))


def main() -> None:
    with ProcessPoolExecutor() as pool:
        for compilations in pool.map(_all_of, files()):
            for compiled in compilations:
                sys.stdout.write(f"{json.dumps(asdict(compiled))}\n")


if __name__ == "__main__":
    main()
