"""Compiling on first use: once for a user, in a folder of their own, and if it can't be done the reason is told.

A compiler of these tests is a script first on PATH: it notes each call, and hands on to the system's or writes a file
that nobody loads.
"""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from native_kernels import levels_here

import farthing
from farthing.kernels.native import compiler
from farthing.kernels.native.backend import NativeKernels
from farthing.kernels.native.compiler import LEVELS, NoCompilerError, best_level, compiled
from farthing.kernels.native.library import Pool
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.select import select_kernels
from farthing.kernels.vendor import VendorKernels

WRITES_A_FILE = 'while [ "$1" != -o ]; do shift; done; echo compiled > "$2"'
FAILS = (
    'echo "x.cpp:3: warning: odd" >&2; echo "x.cpp:7:2: error: no such instruction" >&2; echo "error: more" >&2; exit 1'
)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/farthing/kernels"


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    return tmp_path / "calls"


def install(script: str, calls: Path, monkeypatch: pytest.MonkeyPatch, *, version: str = "c++ 1.0") -> None:
    """A compiler that does `script`, the first on PATH."""
    folder = calls.parent / "bin"
    folder.mkdir(exist_ok=True)
    path = folder / "c++"
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}" && exit\necho "$@" >> {calls}\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def in_a_process(code: str) -> subprocess.Popen[str]:
    """Of its own; what it prints is to be read."""
    imports = "from farthing.kernels.native.compiler import compiled; from farthing.kernels.native.library import Pool"
    environment = {**os.environ, "PYTHONPATH": str(Path(farthing.__file__).parents[1])}
    command = [sys.executable, "-c", f"{imports}; {code}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def num_calls(calls: Path) -> int:
    return len(calls.read_text().splitlines()) if calls.exists() else 0


def selected(**changes: object) -> ReferenceKernels:
    options: dict[str, object] = {
        "device_kind": "cpu", "batch_invariant": True, "weight_formats": [("fp32", 64)], "activation_dtype": "fp32",
        "kv_dtype": "fp32", "num_threads": 1, **changes,
    }  # fmt: skip
    return select_kernels(**options)  # type: ignore[arg-type]


def test_the_second_call_takes_what_the_first_compiled(
    calls: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    told: list[str] = []
    library, compiled_files = compiled("portable", told.append), num_calls(calls)
    assert library.parent == cache_folder and library.read_text() == "compiled\n"
    assert len(told) == 2 and "once" in told[0] and "compiled in" in told[1]
    assert compiled("portable", told.append) == library
    assert num_calls(calls) == compiled_files and len(told) == 2
    assert [path.name for path in cache_folder.iterdir()] == [library.name], "what was in between is gone"


def test_another_level_or_another_compiler_is_another_library(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    libraries = {compiled("portable"), compiled("avx2")}
    install(WRITES_A_FILE, calls, monkeypatch, version="c++ 2.0")
    assert len(libraries | {compiled("portable")}) == 3


@pytest.mark.parametrize("level", LEVELS)
def test_a_compiler_is_told_what_the_level_has(level: str, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    compiled(level)
    for call in calls.read_text().splitlines():
        if " -c " in call:
            assert {word for word in call.split() if word.startswith("-m")} == {f"-m{flag}" for flag in LEVELS[level]}


def test_the_cache_is_the_users_alone(calls: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    compiled("portable")
    assert stat.S_IMODE(cache_folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["a file", "nowhere", "read-only"])
def test_a_cache_that_cannot_be_written_does_not_matter(
    place: str, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    cache = Path("/proc/nowhere") if place == "nowhere" else tmp_path / "cache"
    if place == "a file":
        cache.write_text("")
    elif place == "read-only":
        (cache / "farthing/kernels").mkdir(parents=True)
        (cache / "farthing/kernels").chmod(0o500)
        if os.access(cache / "farthing/kernels", os.W_OK):
            pytest.skip("root may write anywhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    library, compiled_files = compiled("portable"), num_calls(calls)
    assert library.read_text() == "compiled\n" and cache not in library.parents
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    assert compiled("portable") == library and num_calls(calls) == compiled_files, "once a process"


def test_a_cache_that_cannot_be_written_is_read_where_it_has_the_library(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    library, compiled_files = compiled("portable"), num_calls(calls)
    monkeypatch.setattr(compiler.os, "access", lambda path, mode: mode != os.W_OK)
    assert compiled("portable") == library and num_calls(calls) == compiled_files


def test_what_a_process_compiled_for_itself_goes_when_it_ends(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    done = (
        in_a_process("print(compiled('portable').is_file(), compiled('portable'))").communicate(timeout=60)[0].split()
    )
    assert done[0] == "True" and not Path(done[1]).parent.exists()


def test_a_library_that_can_not_be_loaded_is_no_traceback(
    calls: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a file system that lets nothing be executed."""
    install(WRITES_A_FILE, calls, monkeypatch)
    assert type(selected()) is ReferenceKernels
    assert "note: slow kernels, for " in capsys.readouterr().err


def test_without_a_compiler_the_slow_kernels_run_and_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompilerError, match=r"no C\+\+ compiler here \(c\+\+, g\+\+, clang\+\+\)") as told:
        compiled("portable")
    assert told.value.fix is not None and "g++" in told.value.fix
    assert type(selected()) is ReferenceKernels and type(selected(batch_invariant=False)) is VendorKernels
    assert capsys.readouterr().err.count("note: slow kernels, for there is no C++ compiler here") == 2


def test_a_compiler_that_fails_is_quoted_with_its_first_error(
    calls: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(FAILS, calls, monkeypatch)
    with pytest.raises(
        NoCompilerError, match=r"could not compile .*: x\.cpp:7:2: error: no such instruction - install another"
    ):
        compiled("portable")
    assert list(cache_folder.iterdir()) == [], "a failure leaves nothing that looks like a library"
    assert type(selected()) is ReferenceKernels
    assert "x.cpp:7:2: error" in capsys.readouterr().err


def test_a_compiler_that_fails_without_a_word_is_named(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("exit 3", calls, monkeypatch)
    with pytest.raises(NoCompilerError, match=r"c\+\+ could not compile the CPU kernels"):
        compiled("portable")


@pytest.mark.parametrize(
    ("flags", "name", "level"),
    [
        ((), "", "portable"),
        (("sse4_2", "avx"), "Intel(R) Xeon(R) CPU E5-2670", "portable"),
        (("avx2",), "a processor without fma", "portable"),
        (("avx2", "fma"), "AMD EPYC 7763", "avx2"),
        (("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"), "Intel(R) Xeon(R) Platinum 8160", "avx2"),
        (("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"), "Intel(R) Xeon(R)", "avx512"),
        (("fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"), "AMD EPYC 9654",
         "avx512-bf16"),
        (("fma", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "avx512_bf16"), "Intel(R) Xeon(R)",
         "avx512"),
    ],
)  # fmt: skip
def test_the_level_is_the_fastest_that_the_processor_has(
    flags: tuple[str, ...], name: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(compiler, "cpu_name", lambda: name)
    monkeypatch.setattr(compiler.platform, "machine", lambda: "x86_64")
    assert best_level() == level


def test_another_kind_of_processor_takes_plain_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler.platform, "machine", lambda: "aarch64")
    assert best_level() == "portable"


@pytest.mark.parametrize(
    "changes",
    [
        {"kv_dtype": "bf16"},
        {"kv_dtype": "fp8_e4m3"},
        {"weight_formats": [("fp32", 64), ("w8a8", 30)]},
        {"weight_formats": [("fp16", 64)], "activation_dtype": "fp16", "kv_dtype": "fp16"},
    ],
    ids=str,
)
def test_what_there_are_no_kernels_for_is_not_compiled_for(
    changes: dict[str, object], calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    assert type(selected(**changes)) is ReferenceKernels and num_calls(calls) == 0


def test_the_kernels_that_run_are_named_with_their_level(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(WRITES_A_FILE, calls, monkeypatch)
    monkeypatch.setattr("farthing.kernels.select.Pool", lambda library, num_threads: None)
    for kv_dtype in ("fp32", "int8"):
        kernels = selected(kv_dtype=kv_dtype)
        assert isinstance(kernels, NativeKernels) and kernels.name == f"native {best_level()}"
        assert kernels.batch_invariant


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_two_processes_that_compile_at_once_both_get_the_library(
    calls: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without optimization, to be quick; the first to end puts its library in place, the other one over it."""
    install(f'exec {shutil.which("g++")} "$@" -O0', calls, monkeypatch)
    processes = [in_a_process("library = compiled('portable'); Pool(library, 1); print(library)") for _ in "ab"]
    paths = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert paths[0] == paths[1] and [str(path) for path in cache_folder.iterdir()] == [paths[0]]
    Pool(Path(paths[0]), 1)


def test_this_processor_has_the_level_that_is_chosen_for_it() -> None:
    assert best_level() in levels_here() and "portable" in levels_here()
