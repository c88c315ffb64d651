"""Every kernel of this folder compiled ahead of time, for chips that need not be there.

`python -m farthing.kernels.triton.ahead` prints one JSON object a compilation; with `--first`, of each kernel only its
first example on each chip. Not under TRITON_INTERPRET=1, where there is nothing to compile. Knows no kernel: a file
that has `examples` is compiled (launch.py says what these are).
"""

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from farthing import discover
from farthing.kernels.triton.launch import CHIPS, FP_FUSION, Chip, Launch, Noted

PACKAGE = "farthing.kernels.triton"
_TYPES = {
    torch.float64: "fp64", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv", torch.bool: "i1",
    torch.int8: "i8", torch.uint8: "u8", torch.int32: "i32", torch.int64: "i64",
}  # fmt: skip
Signature = dict[str, str]
Attributes = dict[tuple[int], list[list[object]]]


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


def compile_file(name: str, chip: Chip, *, first: bool = False) -> Iterator[Compiled]:
    """Each specialization of the file's kernels, once; or the first of each kernel."""
    noted = Noted(chip)
    discover.load(PACKAGE, name).examples(noted)
    done = set()
    for launch in noted.launches:
        specialization = _specialize(launch)
        key = launch.kernel.__name__ if first else (launch.kernel.__name__, str(specialization), launch.num_warps)
        if key not in done:
            done.add(key)
            yield _compile(name, launch, chip, *specialization)


def _compile(
    name: str, launch: Launch, chip: Chip, signature: Signature, constants: dict[str, Any], attributes: Attributes
) -> Compiled:
    source = ASTSource(launch.kernel, signature, constants, attributes)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, "enable_fp_fusion": FP_FUSION}
    binary = triton.compile(source, target=GPUTarget("cuda", chip.capability, 32), options=options)
    types = " ".join(kind for kind in signature.values() if kind != "constexpr")
    values = " ".join(f"{key}={value}" for key, value in launch.constants.items())
    text = f"{types} {values} warps={launch.num_warps} stages={launch.num_stages}"
    return Compiled(name, launch.kernel.__name__, chip.capability, text, binary.metadata.shared, chip.shared_bytes)


def _specialize(launch: Launch) -> tuple[Signature, dict[str, Any], Attributes]:
    """Signature, constants and attributes as Triton would find them at the launch: None and 1 become constants, and
    what 16 divides is said to be so (torch aligns memory to more); not where the kernel says do_not_specialize."""
    signature: Signature = {}
    constants: dict[str, Any] = {}
    attributes: Attributes = {}
    operands = dict(zip(launch.kernel.arg_names, launch.operands, strict=False)) | dict(launch.constants)
    for index, (argument, parameter) in enumerate(zip(launch.kernel.arg_names, launch.kernel.params, strict=True)):
        value, varies = operands[argument], parameter.do_not_specialize
        if argument in launch.constants or value is None or (type(value) is int and value == 1 and not varies):
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
        if isinstance(value, torch.Tensor) or (type(value) is int and value % 16 == 0 and not varies):
            attributes[(index,)] = [["tt.divisibility", 16]]
    return signature, constants, attributes


def _all_of(name: str, chip: Chip, first: bool) -> list[Compiled]:
    return list(compile_file(name, chip, first=first))


def main() -> None:
    work = list(product(files(), CHIPS, ["--first" in sys.argv[1:]]))
    with ProcessPoolExecutor() as pool:
        for compilations in pool.map(_all_of, *zip(*work, strict=True)):
            for compiled in compilations:
                sys.stdout.write(f"{json.dumps(asdict(compiled))}\n")


if __name__ == "__main__":
    main()
