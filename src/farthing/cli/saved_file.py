"""Files that a command is told to write at its end: whether they can be, asked before the work is done; and written.

Knows no command; the flag that names the file is handed in.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from farthing.cli import output
from farthing.errors import FarthingError, UsageError


def check_writable(flag: str, path: Path | None) -> None:
    """UsageError, before the work, if the file can't be written then. None is no file."""
    if path is None:
        return
    if os.path.isdir(path) or not os.path.isdir(path.parent):
        raise UsageError(f"{flag} {path} can't be written", fix="name a file in a folder that exists")
    if not os.access(path if os.path.exists(path) else path.parent, os.W_OK):
        raise UsageError(f"{flag} {path} can't be written: no permission", fix="name a file in a writable folder")


def save_json(path: Path, document: Mapping[str, Any]) -> None:
    """FarthingError if it can't be written after all."""
    with telling(path):
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    output.stderr.print(f"saved to {path}", soft_wrap=True)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """FarthingError in place of the system's: the disk is full, or the folder is gone by now."""
    try:
        yield
    except OSError as error:
        raise FarthingError(
            f"{path} can't be written: {error.strerror or error}", fix="name a file in a writable folder with room"
        ) from None
