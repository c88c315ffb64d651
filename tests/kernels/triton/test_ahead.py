"""Every kernel compiles for the chips it may meet and keeps within their shared memory, whether they are there or not.

In a process of its own: this one may have Triton's interpreter, which compiles nothing.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

import farthing
from farthing.kernels.triton import ahead
from farthing.kernels.triton.launch import CHIPS

KIB = 1024


def compiled(*flags: str) -> list[dict[str, Any]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = str(Path(farthing.__file__).parents[1])
    command = [sys.executable, "-m", ahead.__name__, *flags]
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def check(compilations: list[dict[str, Any]]) -> None:
    chips = defaultdict(set)
    for found in compilations:
        assert found["shared_bytes"] <= found["limit_bytes"], found
        chips[found["file"], found["kernel"]].add(found["chip"])
    assert {file for file, _ in chips} == set(ahead.files())
    assert all(compiled_for == {chip.capability for chip in CHIPS} for compiled_for in chips.values())


def test_shared_memory_is_that_of_the_data_sheets() -> None:
    limits = {chip.capability: chip.shared_bytes for chip in CHIPS}
    assert limits == {80: 163 * KIB, 86: 99 * KIB, 89: 99 * KIB, 90: 227 * KIB, 120: 99 * KIB}


def test_every_kernel_compiles_for_every_chip_and_keeps_within_its_shared_memory() -> None:
    check(compiled("--first"))


@pytest.mark.slow
def test_every_specialization_compiles_for_every_chip_and_keeps_within_its_shared_memory() -> None:
    check(compiled())
