"""Where the hubs are: addresses out of the environment, checked; and as they may be shown, without name and password.

Standard library only. Knows no protocol.
"""

import os
from urllib.parse import urlsplit, urlunsplit

from farthing.errors import UsageError

HUGGING_FACE = "https://huggingface.co"
MODELSCOPE = "https://www.modelscope.cn"


def hugging_face_endpoint() -> str:
    """HF_ENDPOINT, else huggingface.co. UsageError if it is no address."""
    return _checked("HF_ENDPOINT", os.environ.get("HF_ENDPOINT") or HUGGING_FACE)


def modelscope_endpoint() -> str:
    """MODELSCOPE_DOMAIN (a host, or an address), else modelscope.cn. UsageError if it is none."""
    domain = os.environ.get("MODELSCOPE_DOMAIN") or MODELSCOPE
    return _checked("MODELSCOPE_DOMAIN", domain if "://" in domain else f"https://{domain}")


def shown(address: str) -> str:
    """The address without the name and the password that may stand in it."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _checked(variable: str, address: str) -> str:
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise UsageError(f"{variable} is no address", fix=f"write it as {HUGGING_FACE}")
    return address.rstrip("/")
