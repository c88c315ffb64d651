"""What `farthing doctor` asks of packages, machine, folders and hub, one finding each.

Knows packages by their metadata and the machine by hardware/machine.py; imports neither torch nor an extra. Secrets are
told to be set or not, never shown. Cards are doctor_cards.py's, incidents doctor_incident.py's.
"""

import os
import platform
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from farthing import __version__
from farthing.cli.finding import Finding, cuda_of_torch, version_of
from farthing.errors import UsageError
from farthing.hardware.calibration import calibration_folder, saved_here
from farthing.hardware.machine import CPP_COMPILERS, cpp_compiler, memory_bytes, processor
from farthing.hub.address import hugging_face_endpoint, shown
from farthing.hub.cache import (
    cached_models,
    existing_parent,
    hugging_face_folder,
    hugging_face_home,
    modelscope_folder,
)
from farthing.units import format_bytes

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
        "prometheus-client": ">=0.21",
    },
    "nvidia": {"nvidia-ml-py": ">=12.560"},
    "report": {"matplotlib": ">=3.9"},
}
_HUB_TIMEOUT_SECONDS = 3.0
_LOW_DISK_BYTES = 20 * 2**30
_LOW_DATA_BYTES = 2**28


def installed() -> Iterator[Finding]:
    """Python, Farthing, and the packages of its extras."""
    python = platform.python_version()
    yield Finding("ok" if sys.version_info >= (3, 11) else "problem", "python", f"{python} ({sys.executable})")
    yield Finding("ok", "farthing", f"{__version__} ({platform.system()} {platform.machine()})")
    for extra, packages in EXTRAS.items():
        install = f"pip install 'farthing[{extra}]'"
        for package, wanted in packages.items():
            version = version_of(package)
            if version is None:
                yield Finding("missing", package, f"not installed (extra {extra})", install)
            elif satisfies(version, wanted):
                yield Finding("ok", package, f"{version}{_torch_kind() if package == 'torch' else ''}")
            else:
                yield Finding(
                    "problem", package, f"{version}, but {wanted} is needed", f"pip install '{package}{wanted}'"
                )


def machine() -> Iterator[Finding]:
    """The processor, memory, and what is known of their speed."""
    cpu = processor()
    flags = ", ".join(cpu.flags) or "no vector instructions known"
    yield Finding("ok", "processor", f"{cpu.name}, {cpu.num_cores} cores ({flags})")
    total, available = memory_bytes()
    yield Finding("ok", "memory", f"{format_bytes(available)} of {format_bytes(total)} available")
    yield _compiler()
    yield _calibration()


def _compiler() -> Finding:
    """Which C++ compiler would build kernels for this processor on their first use."""
    path = cpp_compiler()
    if path is not None:
        return Finding("ok", "compiler", path)
    text = f"none of {', '.join(CPP_COMPILERS)}: kernels for this processor can't be compiled, torch's are used"
    return Finding("missing", "compiler", text, "apt install g++ (macOS: xcode-select --install)")


def _calibration() -> Finding:
    """Whether this machine was measured, with the torch that is installed, and when."""
    calibrations, folder = saved_here(), calibration_folder()
    if calibrations:
        last = max(calibration.date for calibration in calibrations)
        text = f"{len(calibrations)} of this machine, the last of {last[:10]}, in {folder}"
        return Finding("ok", "calibration", text)
    if any(folder.glob("*.json")):
        text = "stale: another processor, driver or torch was measured, so forecasts are guesses"
        return Finding("missing", "calibration", text, "farthing probe")
    return Finding("missing", "calibration", "this machine was not measured", "farthing probe")


def folders() -> Iterator[Finding]:
    """Where models and data are kept, whether there is room, and what is there."""
    environment = os.environ
    yield Finding(
        "ok", "HF_HOME", f"{hugging_face_home(environment)}{'' if 'HF_HOME' in environment else ' (default)'}"
    )
    move = "make it writable, or set HF_HOME elsewhere"
    yield _room("cache", hugging_face_folder(environment), _LOW_DISK_BYTES, move)
    yield _room("modelscope", modelscope_folder(environment), _LOW_DISK_BYTES, move)
    data = Path(platformdirs.user_data_dir("farthing"))
    yield _room("data", data, _LOW_DATA_BYTES, "make it writable, or set XDG_DATA_HOME elsewhere")
    cached = list(cached_models())
    runnable = sum(model.problem is None for model in cached)
    yield Finding("ok", "models", f"{len(cached)} in the caches, {runnable} of them run (farthing models --local)")


def _room(name: str, folder: Path, low_bytes: int, move: str) -> Finding:
    """Can it be written, and how much fits."""
    existing = existing_parent(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding("problem", name, f"{existing} can't be written", move)
    free = shutil.disk_usage(existing).free
    if free < low_bytes:
        return Finding("missing", name, f"{folder}, only {format_bytes(free)} free", "free some space")
    return Finding("ok", name, f"{folder}, {format_bytes(free)} free")


def hub(offline: bool) -> Iterator[Finding]:
    """Token, proxies, and whether the hub answers."""
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


def _torch_kind() -> str:
    return f" (with CUDA {cuda})" if (cuda := cuda_of_torch()) else " (CPU only)"


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
