"""A file's name is its registration: the modules of a package, by name, without importing the others.

A model family, a weight format, a kernel backend is one file; nothing lists it. Knows nothing of what the files hold.
"""

import importlib
import pkgutil
from types import ModuleType


def names(package: str) -> tuple[str, ...]:
    """Names of the modules directly under `package` ("farthing.quantization"), sorted; `_private` ones left out."""
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return tuple(sorted(module.name for module in found if not module.name.startswith("_")))


def load(package: str, name: str) -> ModuleType:
    """The module `package.name`. KeyError (with the names there are) if there is no such file."""
    if name not in names(package):
        raise KeyError(f"{package} has no {name!r}; it has {', '.join(names(package))}")
    return importlib.import_module(f"{package}.{name}")
