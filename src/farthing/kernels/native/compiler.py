"""The kernels compiled: once per processor kind and compiler, into the user's cache, by the C++ compiler of the system.

What is compiled together stands in src/; its text, the flags and the compiler's version make the name of the result, so
an update never meets an old library. Knows no tensors; library.py loads what this finds.
"""

import atexit
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs

from farthing.errors import FarthingError
from farthing.hardware.machine import CPP_COMPILERS, cpp_compiler, cpu_flags, cpu_name

_SOURCES = Path(__file__).parent / "src"
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fno-math-errno", "-ffp-contract=off")
_LINK_FLAGS = ("-shared", "-pthread")
_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni", "fma")
LEVELS: dict[str, tuple[str, ...]] = {
    "avx512-bf16": (*_AVX512, "avx512bf16"),
    "avx512": _AVX512,
    "avx2": ("avx2", "fma"),
    "portable": (),
}
"""What a processor must have for each level, as compilers call it; the first that it has is the fastest."""

Say = Callable[[str], None]


class NoCompilerError(FarthingError):
    """The kernels can't be compiled here; the slow ones still run."""


def best_level() -> str:
    """The fastest level that this processor has."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "portable"
    has = {flag.replace("_", "") for flag in cpu_flags()}
    if cpu_name().startswith("Intel"):
        has.discard("avx512bf16")  # half as fast there as two fp32 products (measured on Emerald Rapids)
    return next(level for level, needs in LEVELS.items() if has.issuperset(needs))


def compiled(level: str, say: Say = lambda text: None) -> Path:
    """The library of a level; compiled if this is the first time, and then `say` tells so. NoCompilerError says why
    there is none."""
    compiler = cpp_compiler()
    if compiler is None:
        raise NoCompilerError(f"there is no C++ compiler here ({', '.join(CPP_COMPILERS)})", fix="install one: g++")
    flags = (*_FLAGS, *(f"-m{flag}" for flag in LEVELS[level]))
    sources = sorted(_SOURCES.iterdir())
    known = hashlib.sha256(repr((flags, _version(compiler))).encode())
    for source in sources:
        known.update(source.name.encode() + b"\0" + source.read_bytes())
    name = f"kernels-{level}-{known.hexdigest()[:16]}.so"
    cache = Path(platformdirs.user_cache_dir("farthing")) / "kernels"
    if os.path.isfile(cache / name):  # False, too, where looking is forbidden
        return cache / name
    folder = cache if _can_be_written(cache) else _folder_of_this_process()
    if os.path.isfile(folder / name):
        return folder / name
    say(f"compiling the CPU kernels for {level}, once (about 20 s) ...")
    begin = time.monotonic()
    library = _compile(compiler, flags, [source for source in sources if source.suffix == ".cpp"], folder / name)
    say(f"compiled in {time.monotonic() - begin:.0f} s")
    return library


def _can_be_written(cache: Path) -> bool:
    """The folder is made if there is none, for this user alone."""
    try:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(cache, os.W_OK)


@functools.cache
def _folder_of_this_process() -> Path:
    """Gone when it ends: each process then compiles for itself, once."""
    folder = tempfile.mkdtemp(prefix="farthing-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _version(compiler: str) -> str:
    return subprocess.run((compiler, "--version"), capture_output=True, text=True, check=False).stdout


def _compile(compiler: str, flags: tuple[str, ...], sources: list[Path], library: Path) -> Path:
    """Every file by a compiler of its own, beside each other; the result appears at once or not at all, so two
    processes may compile the same."""
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="compiling-") as folder:
        objects = [Path(folder) / f"{source.stem}.o" for source in sources]
        commands = [
            (compiler, *flags, "-c", str(source), "-o", str(object_file))
            for source, object_file in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(os.cpu_count() or 1) as workers:
            list(workers.map(_run, commands))
        linked = Path(folder) / library.name
        _run((compiler, *_LINK_FLAGS, *map(str, objects), "-o", str(linked)))
        linked.replace(library)
    return library


def _run(command: tuple[str, ...]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[-200:])
        raise NoCompilerError(f"{command[0]} could not compile the CPU kernels: {first}", fix="install another g++")
