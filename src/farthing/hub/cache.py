"""Models of hubs by name, and which of them lie on this machine: the caches of huggingface_hub and of ModelScope.

Knows the documented layout of both caches and the variables that move them. Knows no network and needs no package;
hub/download.py fills the same folders.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from farthing.errors import (
    CheckpointError,
    ConfigError,
    FarthingError,
    ModelNotFoundError,
    UnsupportedError,
    UsageError,
)
from farthing.models.auto import read_config
from farthing.models.checkpoint_files import INDEX_NAME, SINGLE_NAME, find_weights
from farthing.models.reference import find_model
from farthing.models.runnable import describe_runnable
from farthing.models.spec import Precision
from farthing.quantization.base import resolve
from farthing.units import format_bytes

MODELSCOPE = "modelscope:"
_PINNED = re.compile(rf"((?:{MODELSCOPE})?[\w.-]+/[\w.-]+|[\w.-]+(?=@))(?:@([\w./-]+?))?(?::([\w.-]+))?")
_PART = re.compile(r"\w(?!.*\.\.)[\w.-]*")  # of a repository or revision: it becomes the name of a folder


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of a hub. `name` is what the user types again: alias or repository, with revision and file.

    `repository`: "org/name". `revision`: branch, tag or commit. `file`: which GGUF file of several, by its name or by
    the end of its name, such as "Q4_K_M".
    """

    name: str
    repository: str
    revision: str
    on_modelscope: bool = False
    file: str | None = None

    @property
    def folder(self) -> Path:
        """Where its snapshots lie: a folder of the Hugging Face cache, or the very files from ModelScope."""
        organization, name = self.repository.split("/")
        if not self.on_modelscope:
            return hugging_face_folder(os.environ) / f"models--{organization}--{name}"
        pinned = "" if self.revision == "master" else f"@{self.revision.replace('/', '--')}"
        return modelscope_folder(os.environ) / organization / (name.replace(".", "___") + pinned)


def find_anywhere(text: str, *, file: str | None = None) -> Path | HubModel:
    """What MODEL means: files of this machine, or a model of a hub, with `@revision` and `:Q4_K_M` behind its name."""
    pinned = _PINNED.fullmatch(text)
    if pinned is None or not (pinned[2] or pinned[3]) or Path(text).exists():
        base, revision, choice = text, None, file
    else:
        base, revision, choice = pinned[1], pinned[2], file or pinned[3]
    reference = find_model(base)
    if reference.path is not None:
        return reference.path
    assert reference.repository is not None
    on_modelscope = reference.repository.startswith(MODELSCOPE)
    repository = reference.repository.removeprefix(MODELSCOPE)
    revision = revision or ("master" if on_modelscope else "main")
    for part in (*repository.split("/"), *revision.split("/")):
        if not _PART.fullmatch(part):
            raise ModelNotFoundError(f"{text!r:.80} names no repository", fix="write org/name or org/name@branch")
    name = reference.name if (base, choice) == (text, None) else f"{text}:{file}" if file else text
    return HubModel(name, repository, revision, on_modelscope, choice)


def hugging_face_folder(environment: Mapping[str, str]) -> Path:
    """The cache of huggingface_hub: HF_HUB_CACHE, else `hub` under HF_HOME."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(variable):
            return _expanded(environment[variable])
    return hugging_face_home(environment) / "hub"


def hugging_face_home(environment: Mapping[str, str]) -> Path:
    """HF_HOME, else ~/.cache/huggingface."""
    caches = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return _expanded(environment.get("HF_HOME") or os.path.join(caches, "huggingface"))


def modelscope_folder(environment: Mapping[str, str]) -> Path:
    """Where the package modelscope keeps models, too: MODELSCOPE_CACHE, else ~/.cache/modelscope/hub."""
    return _expanded(environment.get("MODELSCOPE_CACHE") or "~/.cache/modelscope/hub") / "models"


def is_offline(environment: Mapping[str, str]) -> bool:
    """HF_HUB_OFFLINE, which keeps huggingface_hub from the network, keeps Farthing from it, too."""
    return environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def cached_weights(model: HubModel) -> Path:
    """The folder or .gguf file of a model that was downloaded whole. ModelNotFoundError names the command if not."""
    snapshot = find_snapshot(model)
    if snapshot is None:
        raise ModelNotFoundError(
            f"the weights of {model.name} are not on this machine", fix=f"farthing pull {model.name}"
        )
    try:
        path = weights_in(snapshot, model)
        find_weights(path)
    except (CheckpointError, ModelNotFoundError) as error:
        raise ModelNotFoundError(
            f"{model.name} is only partly on this machine: {error.what}", fix=f"farthing pull {model.name} resumes"
        ) from None
    return path


def find_snapshot(model: HubModel) -> Path | None:
    """The folder with the files of the model's revision, or None; some of them may be missing."""
    if model.on_modelscope:
        return model.folder if model.folder.is_dir() else None
    try:
        commit = (model.folder / "refs" / model.revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = model.revision
    snapshot = model.folder / "snapshots" / commit
    return snapshot if _PART.fullmatch(commit) and snapshot.is_dir() else None


def weights_in(snapshot: Path, model: HubModel) -> Path:
    """What of a snapshot is loaded: the folder, if it has safetensors and no file is asked for; else one .gguf file."""
    names = {entry.name for entry in snapshot.iterdir()}
    if model.file is None and (names & {SINGLE_NAME, INDEX_NAME} or not any(name.endswith(".gguf") for name in names)):
        return snapshot
    sizes = {entry.name: entry.stat().st_size for entry in snapshot.glob("*.gguf") if entry.is_file()}
    return snapshot / choose_gguf(sizes, model)


def choose_gguf(sizes: Mapping[str, int], model: HubModel) -> str:
    """The .gguf file that is meant. `sizes`: bytes by name. CheckpointError if there is none, UsageError if several."""
    names = sorted(name for name in sizes if name.endswith(".gguf") and not name.startswith("mmproj"))
    found = names
    if model.file is not None:
        end = re.compile(rf"(.*[-._])?{re.escape(model.file.removesuffix('.gguf'))}\.gguf", re.IGNORECASE)
        found = [name for name in names if name == model.file] or [name for name in names if end.fullmatch(name)]
    if len(found) == 1:
        return found[0]
    asked = f" named {model.file!r:.60}" if model.file else ""
    choices = ", ".join(f"{name} {format_bytes(sizes[name])}" for name in names)[:800]
    if not found:
        raise CheckpointError(f"it has no GGUF file{asked}", fix=f"it has {choices}" if choices else "name another")
    raise UsageError(
        f"{model.repository} has {len(found)} GGUF files{asked}",
        fix=f"choose one by the end of its name, as in {model.repository}:Q4_K_M; there are {choices}",
    )


def existing_parent(folder: Path) -> Path:
    """The folder, or the nearest above it that is there already."""
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in one of the caches. `problem`: why it can't be run, None if it can."""

    name: str
    folder: Path
    num_bytes: int
    problem: str | None


def cached_models() -> Iterator[CachedModel]:
    """Every model of both caches, by name."""
    for folder in sorted(hugging_face_folder(os.environ).glob("models--*--*")):
        organization, name = folder.name.removeprefix("models--").split("--", 1)
        commits = [folder / "refs" / "main", *sorted((folder / "refs").glob("*"))]
        revision = next((commit.name for commit in commits if commit.is_file()), None)
        snapshots = sorted((folder / "snapshots").glob("*"))
        if revision or snapshots:
            model = HubModel(f"{organization}/{name}", f"{organization}/{name}", revision or snapshots[-1].name)
            yield _cached(model, folder)
    for folder in sorted(modelscope_folder(os.environ).glob("*/*")):
        name, _, revision = folder.name.replace("___", ".").partition("@")
        model = HubModel(
            f"{MODELSCOPE}{folder.parent.name}/{name}", f"{folder.parent.name}/{name}", revision or "master", True
        )
        if not folder.parent.name.startswith((".", "_")):
            yield _cached(model, folder)


def _cached(model: HubModel, folder: Path) -> CachedModel:
    files = {file.resolve() for file in folder.rglob("*") if file.is_file()}  # a link and what it names are one file
    num_bytes = sum(file.stat().st_size for file in files)
    snapshot, problem = find_snapshot(model), None
    try:
        if snapshot and len(ggufs := sorted(snapshot.glob("*.gguf"))) > 1:
            paths = ggufs
        else:
            paths = [cached_weights(model)]
        for path in paths:
            describe_runnable(read_config(path), Precision.of(resolve("bf16", "cpu")), model.name)
    except (UnsupportedError, ConfigError) as error:
        problem = f"unsupported: {error.what}"
    except FarthingError as error:
        problem = f"incomplete: {error.what}"
    return CachedModel(model.name, snapshot or folder, num_bytes, problem)


def _expanded(path: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(path)))
