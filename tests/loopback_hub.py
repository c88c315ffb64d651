"""A hub on loopback, made of files that a test hands in: what huggingface_hub 2.4 and ModelScope's API ask for.

It logs every request and can misbehave: gate a repository, cut a connection, send less or other bytes than it lists.
Asked as an HTTP proxy, it answers for whatever host it is asked about.
"""

import hashlib
import json
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants

from farthing.errors import FarthingError
from farthing.hub import download as hub_module
from farthing.hub.cache import HubModel, find_anywhere

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 512,
    "torch_dtype": "bfloat16",
}
WEIGHTS = random.Random(1).randbytes(3_000_000)
REPOSITORY = "acme/tiny"


def files(**config: object) -> dict[str, bytes]:
    """A repository with one file of weights, and what must never be fetched."""
    return {
        "config.json": json.dumps({**CONFIG, **config}).encode(),
        "tokenizer.json": b"{}",
        "generation_config.json": b'{"temperature": 1.0}',
        "README.md": b"# tiny",
        "modeling_tiny.py": b"raise SystemExit",
        "pytorch_model.bin": b"pickle" * 1000,
        "original/model.safetensors": b"not this one",
        "model.safetensors": WEIGHTS,
    }


@dataclass
class LoopbackHub:
    """`repositories`: "org/name" -> file name -> content. `log`: requests as "METHOD /path" with their headers."""

    repositories: dict[str, dict[str, bytes]]
    gated: dict[str, int] = field(default_factory=dict)  # repository -> status of its files
    cut_once: dict[str, int] = field(default_factory=dict)  # file -> bytes after which the connection is cut, one time
    cut_always: dict[str, int] = field(default_factory=dict)  # file -> bytes that ever come of it
    sends_instead: dict[str, bytes] = field(default_factory=dict)  # file -> what comes in its place
    listing_instead: bytes | None = None  # what comes where a listing is asked for
    stalls: dict[str, int] = field(default_factory=dict)  # file -> bytes after which nothing more comes
    cdn: str | None = None  # an address that weights are redirected to
    ranges: bool = True
    address: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    log: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def requests(self) -> list[str]:
        return [request for request, _ in self.log]

    def files_asked_for(self, method: str = "GET") -> set[str]:
        """Names of the files whose content (or, by HEAD, metadata) was asked for."""
        return {
            name
            for request in self.requests
            if request.startswith(f"{method} ") and (name := _file_in(request.split(" ", 1)[1]))
        }


@contextmanager
def serve(hub: LoopbackHub) -> Iterator[LoopbackHub]:
    """The hub, answering at `hub.address` until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.stopped.set()
        server.shutdown()
        server.server_close()


def running_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A hub with one small repository, and an environment in which there is no other; for a fixture."""
    for name in os.environ:
        if name.startswith(("HF_", "HUGGING", "MODELSCOPE_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # no request but ours
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "modelscope"))
    close_session()
    with serve(LoopbackHub({REPOSITORY: files()})) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.address)
        yield hub
    close_session()


def checksum(name: str, content: bytes) -> str:
    """SHA-256 of weights, git's name of the blob for small files: as the hub has them."""
    if name.endswith((".safetensors", ".gguf", ".bin")):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _file_in(target: str) -> str | None:
    parts = urlsplit(target)
    if "/resolve/" in parts.path:
        return unquote(parts.path.split("/resolve/", 1)[1].split("/", 1)[1])
    return parse_qs(parts.query).get("FilePath", [None])[0]


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            hub.log.append((f"{self.command} {self.path}", {key.lower(): value for key, value in self.headers.items()}))
            path = unquote(urlsplit(self.path).path)
            parts = path.strip("/").split("/")
            if hub.listing_instead is not None and path.startswith("/api/"):
                self.answer(200, hub.listing_instead, {"Content-Type": "application/json"})
            elif path.startswith("/api/v1/models/") and len(parts) >= 6:
                self.modelscope("/".join(parts[3:5]), listing=parts[-1] == "files")
            elif path.startswith("/api/models/"):
                self.hugging_face_listing("/".join(parts[2:4]), "/".join(parts[5:]) or "main")
            elif "resolve" in parts:
                at = parts.index("resolve")
                self.hugging_face_file("/".join(parts[:at]), parts[at + 1], "/".join(parts[at + 2 :]))
            elif parts[0] == "cdn":
                self.content(*next((n, f[n]) for f in hub.repositories.values() for n in f if n == parts[1]))
            else:
                self.refuse(404)

        def refuse(self, status: int, code: str | None = None) -> None:
            body = json.dumps({"error": "refused"}).encode()
            self.answer(status, body, {"X-Error-Code": code} if code else {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def files(self, repository: str, revision: str) -> dict[str, bytes] | None:
            if repository not in hub.repositories:
                self.refuse(404 if "authorization" in self.headers else 401, "RepoNotFound")
                return None
            if revision not in ("main", "v1", COMMIT):
                self.refuse(404, "RevisionNotFound")
                return None
            return hub.repositories[repository]

        def hugging_face_listing(self, repository: str, revision: str) -> None:
            files = self.files(repository, revision)
            if files is None:
                return
            siblings = []
            for name, content in files.items():
                entry = {"rfilename": name, "size": len(content), "blobId": checksum(name, content)}
                if len(checksum(name, content)) == 64:
                    entry["lfs"] = {"size": len(content), "sha256": checksum(name, content), "pointerSize": 130}
                siblings.append(entry)
            body = json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode()
            self.answer(200, body, {"Content-Type": "application/json"})

        def hugging_face_file(self, repository: str, revision: str, name: str) -> None:
            files = self.files(repository, revision)
            if files is None:
                return
            if repository in hub.gated:
                self.refuse(hub.gated[repository], "GatedRepo")
            elif name not in files:
                self.refuse(404, "EntryNotFound")
            elif hub.cdn and len(checksum(name, files[name])) == 64:
                headers = {"Location": f"{hub.cdn}/cdn/{name}", "X-Linked-Size": str(len(files[name]))}
                headers |= {"X-Linked-Etag": f'"{checksum(name, files[name])}"', "X-Repo-Commit": COMMIT}
                self.answer(302, b"", headers)
            else:
                self.content(name, files[name])

        def modelscope(self, repository: str, *, listing: bool) -> None:
            files = hub.repositories.get(repository)
            if files is None:
                self.refuse(404)
            elif listing:
                entries = [
                    {"Path": n, "Type": "blob", "Size": len(c), "Sha256": hashlib.sha256(c).hexdigest()}
                    for n, c in files.items()
                ]
                self.answer(200, json.dumps({"Code": 200, "Data": {"Files": entries}}).encode(), {})
            else:
                name = parse_qs(urlsplit(self.path).query)["FilePath"][0]
                self.content(name, files[name])

        def content(self, name: str, listed: bytes) -> None:
            body = hub.sends_instead.get(name, listed)
            body = body[: hub.cut_always.get(name, len(body))] if self.command == "GET" else body
            headers = {"ETag": f'"{checksum(name, listed)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            wanted = self.headers.get("Range")
            if wanted is None or not hub.ranges:
                status, part = 200, body
            else:
                first, last = wanted.removeprefix("bytes=").split("-")
                part = body[int(first) : int(last) + 1 if last else None]
                if not part:
                    self.refuse(416)
                    return
                status = 206
                headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(body)}"
            if self.command == "GET" and name in hub.cut_once:
                self.close_connection = True
                headers["Content-Length"] = str(len(part))
                part = part[: hub.cut_once.pop(name)]
            if self.command == "GET" and name in hub.stalls:
                headers["Content-Length"] = str(len(part))
                self.answer(status, part[: hub.stalls[name]], headers)
                self.wfile.flush()
                hub.stopped.wait(30)
                self.close_connection = True
                return
            self.answer(status, part, headers)

    return Handler


def model(text: str = REPOSITORY, file: str | None = None) -> HubModel:
    found = find_anywhere(text, file=file)
    assert isinstance(found, HubModel)
    return found


def pull(text: str = REPOSITORY, **options: object) -> Path:
    came = []
    offer = hub_module.inspect(model(text))
    missing_bytes = offer.num_bytes - offer.present_bytes
    path = hub_module.download(offer, came.append, pause_seconds=0.001, **options)  # type: ignore[arg-type]
    assert sum(came) == missing_bytes
    return path


def refusal(text: str = REPOSITORY, **options: object) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        pull(text, **options)
    assert "\n" not in str(caught.value)
    return caught.value
