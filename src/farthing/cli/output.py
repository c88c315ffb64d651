"""Where output goes: answers to stdout, everything that is said about them to stderr.

Shared by the commands. Knows no command and no flag.
"""

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from farthing.errors import FarthingError

# What is printed may come from a user or a model: nothing in it is markup.
stdout = Console(highlight=False, markup=False, emoji=False)
stderr = Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON object to stdout. What it is stands in its `schema`: "farthing.plan/1"."""
    assert "schema" in document
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_error(error: FarthingError) -> None:
    """`farthing: what happened - what to do`, one line, to stderr."""
    sys.stderr.write(f"farthing: {error}\n")
