"""From what a user calls MODEL to where it is: files of this machine, a published model, or a repository of a hub.

Knows paths and names. Opens no config (models/auto.py does) and no network (hub/download.py does).
"""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from farthing.errors import ModelNotFoundError
from farthing.models import bundled
from farthing.models.published_models import PublishedModel, find_published, published_models

BUNDLED = "bundled"
_REPOSITORY = re.compile(r"(modelscope:)?[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """`path`: a folder, .gguf file or config (.json) of this machine. Else `repository`: "org/name" of a hub, or
    "modelscope:org/name".

    `published`: its entry in the table, where it has one.
    """

    name: str
    path: Path | None = None
    repository: str | None = None
    published: PublishedModel | None = None


def find_model(name: str) -> ModelReference:
    """What `name` means. Files go before aliases, aliases before repositories. ModelNotFoundError names the nearest."""
    if not name.strip():
        raise ModelNotFoundError("the name of the model is empty", fix="give one: farthing models lists them")
    if name == BUNDLED:
        return ModelReference(name, Path(bundled.__file__).parent)
    path = _find_path(name)
    if path is not None:
        return ModelReference(name, path)
    published = find_published(name)
    if published is not None:
        return ModelReference(published.name, repository=published.hub_id, published=published)
    if _REPOSITORY.fullmatch(name) and not name.startswith((".", "~")):
        return ModelReference(name, repository=name)
    aliases = (BUNDLED, *published_models())
    near = difflib.get_close_matches(name.lower(), aliases, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelNotFoundError(
        f"there is no model {name!r:.80}",
        fix=f"{hint}name a folder with config.json, a .gguf file, org/name of a hub, or an alias (farthing models)",
    )


def _find_path(name: str) -> Path | None:
    """The folder, .gguf file or config of this name, None if there is no such file."""
    path = Path(os.path.expanduser(name))  # which, unlike Path's, takes the name of an unknown user as it is
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise ModelNotFoundError(f"{name!r:.80} can't be looked up: {error.strerror}", fix="check the path") from None
    if is_file and path.name == "config.json":
        return path.parent
    if is_file and path.suffix not in (".gguf", ".json"):
        raise ModelNotFoundError(
            f"{name} is a file of no known kind", fix="name a folder, its config.json or a .gguf file"
        )
    if is_folder:
        ggufs = sorted(path.glob("*.gguf"))
        return ggufs[0] if len(ggufs) == 1 and not (path / "config.json").exists() else path
    return path if is_file else None
