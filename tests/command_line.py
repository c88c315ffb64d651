"""The command line for tests: what a call in this process came to, and a start without the packages of any extra."""

from collections.abc import Callable
from dataclasses import dataclass

from farthing.cli import app

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


@dataclass
class Done:
    """Exit code, and what was written to the two streams."""

    code: int
    out: str
    err: str


Farthing = Callable[..., Done]
