"""A `farthing serve` of one's own: a child on a free loopback port, with a key that nobody else knows.

It ends with its parent, however that ends. Knows the command line of `serve` and the lines by which it tells where it
serves; not what is asked of it.
"""

import asyncio
import re
import secrets
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from farthing.client.connection import DEFAULT_URL, ConnectionLostError, Server
from farthing.errors import FarthingError

_EXIT_MISTAKE = 2
_END_SECONDS = 40.0  # more than a server takes to let its answers end
_QUESTION_SECONDS = 2.0
_MAX_LINE_BYTES = 2**20
_SERVING = re.compile(r"serving \S+ at (\S+)")
_LACKS_ROOM = re.compile(r"\b(fit|fits|memory)\b")


class PrivateServerError(FarthingError):
    """The server did not begin: what it said itself, or how it ended."""


class PrivateServer:
    """Made by `private_server`. `server` is how it is reached."""

    def __init__(self, process: asyncio.subprocess.Process, key: str, say: Callable[[str], None]) -> None:
        self.server = Server(DEFAULT_URL)
        self._process, self._key, self._say = process, key, say
        self._last_lines: deque[str] = deque(maxlen=5)
        self._reading = asyncio.create_task(self._read())
        self._serving = asyncio.Event()

    def gone(self) -> str | None:
        """How it ended, with its last words; None while it runs."""
        if self._process.returncode is None:
            return None
        said = f": {self._last_lines[-1]}" if self._last_lines else ""
        return f"the server of this batch ended with exit code {self._process.returncode}{said}"

    async def begin(self) -> None:
        """Until it serves. PrivateServerError if it ends before."""
        serving = asyncio.create_task(self._serving.wait())
        await asyncio.wait((serving, self._reading), return_when=asyncio.FIRST_COMPLETED)
        serving.cancel()
        if self._serving.is_set():
            return
        code = await self._process.wait()
        if code != _EXIT_MISTAKE:
            raise PrivateServerError(self.gone() or "", fix="farthing serve, with the same flags, may say more")
        what, _, fix = (self._last_lines or [""])[-1].removeprefix("farthing: ").partition(" - ")
        if _LACKS_ROOM.search(what):
            fix = f"{fix}; {await _another_server()}" if fix else await _another_server()
        raise PrivateServerError(what, fix=fix)

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.terminate()
            try:
                async with asyncio.timeout(_END_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        """What it says until it serves is passed on, and what it says of its engine later; its log is not."""
        assert self._process.stderr is not None
        async for data in self._process.stderr:
            line = data.decode(errors="replace").rstrip()
            if not line or line.startswith("{"):
                continue
            self._last_lines.append(line)
            if self._serving.is_set():
                if not line.startswith("try: "):
                    self._say(line)
            elif found := _SERVING.match(line):
                self.server = Server(found[1], self._key)
                self._serving.set()
            elif not line.startswith("farthing: "):
                self._say(line)


@asynccontextmanager
async def private_server(arguments: Sequence[str], say: Callable[[str], None]) -> AsyncIterator[PrivateServer]:
    """`arguments` of `farthing serve` beside address and key. PrivateServerError if it can't begin."""
    key = secrets.token_hex(24)
    folder = tempfile.TemporaryDirectory(prefix="farthing-batch-")
    key_file = Path(folder.name) / "key"
    key_file.touch(0o600)
    key_file.write_text(f"batch:{key}\n")
    own = ("--host", "127.0.0.1", "--port", "0", "--api-keys", str(key_file))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "farthing.client.tethered", "serve", *arguments, *own,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        start_new_session=True, limit=_MAX_LINE_BYTES,
    )  # fmt: skip
    running = PrivateServer(process, key, say)
    try:
        try:
            await running.begin()
        finally:
            folder.cleanup()  # the key has been read: nothing is left behind if this process is killed
        yield running
    finally:
        await running.end()


async def _another_server() -> str:
    """What to do where there is no room for an engine: a server that runs here may be why, and may do it."""
    try:
        async with asyncio.timeout(_QUESTION_SECONDS):
            status, said = await Server(DEFAULT_URL).ask("GET", "/readyz")
    except (TimeoutError, ConnectionLostError):
        return "a server that already runs here? use --server URL"
    if status == 200 and said == "ok":
        return f"a server already runs at {DEFAULT_URL}: use --server {DEFAULT_URL}"
    return "a server that already runs here? use --server URL"
