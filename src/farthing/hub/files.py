"""Which files of a repository are fetched: configuration and tokenizer, and safetensors or one GGUF file.

Pickles and programs are never asked for, whatever the repository names. Knows names, sizes and sums, not where they
come from: hub/download.py and hub/modelscope.py list them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from farthing.errors import CheckpointError
from farthing.hub.cache import HubModel, choose_gguf
from farthing.models.checkpoint_files import INDEX_NAME, SINGLE_NAME

CONFIG_NAME = "config.json"
# Read before anything else is decided: what the model is, where its weights lie, whether they are quantized.
_FIRST = (CONFIG_NAME, INDEX_NAME, "hf_quant_config.json", "quantize_config.json", "quant_config.json")
_BESIDE = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_NAME = re.compile(r"\w[\w.+\- ]*")
_CHECKSUM = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_SMALL_BYTES = 256 * 2**20  # a tokenizer.json of 256,000 tokens takes 33 MB


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it. `checksum`: SHA-256, or git's SHA-1 of a small file; None where it gives none."""

    name: str
    num_bytes: int
    checksum: str | None


Listing = Mapping[str, RemoteFile]


def listing_of(files: Iterable[tuple[str, int, str | None]]) -> Listing:
    """Name, bytes and checksum of the files in the top folder. A hub is not trusted: names and checksums become paths.

    A name with anything unusual in it is left out, a checksum that is none is None.
    """
    return {
        name: RemoteFile(name, num_bytes, checksum if checksum and _CHECKSUM.fullmatch(checksum) else None)
        for name, num_bytes, checksum in files
        if _NAME.fullmatch(name)
    }


def needed_first(listing: Listing, model: HubModel) -> tuple[RemoteFile, ...]:
    """The small files that tell what the model is; none for a GGUF file, which says so itself."""
    if gguf_of(listing, model) is not None:
        return ()
    return _small(listing, _FIRST)


def needed_beside(listing: Listing) -> tuple[RemoteFile, ...]:
    """The other small files of a safetensors checkpoint."""
    return _small(listing, _BESIDE)


def gguf_of(listing: Listing, model: HubModel) -> RemoteFile | None:
    """The GGUF file to fetch; None if the repository has safetensors and no GGUF file was asked for.

    CheckpointError if it has neither, UsageError if it has several GGUF files and none was chosen.
    """
    if model.file is None and (SINGLE_NAME in listing or INDEX_NAME in listing):
        return None
    if model.file is None and not any(name.endswith(".gguf") for name in listing):
        pickles = next((name for name in listing if Path(name).suffix in _PICKLES), None)
        found = f"only pickles ({pickles})" if pickles else "no weights"
        raise CheckpointError(
            f"it has {found}", fix="take a repository with safetensors or GGUF files; pickles are never downloaded"
        )
    return listing[choose_gguf({name: file.num_bytes for name, file in listing.items()}, model)]


def shards_of(listing: Listing, shards: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    """model.safetensors, or the `shards` that its index names. CheckpointError if the repository lacks one."""
    names = (SINGLE_NAME,) if SINGLE_NAME in listing else shards
    for name in names:
        if name not in listing:
            raise CheckpointError(f"{name} of its index is not in the repository", fix="take another revision")
    return tuple(listing[name] for name in names)


def _small(listing: Listing, names: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    found = tuple(listing[name] for name in names if name in listing)
    for file in found:
        if file.num_bytes > _MAX_SMALL_BYTES:
            raise CheckpointError(f"{file.name} has {file.num_bytes} bytes", fix="take another repository")
    return found
