"""`farthing doctor`: what is installed, detected and missing, and the command that adds it; made for bug reports.

Knows packages by their metadata and the machine by hardware/machine.py; imports neither torch nor an extra. Secrets are
told to be set or not, never shown.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farthing import __version__
from farthing.cli import output
from farthing.errors import UsageError
from farthing.hardware.calibration import calibration_folder, saved_here
from farthing.hardware.machine import gpus, memory_bytes, processor
from farthing.hub.address import hugging_face_endpoint, shown
from farthing.hub.cache import (
    cached_models,
    existing_parent,
    hugging_face_folder,
    hugging_face_home,
    is_offline,
    modelscope_folder,
)
from farthing.units import format_bytes

SCHEMA = "farthing.doctor/1"
# The packages of each extra with the versions that pyproject.toml asks for (a test compares them).
EXTRAS = {
    "hub": {"huggingface-hub": ">=2.4"},
    "serve": {
        "torch": ">=2.11,<2.14",
        "numpy": ">=1.26",
        "safetensors": ">=0.5",
        "tokenizers": ">=0.21",
        "sentencepiece": ">=0.2.1",
        "gguf": ">=0.17",
        "jinja2": ">=3.1.6",
        "psutil": ">=6",
        "fastapi": ">=0.120",
        "uvicorn": ">=0.35",
        "httptools": ">=0.6.3",
        "uvloop": ">=0.21",
        "pyzmq": ">=26",
        "msgspec": ">=0.20",
        "llguidance": ">=1.9,<2",
    },
    "report": {"matplotlib": ">=3.9"},
}
_HUB_TIMEOUT_SECONDS = 3.0
_LOW_DISK_BYTES = 20 * 2**30


@dataclass(frozen=True, slots=True)
class DoctorFlags:
    """What `farthing doctor` is told."""

    offline: Annotated[bool, Parameter(help="Do not ask whether the hub can be reached.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


@dataclass(frozen=True, slots=True)
class Finding:
    """`mark`: ok, missing (something that adds abilities) or problem (something that is broken). `fix`: a command."""

    mark: str
    name: str
    text: str
    fix: str = ""


_DEFAULTS = DoctorFlags()


def doctor(*, flags: Annotated[DoctorFlags, Parameter(name="*")] = _DEFAULTS) -> int:
    """Say what is installed, detected and missing. Exit code 1 if something is broken."""
    offline = flags.offline or is_offline(os.environ)
    findings = [*_installed(), *_machine(), *_folders(), *_hub(offline)]
    healthy = all(finding.mark != "problem" for finding in findings)
    if flags.json:
        found = [asdict(finding) for finding in findings]
        output.print_json({"schema": SCHEMA, "version": __version__, "healthy": healthy, "findings": found})
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            fix = f" - {finding.fix}" if finding.fix else ""
            output.stdout.print(f"{finding.mark:<8}{finding.name:<{width}}  {finding.text}{fix}", soft_wrap=True)
    return 0 if healthy else 1


def _installed() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("ok" if sys.version_info >= (3, 11) else "problem", "python", f"{python} ({sys.executable})")
    yield Finding("ok", "farthing", f"{__version__} ({platform.system()} {platform.machine()})")
    for extra, packages in EXTRAS.items():
        install = f"pip install 'farthing[{extra}]'"
        for package, wanted in packages.items():
            version = _version(package)
            if version is None:
                yield Finding("missing", package, f"not installed (extra {extra})", install)
            elif satisfies(version, wanted):
                yield Finding("ok", package, f"{version}{_torch_kind(version) if package == 'torch' else ''}")
            else:
                yield Finding(
                    "problem", package, f"{version}, but {wanted} is needed", f"pip install '{package}{wanted}'"
                )


def _machine() -> Iterator[Finding]:
    cpu = processor()
    flags = ", ".join(cpu.flags) or "no vector instructions known"
    yield Finding("ok", "processor", f"{cpu.name}, {cpu.num_cores} cores ({flags})")
    total, available = memory_bytes()
    yield Finding("ok", "memory", f"{format_bytes(available)} of {format_bytes(total)} available")
    found = gpus()
    for gpu in found:
        text = (
            f"{gpu.name}, {format_bytes(gpu.free_bytes)} of {format_bytes(gpu.total_bytes)} free, driver {gpu.driver}"
        )
        yield Finding("ok", "gpu", text)
    if not found:
        yield Finding("ok", "gpu", "none that nvidia-smi knows; models run on the processor")
    elif (version := _version("torch")) and "CPU" in _torch_kind(version):
        yield Finding("missing", "cuda", "torch is built without CUDA", "pip install --force-reinstall torch")
    compiler = next(
        (name for name in (os.environ.get("CXX"), "c++", "g++", "clang++") if name and shutil.which(name)), ""
    )
    yield Finding("ok", "compiler", shutil.which(compiler) or "no C++ compiler; nothing needs one")
    calibrations = saved_here()
    if calibrations:
        yield Finding("ok", "calibration", f"{len(calibrations)} of this machine in {calibration_folder()}")
    else:
        yield Finding("missing", "calibration", "this machine was not measured", "farthing probe")


def _folders() -> Iterator[Finding]:
    environment = os.environ
    yield Finding(
        "ok", "HF_HOME", f"{hugging_face_home(environment)}{'' if 'HF_HOME' in environment else ' (default)'}"
    )
    for name, folder in (("cache", hugging_face_folder(environment)), ("modelscope", modelscope_folder(environment))):
        existing = existing_parent(folder)
        free = shutil.disk_usage(existing).free
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            yield Finding("problem", name, f"{existing} can't be written", "make it writable, or set HF_HOME elsewhere")
        elif free < _LOW_DISK_BYTES:
            yield Finding("missing", name, f"{folder}, only {format_bytes(free)} free", "free some space")
        else:
            yield Finding("ok", name, f"{folder}, {format_bytes(free)} free")
    cached = list(cached_models())
    runnable = sum(model.problem is None for model in cached)
    yield Finding("ok", "models", f"{len(cached)} in the caches, {runnable} of them run (farthing models --local)")


def _hub(offline: bool) -> Iterator[Finding]:
    environment = os.environ
    token_file = Path(environment.get("HF_TOKEN_PATH") or hugging_face_home(environment) / "token")
    if environment.get("HF_TOKEN") or token_file.is_file():
        yield Finding("ok", "token", "set in HF_TOKEN" if environment.get("HF_TOKEN") else f"saved in {token_file}")
    else:
        yield Finding("missing", "token", "none; only gated models need one", "hf auth login")
    proxies = [name for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY") if _set(name)]
    yield Finding("ok", "proxies", ", ".join(proxies) or "none")
    try:
        endpoint = hugging_face_endpoint()
    except UsageError as error:
        yield Finding("problem", "hub", error.what, error.fix)
        return
    if offline:
        yield Finding("ok", "hub", f"{shown(endpoint)} not asked: offline")
        return
    problem = _unreachable(endpoint)
    if problem is None:
        yield Finding("ok", "hub", f"{shown(endpoint)} answers")
        return
    fix = "check the connection, name a mirror in HF_ENDPOINT, or take modelscope:org/name"
    yield Finding("missing", "hub", f"{shown(endpoint)} can't be reached: {problem}", fix)


def _unreachable(endpoint: str) -> str | None:
    """Why the hub does not answer; any HTTP status is an answer."""
    try:
        request = urllib.request.Request(endpoint, method="HEAD", headers={"User-Agent": f"farthing/{__version__}"})
        with urllib.request.urlopen(request, timeout=_HUB_TIMEOUT_SECONDS):
            return None
    except urllib.error.HTTPError:
        return None
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))[:120]


def _set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(name.lower()))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch_kind(version: str) -> str:
    """What a build of torch is for: its version says so, or the libraries of CUDA are installed beside it."""
    build = version.partition("+")[2]
    libraries = _version("nvidia-cuda-runtime-cu12") or _version("nvidia-cuda-runtime")
    return " (with CUDA)" if build.startswith("cu") or (libraries and not build) else " (CPU only)"


def satisfies(version: str, wanted: str) -> bool:
    """Does "2.13.0+cpu" satisfy ">=2.11,<2.14"? Compares numbers only."""
    numbers = _numbers(version)
    for condition in wanted.split(","):
        at_least = condition.startswith(">=")
        limit = _numbers(condition.lstrip("<>="))
        if (numbers >= limit) != at_least:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
