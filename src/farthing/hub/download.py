"""A model from a hub: what it is and how large, before any weight is fetched; then its files, into the hub's own cache.

Hugging Face is spoken to by huggingface_hub (listing, cache), ModelScope by modelscope.py; the files of both come by
transfer.py. Loaded by name, because the base install has no huggingface_hub. Knows no terminal.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from huggingface_hub import HfApi, get_session, get_token, hf_hub_download, hf_hub_url
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, logging  # type: ignore[attr-defined]

from farthing import __version__
from farthing.errors import CheckpointError, FarthingError, UnsupportedError
from farthing.hub.address import hugging_face_endpoint, shown
from farthing.hub.cache import HubModel, existing_parent, hugging_face_folder, weights_in
from farthing.hub.errors import told
from farthing.hub.files import Listing, RemoteFile, gguf_of, listing_of, needed_beside, needed_first, shards_of
from farthing.hub.modelscope import ModelScope
from farthing.hub.transfer import Progress, Transfer, fetch_all, fetch_head
from farthing.models.auto import read_config
from farthing.models.checkpoint_files import INDEX_NAME, find_weights, read_index
from farthing.models.config_reader import ConfigReader
from farthing.models.runnable import describe_runnable
from farthing.models.spec import Precision
from farthing.quantization.base import resolve
from farthing.units import format_bytes

_DISK_MARGIN_BYTES = 512 * 2**20
_TIMEOUT_SECONDS = 10.0
_GGUF_HEAD_BYTES = (2**20, 16 * 2**20, 64 * 2**20)  # most of a header is the vocabulary
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Hub(Protocol):
    """One repository at one revision. `folder`: where its files come to lie; `source`: its page."""

    model: HubModel
    source: str
    folder: Path
    listing: Listing

    def has(self, file: RemoteFile) -> bool:
        """Does this very file lie in the folder?"""

    def transfer(self, file: RemoteFile) -> Transfer:
        """From where to where it is fetched."""

    def lay(self, file: RemoteFile) -> None:
        """Make what was fetched appear in the folder."""

    def finish(self) -> None:
        """All files lie there: from now on the revision means this folder."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a hub has: `config` says what the model is; `small` and `weights` are all files that it takes to run it."""

    hub: Hub
    config: ConfigReader
    small: tuple[RemoteFile, ...]
    weights: tuple[RemoteFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in (*self.small, *self.weights))

    @property
    def present_bytes(self) -> int:
        """What of it is on this machine already, whole files and begun ones."""
        return sum(
            file.num_bytes if self.hub.has(file) else self.hub.transfer(file).present_bytes
            for file in (*self.small, *self.weights)
        )


class HuggingFace:
    """A repository of huggingface.co, or of the mirror that HF_ENDPOINT names."""

    def __init__(self, model: HubModel) -> None:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        disable_progress_bars()
        self.model = model
        self.endpoint = hugging_face_endpoint()
        self._token = get_token() or False
        api = HfApi(self.endpoint, token=self._token, library_name="farthing", library_version=__version__)
        try:
            info = api.model_info(
                model.repository, revision=model.revision, files_metadata=True, timeout=_TIMEOUT_SECONDS
            )
            self._commit = info.sha or ""
            self.listing: Listing = listing_of(
                (file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else file.blob_id)
                for file in info.siblings or ()
            )
        except (AttributeError, KeyError, TypeError):
            self._commit = ""
        if not _COMMIT.fullmatch(self._commit):
            raise FarthingError(f"{shown(self.endpoint)} answers in no form that is known", fix="check HF_ENDPOINT")
        self.source = f"{shown(self.endpoint)}/{model.repository}/tree/{self._commit[:12]}"
        self.folder = model.folder / "snapshots" / self._commit

    def has(self, file: RemoteFile) -> bool:
        return (self.folder / file.name).is_file()

    def transfer(self, file: RemoteFile) -> Transfer:
        url = hf_hub_url(self.model.repository, file.name, revision=self._commit, endpoint=self.endpoint)
        blob = self.model.folder / "blobs" / (file.checksum or f"{self._commit}-{file.name}")
        headers = build_hf_headers(token=self._token, library_name="farthing", library_version=__version__)
        return Transfer(url, blob, file.num_bytes, file.checksum, headers)

    def lay(self, file: RemoteFile) -> None:
        """huggingface_hub finds the blob in its cache and links to it."""
        hf_hub_download(
            self.model.repository,
            file.name,
            revision=self._commit,
            cache_dir=hugging_face_folder(os.environ),
            endpoint=self.endpoint,
            token=self._token,
            library_name="farthing",
            library_version=__version__,
        )

    def finish(self) -> None:
        if self.model.revision != self._commit:
            reference = self.model.folder / "refs" / self.model.revision
            reference.parent.mkdir(parents=True, exist_ok=True)
            reference.write_text(self._commit, encoding="utf-8")


def _open(model: HubModel) -> Hub:
    return ModelScope(model, get_session()) if model.on_modelscope else HuggingFace(model)


def inspect(model: HubModel) -> Offer:
    """What the hub has of this model: reads its listing, config and index, no weights.

    FarthingError, naming the next command, if it is not there, not open to the user, or nothing that Farthing runs.
    """
    runnable = partial(_runnable, model=model)
    with told(model):
        hub = _open(model)
        try:
            gguf = gguf_of(hub.listing, model)
            first = needed_first(hub.listing, model)
            _fetch(hub, first, lambda num_bytes: None)
            if gguf is not None:
                return Offer(hub, _config_of_gguf(hub, gguf, runnable), (), (gguf,))
            config = runnable(hub.folder)
            shards = tuple(read_index(hub.folder / INDEX_NAME)) if INDEX_NAME in hub.listing else ()
            weights = shards_of(hub.listing, shards)
        except CheckpointError as error:
            raise CheckpointError(f"{model.name} can't be run: {error.what}", fix=error.fix) from None
    return Offer(hub, config, (*first, *needed_beside(hub.listing)), weights)


def remote_config(model: HubModel) -> ConfigReader:
    """What the hub says of this model's dimensions, also of one that can only be planned. No weights are fetched."""
    with told(model):
        hub = _open(model)
        gguf = gguf_of(hub.listing, model)
        if gguf is not None:
            return _config_of_gguf(hub, gguf, read_config)
        _fetch(hub, needed_first(hub.listing, model), lambda num_bytes: None)
        return read_config(hub.folder)


def download(
    offer: Offer,
    progress: Progress,
    *,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    pause_seconds: float = 1.0,
) -> Path:
    """Fetch what is missing; the folder or .gguf file to load. FarthingError if the disk has no room for it."""
    hub = offer.hub
    missing_bytes, free = offer.num_bytes - offer.present_bytes, free_bytes(existing_parent(hub.folder))
    if missing_bytes and free < missing_bytes + _DISK_MARGIN_BYTES:
        raise FarthingError(
            f"{offer.hub.model.name} takes {format_bytes(missing_bytes)} more, and {hub.folder} has "
            f"{format_bytes(free)} free ({format_bytes(_DISK_MARGIN_BYTES)} are to stay free)",
            fix="free some space, or point HF_HOME (MODELSCOPE_CACHE) at a larger disk",
        )
    with told(hub.model):
        _fetch(hub, offer.small, progress, pause_seconds)
        _fetch(hub, offer.weights, progress, pause_seconds)
        hub.finish()
    path = weights_in(hub.folder, hub.model)
    find_weights(path)
    return path


def _fetch(hub: Hub, files: Sequence[RemoteFile], progress: Progress, pause_seconds: float = 1.0) -> None:
    """Fetch those of the files that are not in the folder, and lay them there."""
    missing = [file for file in files if not hub.has(file)]
    for file in missing:
        (hub.folder / file.name).unlink(missing_ok=True)  # of another revision, or a link to nothing
    transfers = {transfer.path: transfer for transfer in map(hub.transfer, missing)}  # two files may be one blob
    fetch_all(tuple(transfers.values()), get_session(), progress, pause_seconds=pause_seconds)
    for file in missing:
        hub.lay(file)


def _config_of_gguf(hub: Hub, file: RemoteFile, read: Callable[[Path], ConfigReader]) -> ConfigReader:
    """The config in the header of a GGUF file, of which no more than the beginning is fetched.

    A header that goes on behind it is refused by the reader: zeros are a tensor without dimensions. Then more is taken.
    """
    if hub.has(file):
        return read(hub.folder / file.name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(file.name).name
        for num_bytes in _GGUF_HEAD_BYTES:
            fetch_head(hub.transfer(file), get_session(), num_bytes, path)
            try:
                return read(path)
            except (CheckpointError, UnsupportedError) as error:
                whole = num_bytes >= min(file.num_bytes, _GGUF_HEAD_BYTES[-1])
                if whole or isinstance(error, UnsupportedError):
                    raise type(error)(error.what.replace(f"{folder}/", ""), fix=error.fix) from None
    raise AssertionError("the last size returns or raises")


def _runnable(path: Path, model: HubModel) -> ConfigReader:
    """The config of what Farthing runs. UnsupportedError names an architecture or a quantization that it does not."""
    config = read_config(path)
    describe_runnable(config, Precision.of(resolve("bf16", "cpu")), model.name)
    return config
