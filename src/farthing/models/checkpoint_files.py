"""Which files of a folder hold a model's weights, and which tensors each of them holds.

Names in an index are untrusted: a shard is a file of this very folder. Pickles (.bin, .pt, .pth, .ckpt) are refused by
name and never opened. Knows no model; models/safetensors_header.py reads the headers, runtime/checkpoint.py the data.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farthing.errors import CheckpointError, ModelNotFoundError
from farthing.models.safetensors_header import TensorEntry, read_safetensors_header

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_SHARD_NAME = re.compile(r"\w[\w.\- ]*\.safetensors")
_MAX_INDEX_BYTES = 32 * 2**20  # 90,000 tensors, the most that were published, take 9 MB
_CONVERT = "pickles can run code, so Farthing never opens them; convert the checkpoint to safetensors"
_DAMAGED = "download the checkpoint again, with all of its files"


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """Either one GGUF file or one or more safetensors files; `index` has the tensors of each file by file name."""

    files: tuple[Path, ...]
    index: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def is_gguf(self) -> bool:
        return self.files[0].suffix == ".gguf"


def find_weights(path: Path) -> WeightFiles:
    """The weights of `path`: a folder, a .safetensors or a .gguf file.

    In a folder: model.safetensors, else the shards of its index, else the one .gguf file. ModelNotFoundError if there
    is no such path, CheckpointError if it has no weights that Farthing reads.
    """
    try:
        if path.is_dir():
            return _in_folder(path)
        if not path.is_file():
            raise ModelNotFoundError(f"there is no {path}", fix="give a folder, a .safetensors or a .gguf file")
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}", fix="check its permissions") from None
    if path.suffix in _PICKLES:
        raise CheckpointError(f"{path} is a pickle", fix=_CONVERT)
    if path.suffix not in (".safetensors", ".gguf"):
        raise CheckpointError(
            f"{path} is neither .safetensors nor .gguf", fix="give a checkpoint of one of these kinds"
        )
    return WeightFiles((path,))


def read_entries(weights: WeightFiles) -> dict[str, tuple[Path, TensorEntry]]:
    """Every tensor of safetensors files, with its file. CheckpointError if the files and their index disagree."""
    found: dict[str, tuple[Path, TensorEntry]] = {}
    for file in weights.files:
        entries = read_safetensors_header(file)
        named = weights.index.get(file.name, entries.keys())
        for problem, names in (("lacks", named - entries.keys()), ("has, without the index,", entries.keys() - named)):
            if names:
                first = min(names)[:100]
                raise CheckpointError(f"{file} {problem} {len(names)} tensors such as {first!r}", fix=_DAMAGED)
        found |= {name: (file, entry) for name, entry in entries.items()}
    return found


def _in_folder(folder: Path) -> WeightFiles:
    names = sorted(entry.name for entry in folder.iterdir())
    if SINGLE_NAME in names:
        return WeightFiles((_in_this_folder(folder, SINGLE_NAME),))
    if INDEX_NAME in names:
        index = read_index(_in_this_folder(folder, INDEX_NAME))
        return WeightFiles(tuple(_in_this_folder(folder, name) for name in sorted(index)), index)
    ggufs = [name for name in names if name.endswith(".gguf")]
    if len(ggufs) == 1:
        return WeightFiles((_in_this_folder(folder, ggufs[0]),))
    if ggufs:
        raise CheckpointError(f"{folder} holds {len(ggufs)} GGUF files", fix=f"name one, such as {folder / ggufs[0]}")
    pickles = [name for name in names if Path(name).suffix in _PICKLES]
    if pickles:
        raise CheckpointError(f"{folder} has its weights in pickles ({pickles[0]!r:.60})", fix=_CONVERT)
    raise CheckpointError(f"{folder} holds no {SINGLE_NAME}, no {INDEX_NAME} and no .gguf file", fix=_DAMAGED)


def _in_this_folder(folder: Path, name: str) -> Path:
    """`folder / name`, if it is a file of this very folder, or of the blobs of the Hugging Face cache around it."""
    file = folder / name
    try:
        home, real = folder.resolve(), file.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        raise CheckpointError(f"{file} is missing", fix=_DAMAGED) from None
    homes = [home]
    if home.parent.name == "snapshots":
        repository = home.parent.parent
        homes.append((repository / "blobs").resolve())
        if re.fullmatch(r"[0-9a-f]{2}", real.parent.name):  # blobs that all repositories of the cache share
            homes.append((repository.parent / "blobs" / real.parent.name).resolve())
    if real.parent not in homes or not real.is_file():
        raise CheckpointError(f"{file} is a link out of its folder, or no file", fix="put the file itself there")
    return file


def read_index(file: Path) -> dict[str, frozenset[str]]:
    """The tensor names of each shard, from the index file."""
    if file.stat().st_size > _MAX_INDEX_BYTES:
        raise CheckpointError(f"{file} is larger than {_MAX_INDEX_BYTES} bytes", fix=_DAMAGED)
    try:
        parsed = json.loads(file.read_bytes(), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} is not valid JSON ({error})", fix=_DAMAGED) from None
    weight_map = parsed.get("weight_map") if isinstance(parsed, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{file} has no weight_map", fix=_DAMAGED)
    shards: dict[str, list[str]] = {}
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not _SHARD_NAME.fullmatch(shard):
            fix = _CONVERT if Path(str(shard)).suffix in _PICKLES else _DAMAGED
            raise CheckpointError(f"{file} names {shard!r:.100}, which is no .safetensors file of its folder", fix=fix)
        shards.setdefault(shard, []).append(tensor)
    return {shard: frozenset(tensors) for shard, tensors in shards.items()}


def _without_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found
