"""Whether a server is there: asked every few seconds, so that who sends it requests waits while it is not.

A server that restarts its engine, or that is restarted itself, comes back. One that stays away too long is given up.
Knows no request but the question.
"""

import asyncio
import time
from collections.abc import Callable

from farthing.client.connection import ConnectionLostError, Server
from farthing.errors import FarthingError

_CALM_SECONDS, _HASTY_SECONDS = 5.0, 0.5
_QUESTION_SECONDS = 20.0
SILENT_SECONDS = 60.0  # then what was asked before will hardly be answered any more


class ServerAwayError(FarthingError):
    """The server has not answered for too long, or is gone for good."""


class Presence:
    """`gone`: tells why the server won't ever come back, or None. `say` is told when it goes away and comes back."""

    def __init__(
        self,
        server: Server,
        *,
        away_seconds: float,
        gone: Callable[[], str | None] = lambda: None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._server, self._away_seconds, self._gone, self._say = server, away_seconds, gone, say
        self._there = asyncio.Event()
        self._there.set()
        self._asked_early = asyncio.Event()
        self.silent = asyncio.Event()
        """Set while the server has not answered any question for a minute."""

    async def wait(self) -> None:
        """Until the server answers."""
        await self._there.wait()

    def doubt(self) -> None:
        """A request was not answered: nobody goes on before the server has been asked."""
        self._there.clear()
        self._asked_early.set()

    async def watch(self) -> None:
        """Asks until it is cancelled. ServerAwayError if the server stays away."""
        away_since: float | None = None
        while True:
            self._asked_early.clear()
            reason = self._gone() or await self._ask()
            if reason is None:
                if away_since is not None:
                    self._say("the server is back")
                away_since = None
                self._there.set()
                self.silent.clear()
            else:
                self._there.clear()
                if away_since is None:
                    away_since = time.monotonic()
                    self._say(f"waiting for the server: {reason}")
                away = time.monotonic() - away_since
                if away > SILENT_SECONDS:
                    self.silent.set()
                if away > self._away_seconds or self._gone() is not None:
                    raise ServerAwayError(reason)
            await self._pause(_CALM_SECONDS if away_since is None else _HASTY_SECONDS)

    async def _ask(self) -> str | None:
        """Why it is not there. A server that knows no /readyz is there if it says so."""
        try:
            async with asyncio.timeout(_QUESTION_SECONDS):
                status, said = await self._server.ask("GET", "/readyz")
        except TimeoutError:
            return f"{self._server.url} does not answer"
        except ConnectionLostError as error:
            return error.what
        return f"it says {str(said)[:40]!r}" if status >= 500 else None

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._asked_early.wait()
        except TimeoutError:
            pass
        else:
            await asyncio.sleep(_HASTY_SECONDS / 5)  # many may doubt at a time
