"""A repository of modelscope.cn: its listing and its files, through the API that the package modelscope uses.

Knows the API's addresses and keys (api/v1/models/ORG/NAME/repo). Knows no Hugging Face; download.py treats both alike.
"""

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from farthing.errors import FarthingError
from farthing.hub.address import modelscope_endpoint, shown
from farthing.hub.cache import HubModel
from farthing.hub.files import Listing, RemoteFile, listing_of
from farthing.hub.transfer import Transfer

_TIMEOUT_SECONDS = 10.0
_MAX_HASHED_BYTES = 64 * 2**20


class ModelScope:
    """The files of one repository at one revision, which come to lie in the cache of the package modelscope."""

    def __init__(self, model: HubModel, client: httpx2.Client) -> None:
        self.model, self.folder = model, model.folder
        endpoint = modelscope_endpoint()
        self.source = f"{shown(endpoint)}/models/{model.repository}"
        self._api = f"{endpoint}/api/v1/models/{model.repository}/repo"
        response = client.get(
            f"{self._api}/files",
            params={"Revision": model.revision, "Recursive": "true"},
            timeout=_TIMEOUT_SECONDS,
        )
        response.raise_for_status()
        self.listing: Listing = _listing(response.json(), shown(endpoint))

    def has(self, file: RemoteFile) -> bool:
        """By size, and by checksum where that takes no time: there is one folder for all commits of a branch."""
        path = self.folder / file.name
        if not path.is_file() or path.stat().st_size != file.num_bytes:
            return False
        if file.num_bytes > _MAX_HASHED_BYTES or file.checksum is None:
            return True
        return hashlib.sha256(path.read_bytes()).hexdigest() == file.checksum

    def transfer(self, file: RemoteFile) -> Transfer:
        url = f"{self._api}?Revision={quote(self.model.revision, safe='')}&FilePath={quote(file.name, safe='')}"
        return Transfer(url, self._fetched(file), file.num_bytes, file.checksum)

    def lay(self, file: RemoteFile) -> None:
        os.replace(self._fetched(file), self.folder / file.name)

    def finish(self) -> None:
        """Nothing: the folder is the revision's own."""

    def _fetched(self, file: RemoteFile) -> Path:
        """Named by content, too, so that what came of one commit is not gone on with in another."""
        return self.folder / f".{file.name}-{(file.checksum or '')[:16]}"


def _listing(answer: Any, endpoint: str) -> Listing:
    """The files out of the API's answer."""
    try:
        entries = [entry for entry in answer["Data"]["Files"] if entry["Type"] != "tree"]
        return listing_of((str(entry["Path"]), int(entry["Size"]), entry.get("Sha256")) for entry in entries)
    except (KeyError, TypeError, ValueError):
        raise FarthingError(f"{endpoint} answers in no form that is known", fix="check MODELSCOPE_DOMAIN") from None
