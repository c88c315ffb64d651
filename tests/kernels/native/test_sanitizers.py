"""The kernels under the sanitizers of the compiler: no access out of bounds, no undefined behaviour.

The compiler of these tests is a script first on PATH that adds the sanitizers. What is run are the tests beside this
file, in a process that has the sanitizer's library loaded before everything else, so that the memory of torch is
guarded, too. Accesses that are one instruction with a mask are not seen: plain C++ has none.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import farthing

TESTS = Path(__file__).parents[2]
SWEEP = [f"kernels/native/test_{name}.py" for name in ("elementwise", "linear", "attention")]
QUICK = "portable and not (products_are_those or bit_equal or any_size or row_of_40 or decodes_to or far_beyond or 70)"
READ_BEHIND_THE_END = """
import torch
from native_kernels import native
native("portable").operator("index", (torch.ones(2, 8), [torch.tensor([2])]))
"""


def library(name: str) -> str:
    """The path of a library of g++; a bare name where there is none."""
    command = ["g++", f"-print-file-name=lib{name}.so"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def there_are_sanitizers() -> None:
    if shutil.which("g++") is None or not Path(library("asan")).is_absolute():
        pytest.skip("there is no g++ with its sanitizers")


def run(folder: Path, optimization: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, and kernels that are compiled with the sanitizers; `folder` keeps them."""
    compiler = folder / "bin/c++"
    compiler.parent.mkdir(exist_ok=True)
    flags = f"{optimization} -g1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    compiler.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec {shutil.which("g++")} "$@" {flags}\n')
    compiler.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{compiler.parent}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": f"{Path(farthing.__file__).parents[1]}:{TESTS}",
        "LD_PRELOAD": f"{library('asan')}:{library('stdc++')}",
        "ASAN_OPTIONS": "detect_leaks=0",  # those of the interpreter
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, check=False)


def assert_clean(folder: Path, optimization: str, *arguments: str) -> None:
    """Of a run of pytest."""
    done = run(folder, optimization, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *arguments)
    assert done.returncode == 0 and " passed" in done.stdout, f"{done.stdout[-3000:]}\n{done.stderr[-5000:]}"


def test_a_short_sweep_of_the_kernels_is_clean_and_a_read_out_of_bounds_is_found(tmp_path: Path) -> None:
    assert_clean(tmp_path, "-O0", "-k", QUICK, *(str(TESTS / path) for path in SWEEP))
    done = run(tmp_path, "-O0", "-c", READ_BEHIND_THE_END)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", [*SWEEP, "runtime/test_graph.py"])
def test_every_test_of_the_kernels_is_clean(path: str, tmp_path: Path) -> None:
    assert_clean(tmp_path, "-O1", str(TESTS / path))
