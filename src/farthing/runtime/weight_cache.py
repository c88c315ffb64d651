"""Weights that were rounded while loading, kept on disk as they lie in memory: the next start reads and rounds nothing.

One safetensors file for each checkpoint, format and layout of a kernel backend. Its name tells what it was made from,
so that one of another time is never met; a damaged one is made anew. Knows no rounding; runtime/loader.py asks and
gives.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from farthing import __version__
from farthing.errors import CheckpointError
from farthing.runtime.checkpoint import open_checkpoint
from farthing.runtime.checkpoint_safetensors import DTYPES
from farthing.runtime.staging import Way
from farthing.units import format_bytes

LEAST_BYTES = 64 * 2**20  # fewer are rounded in no time
_REVISION = 1  # to be raised when rounding or a layout changes between versions
_DTYPE_NAMES = {dtype: name for name, (dtype, _) in DTYPES.items()}

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class WeightCache:
    """The file that holds the weights of one checkpoint in one format. What a person should know is said on standard
    error; nothing here ever fails a load."""

    path: Path
    stem: str  # of the names of all files of this checkpoint and format, whenever made
    format_name: str

    def read_into(self, tensors: Tensors, way: Way, read: Callable[[int], None]) -> bool:
        """Fill all `tensors` from the file; False, and nothing is promised of them, if there is no sound one.

        `way`: to where they are. `read(num_bytes)` is called after each.
        """
        if not self.path.is_file():
            return False
        try:
            with closing(open_checkpoint(self.path)) as kept:
                found = {name: (kept.shape(name), kept.stored_as(name)) for name in kept.names}
                wanted = {name: (tuple(x.shape), DTYPES[_DTYPE_NAMES[x.dtype]][1]) for name, x in tensors.items()}
                if found != wanted:
                    raise CheckpointError(f"{self.path} holds other tensors")
                for name, tensor in tensors.items():
                    way.copy(kept.read(name), tensor)
                    read(tensor.nbytes)
        except CheckpointError as error:
            _say(f"note: kept weights are left unused and made anew: {error.what}")
            return False
        return True

    def write(self, tensors: Tensors) -> None:
        """Keep the tensors, in place of what an older state of the checkpoint has left. The file appears at once; it is
        not forced to the disk, which takes seconds: what a power cut leaves of it is too short, and made anew."""
        folder, num_bytes = self.path.parent, sum(tensor.nbytes for tensor in tensors.values())
        _say(f"keeping the weights in {self.format_name} for the next start: {format_bytes(num_bytes)} in {folder}")
        partial: Path | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if shutil.disk_usage(folder).free < 2 * num_bytes:
                raise OSError(0, "the disk is nearly full")
            descriptor, name = tempfile.mkstemp(dir=folder, prefix="writing-")
            partial = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_header(tensors))
                for tensor in tensors.values():
                    file.write(memoryview(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy()))
            for old in folder.glob(f"{self.stem}-*.safetensors"):
                old.unlink(missing_ok=True)
            partial.replace(self.path)
        except OSError as error:
            _say(f"note: the weights can't be kept in {folder}: {error.strerror or error} (--no-cache leaves it out)")
            if partial is not None:
                partial.unlink(missing_ok=True)


def weight_cache(
    sources: Sequence[Path], *, format_name: str, layout: str, shapes: Mapping[str, object]
) -> WeightCache:
    """The cache of what the files `sources` become; `shapes` of all tensors that it holds."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    made_from = json.dumps([_REVISION, __version__, layout, format_name, files, sorted(shapes.items())])
    name = sources[0].resolve().parent.name if len(sources) > 1 or sources[0].suffix != ".gguf" else sources[0].stem
    place = hashlib.sha256(files[0][0].encode()).hexdigest()[:8]
    stem = f"{''.join(c if c.isalnum() or c in '.-' else '_' for c in name)[:60]}-{format_name}-{layout}-{place}"
    path = _folder() / f"{stem}-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.safetensors"
    return WeightCache(path, stem, format_name)


def _folder() -> Path:
    return Path(platformdirs.user_cache_dir("farthing")) / "weights"


def _header(tensors: Tensors) -> bytes:
    """The header of a safetensors file with these tensors, one after the other; padded, so that they lie aligned."""
    entries: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
