"""The command line for tests: what a call in this process came to, and a start without the packages of any extra."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from farthing.cli import app

_KERNELS = Path(platformdirs.user_cache_dir("farthing")) / "kernels"
PACKAGES_OF_EXTRAS = sorted(package for packages in app._EXTRAS.values() for package in packages)

# Starts the command line where importing any package of an extra fails as if it were not installed.
WITHOUT_EXTRAS = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {PACKAGES_OF_EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
from farthing.cli.app import main
main()
"""


def share_kernels(home: Path) -> None:
    """A new home finds the kernels that were compiled for this user, instead of compiling them once more."""
    _KERNELS.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / ".cache" / "farthing").mkdir(parents=True)
    (home / ".cache" / "farthing" / "kernels").symlink_to(_KERNELS)


@dataclass
class Done:
    """Exit code, and what was written to the two streams."""

    code: int
    out: str
    err: str


Farthing = Callable[..., Done]
