"""One line of `farthing doctor`, and the versions of packages that its checks ask for. Imports none of the packages."""

import importlib.metadata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`mark`: ok, missing (something that adds abilities) or problem (something that is broken). `fix`: a command."""

    mark: str
    name: str
    text: str
    fix: str = ""


def version_of(package: str) -> str | None:
    """Of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cuda_of_torch() -> str | None:
    """The CUDA that the installed torch was built for ("12.8"), None if for none: its version says so, or the libraries
    of CUDA that are installed beside it."""
    version = version_of("torch")
    build = (version or "").partition("+")[2]
    if build.startswith("cu"):
        return f"{build[2:-1]}.{build[-1]}"
    libraries = version_of("nvidia-cuda-runtime-cu12") or version_of("nvidia-cuda-runtime")
    return ".".join(libraries.split(".")[:2]) if version and libraries and not build else None
