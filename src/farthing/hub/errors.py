"""What can go wrong with a hub, each as one line that names the next command.

Knows the exceptions of huggingface_hub and of its HTTP client, and what a status means there. Knows no file.
"""

import difflib
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from json import JSONDecodeError

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from farthing.errors import FarthingError, ModelNotFoundError
from farthing.hub.address import hugging_face_endpoint, modelscope_endpoint, shown
from farthing.hub.cache import MODELSCOPE, HubModel
from farthing.models.published_models import published_models


@contextmanager
def told(model: HubModel) -> Iterator[None]:
    """Errors of the network and of the hub come out as FarthingErrors."""
    try:
        yield
    except LocalEntryNotFoundError as error:  # how huggingface_hub wraps what went wrong with a file
        cause = error.__cause__
        raise _meaning(cause if isinstance(cause, Exception) else error, model) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, HFValidationError, JSONDecodeError, OSError) as error:
        raise _meaning(error, model) from None


def _meaning(error: Exception, model: HubModel) -> FarthingError:
    """What `error` tells the user to do."""
    endpoint = shown(modelscope_endpoint() if model.on_modelscope else hugging_face_endpoint())
    where = f"{model.repository} of {endpoint}"
    match error:
        case GatedRepoError():
            return _gated(where, f"{endpoint}/{model.repository}")
        case httpx2.HTTPStatusError() if error.response.headers.get("X-Error-Code") == "GatedRepo":
            return _gated(where, f"{endpoint}/{model.repository}")
        case RevisionNotFoundError():
            return ModelNotFoundError(f"{where} has no revision {model.revision!r:.60}", fix="leave @revision away")
        case RepositoryNotFoundError():
            return _not_found(where, model)
        case OfflineModeIsEnabled():
            return FarthingError("HF_HUB_OFFLINE is set, so nothing is downloaded", fix="unset it")
        case HfHubHTTPError() | httpx2.HTTPStatusError():
            return _status(error.response.status_code, where, model)
        case httpx2.HTTPError():
            return _unreachable(error, endpoint, model)
        case OSError(errno=errno.ENOSPC):
            return FarthingError("the disk is full", fix="free some space; the same command goes on where it stopped")
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return FarthingError(f"{where} can't be fetched: {reason}", fix="check the endpoint, or try again later")


def _gated(where: str, page: str) -> FarthingError:
    return FarthingError(
        f"{where} is gated: its files are only for users who accepted its licence",
        fix=f"accept it at {page}, then log in with `hf auth login` (or set HF_TOKEN)",
    )


def _status(status: int, where: str, model: HubModel) -> FarthingError:
    if status == 404:
        return _not_found(where, model)
    if status in (401, 403):
        fix = "Farthing reads only what is open to all there" if model.on_modelscope else "log in anew: `hf auth login`"
        return FarthingError(f"access to {where} is refused (HTTP {status})", fix=fix)
    fix = "try again later" if status == 429 or status >= 500 else "check the endpoint"
    return FarthingError(f"{where} can't be fetched: HTTP status {status}", fix=fix)


def _not_found(where: str, model: HubModel) -> ModelNotFoundError:
    near = difflib.get_close_matches(model.repository.split("/")[1].lower(), published_models(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    private = "" if model.on_modelscope else "; if it is private, log in: `hf auth login`"
    return ModelNotFoundError(f"there is no {where}", fix=f"{hint}farthing models lists names{private}")


def _unreachable(error: Exception, endpoint: str, model: HubModel) -> FarthingError:
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    mirror = f"; name a mirror in HF_ENDPOINT (https://hf-mirror.com) or take {MODELSCOPE}org/name"
    return FarthingError(
        f"{endpoint} can't be reached: {reason}",
        fix=f"check the connection and HTTPS_PROXY{'' if model.on_modelscope else mirror}; "
        "HF_HUB_OFFLINE=1 uses what is on this machine",
    )
