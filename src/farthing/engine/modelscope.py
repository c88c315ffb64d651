"""A repository of modelscope.cn: its listing and its files, through the API that the package modelscope uses.

Knows the API's addresses and keys (api/v1/models/ORG/NAME/repo). Knows no Hugging Face; hub.py treats both alike.
"""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from urllib.parse import quote

import httpx2

from farthing.engine.hub_cache import HubModel
from farthing.engine.hub_files import Listing, RemoteFile, checked_sum
from farthing.engine.transfer import Transfer, fetch
from farthing.errors import FarthingError

_HOST = "www.modelscope.cn"
_TIMEOUT_SECONDS = 10.0


def modelscope_endpoint() -> str:
    """MODELSCOPE_DOMAIN (a host, or an address), else modelscope.cn."""
    domain = (os.environ.get("MODELSCOPE_DOMAIN") or _HOST).rstrip("/")
    return domain if "://" in domain else f"https://{domain}"


class ModelScope:
    """The files of one repository at one revision, which come to lie in the cache of the package modelscope."""

    def __init__(self, model: HubModel, client: httpx2.Client) -> None:
        self.model, self.folder, self._client = model, model.folder, client
        endpoint = modelscope_endpoint()
        self.source = f"{endpoint}/models/{model.repository}"
        self._api = f"{endpoint}/api/v1/models/{model.repository}/repo"
        response = client.get(
            f"{self._api}/files",
            params={"Revision": model.revision, "Recursive": "true"},
            timeout=_TIMEOUT_SECONDS,
        )
        response.raise_for_status()
        self.listing: Listing = {file.name: file for file in _files(response.json(), endpoint)}

    def fetch_small(self, file: RemoteFile) -> None:
        """Whole at once; a file of an earlier revision is replaced."""
        path = self.folder / file.name
        if path.exists() and not _is(path.read_bytes(), file):
            path.unlink()
        fetch(self.transfer(file), self._client, lambda num_bytes: None, threading.Event())

    def transfer(self, file: RemoteFile) -> Transfer:
        url = f"{self._api}?Revision={quote(self.model.revision, safe='')}&FilePath={quote(file.name, safe='')}"
        return Transfer(url, self.folder / file.name, file.num_bytes, file.checksum)

    def finish(self, weights: Sequence[RemoteFile]) -> None:
        """Nothing: the files lie where they belong."""


def _files(answer: object, endpoint: str) -> list[RemoteFile]:
    """The files out of the API's answer."""
    try:
        assert isinstance(answer, Mapping)
        entries = answer["Data"]["Files"]
        return [
            RemoteFile(str(entry["Path"]), int(entry["Size"]), checked_sum(entry.get("Sha256")))
            for entry in entries
            if entry["Type"] != "tree"
        ]
    except (AssertionError, KeyError, TypeError, ValueError):
        raise FarthingError(f"{endpoint} answers in no form that is known", fix="check MODELSCOPE_DOMAIN") from None


def _is(content: bytes, file: RemoteFile) -> bool:
    return len(content) == file.num_bytes and file.checksum in (None, hashlib.sha256(content).hexdigest())
