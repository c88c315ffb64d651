"""The page at `/`: a chat and the ledger's gauges, for a browser. Static files alone, each named here.

They hold no data, so they need no key; the page asks the other routes for everything, as any client does. No path of a
request is ever joined to a folder, and the policy in the headers lets the page load, and ask, nothing elsewhere. The
files are in web/, read once.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from farthing.server.desk import Desk

_FOLDER = Path(__file__).parent / "web"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_NAMES = (
    "api.js", "archive.js", "chat.js", "dom.js", "early.js", "events.js", "format.js", "gauges.js", "history.js",
    "icon.svg", "inline.js", "labels.js", "main.js", "markdown.js", "message.js", "panels.js", "plots.js",
    "run.js", "settings.js", "spoken.js", "storage.js", "style.css", "words.en.js", "words.zh.js",
)  # fmt: skip
_FILES = {"/": "index.html", **{f"/web/{name}": name for name in _NAMES}}
PATHS = tuple(_FILES)
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"  # no text becomes markup, by whatever way
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # asked for each time, and sent only if it changed
}


@dataclass(frozen=True, slots=True)
class _StaticFile:
    """A file as it is sent: `tag` changes with its content."""

    body: bytes
    type: str
    tag: str

    async def answer(self, request: Request) -> Response:
        headers = {**_HEADERS, "etag": self.tag}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if self.tag in known:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers={**headers, "content-type": f"{self.type}; charset=utf-8"})


def router(_desk: Desk) -> APIRouter:
    routes = APIRouter()
    for path, name in _FILES.items():
        routes.add_route(path, _read(_FOLDER / name).answer, methods=["GET"], include_in_schema=False)
    return routes


def _read(path: Path) -> _StaticFile:
    body = path.read_bytes()
    return _StaticFile(body, _TYPES[path.suffix], f'"{sha256(body).hexdigest()[:32]}"')
