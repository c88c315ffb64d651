"""The peers' Python environment: made where it is missing, and in it installed what is missing, built for this CPU.

Knows packages; knows no models. A peer that can't be installed is left out, and the page says so.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

TORCH = f"torch=={version('torch')}"  # the build that Farthing itself runs on: a CPU's, where that was chosen
PEERS: dict[str, tuple[str, ...]] = {
    "llama.cpp": ("llama-cpp-python",),
    "transformers": (TORCH, "transformers"),
    "CTranslate2": (TORCH, "transformers", "ctranslate2"),
    "OpenVINO GenAI": ("openvino-genai",),
}
NATIVE = {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}
_LIST = (
    "import importlib.metadata as m, json; print(json.dumps({d.name.lower(): d.version for d in m.distributions()}))"
)


@dataclass(frozen=True, slots=True)
class Environment:
    """`versions`: of each peer that is there ("llama-cpp-python 0.3.36"). `problems`: why another is not."""

    python: Path
    versions: dict[str, str]
    problems: dict[str, str]


def prepare(folder: Path, peers: set[str]) -> Environment:
    python = folder / "bin" / "python"
    if not python.exists():
        _say(f"making the peers' environment in {folder} ...")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    versions: dict[str, str] = {}
    problems: dict[str, str] = {}
    for peer in (name for name in PEERS if name in peers):
        problem = _install(python, PEERS[peer])
        if problem is None:
            package = PEERS[peer][-1]
            versions[peer] = f"{package} {_installed(python)[package]}"
        else:
            problems[peer] = problem
            _say(f"{peer} is left out: {problem}")
    return Environment(python, versions, problems)


def _install(python: Path, packages: tuple[str, ...]) -> str | None:
    """Why it failed."""
    installed = _installed(python)
    missing = [package for package in packages if package.split("==")[0] not in installed]
    if not missing:
        return None
    _say(f"installing {' '.join(missing)} (llama-cpp-python is compiled, which takes some minutes) ...")
    command = [python, "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python", *missing]
    done = subprocess.run(command, env={**os.environ, **NATIVE}, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    return errors[-1] if errors else f"pip answered {done.returncode}"


def _installed(python: Path) -> dict[str, str]:
    done = subprocess.run([python, "-c", _LIST], check=True, stdout=subprocess.PIPE)
    found: dict[str, str] = json.loads(done.stdout)
    return {name.replace("_", "-"): one for name, one in found.items()}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
