"""`farthing top`: a running server, watched: its ledger asked for again and again, and drawn.

Knows flags, when to ask, and what is said of a server that doesn't answer; cli/top_view.py knows how it looks.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.live import Live

from farthing.cli import output
from farthing.cli.amounts import duration
from farthing.cli.snapshot import Snapshot
from farthing.cli.top_view import draw, status_line
from farthing.client.connection import DEFAULT_URL, ConnectionLostError, Server
from farthing.errors import FarthingError, UsageError

SCHEMA = "farthing.ledger/1"
_PATH = "/farthing/ledger"
_MIN_INTERVAL, _MAX_INTERVAL = 0.1, 3600.0
_ANSWER_SECONDS = 10.0  # a server that says nothing for so long is as good as gone


@dataclass(frozen=True, slots=True)
class TopFlags:
    """What `farthing top` is told."""

    key_file: Annotated[Path | None, Parameter(help="A file with the API key: KEY or NAME:KEY.")] = None
    interval: Annotated[float, Parameter(help="Seconds between two looks.")] = 2.0
    once: Annotated[bool, Parameter(help="Look once and end.")] = False
    json: Annotated[bool, Parameter(help="Print what the server says as JSON, a line for each look.")] = False


_DEFAULTS = TopFlags()


def top(
    url: Annotated[str, Parameter(name="URL", help="Where the server is.")] = DEFAULT_URL,
    /,
    *,
    flags: Annotated[TopFlags, Parameter(name="*")] = _DEFAULTS,
) -> None:
    """Watch a server until Ctrl-C."""
    if not _MIN_INTERVAL <= flags.interval <= _MAX_INTERVAL:
        raise UsageError(
            f"--interval is {flags.interval}", fix=f"say {_MIN_INTERVAL:g} to {_MAX_INTERVAL:,.0f} seconds"
        )
    server = Server.at(url, key_file=flags.key_file)
    try:
        if flags.once:
            _show_once(asyncio.run(_look(server)), as_json=flags.json)
        else:
            asyncio.run(_watch(server, flags))
    except KeyboardInterrupt:
        return


@dataclass(slots=True)
class _Watched:
    """The newest snapshot, and since when and why there is no newer one."""

    snapshot: dict[str, Any]
    answered_at: float = field(default_factory=time.monotonic)
    problem: str = ""

    @property
    def note(self) -> str:
        if not self.problem:
            return ""
        return f"{self.problem}; trying again for {duration(time.monotonic() - self.answered_at)}, what is below is old"


async def _watch(server: Server, flags: TopFlags) -> None:
    """Ends by an exception only: the first look must succeed, later ones may fail for as long as it takes."""
    watched = _Watched(await _look(server))
    display, show = _display(flags.json)
    with display:
        while True:
            show(watched)
            await asyncio.sleep(flags.interval)
            try:
                watched = _Watched(await _look(server))
            except ConnectionLostError as error:
                watched.problem = error.what


async def _look(server: Server) -> dict[str, Any]:
    """The server's ledger now. ConnectionLostError if it doesn't answer, FarthingError if asking again is no use."""
    try:
        status, content = await asyncio.wait_for(server.ask("GET", _PATH), _ANSWER_SECONDS)
    except TimeoutError:
        raise ConnectionLostError(
            f"{server.url} takes longer than {_ANSWER_SECONDS:g} s to answer", fix="is it stuck? see its log"
        ) from None
    if status in (401, 403):
        raise UsageError(f"{server.url} wants an API key", fix="say --key-file FILE with one that it knows")
    if status >= 500:
        raise ConnectionLostError(f"{server.url} answers with status {status}", fix="see its log")
    if status != 200 or not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise FarthingError(
            f"{server.url} has no ledger ({SCHEMA}; status {status})",
            fix="name a farthing serve of this version",
        )
    return content


def _show_once(snapshot: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(snapshot)
    else:
        output.stdout.print(draw(Snapshot(snapshot), width=output.stdout.width))


def _display(as_json: bool) -> tuple[AbstractContextManager[Any], Callable[[_Watched], None]]:
    """What is open while the server is watched, and what shows a look."""
    if as_json:
        return nullcontext(), _line_writer(lambda snapshot: json.dumps(snapshot, ensure_ascii=False))
    if not output.stdout.is_terminal:
        return nullcontext(), _line_writer(lambda snapshot: f"{_clock(snapshot)}  {status_line(Snapshot(snapshot))}")
    live = Live(console=output.stdout, screen=True, auto_refresh=False)

    def redraw(watched: _Watched) -> None:
        width, height = output.stdout.size
        live.update(draw(Snapshot(watched.snapshot), width=width, height=height, note=watched.note), refresh=True)

    return live, redraw


def _line_writer(line_of: Callable[[dict[str, Any]], str]) -> Callable[[_Watched], None]:
    """Prints each snapshot once, and on stderr, once, why there is no newer one."""
    said = ""

    def write(watched: _Watched) -> None:
        nonlocal said
        if watched.problem:
            if watched.problem != said:
                output.stderr.print(f"{watched.problem}; trying again", soft_wrap=True)
        else:
            sys.stdout.write(line_of(watched.snapshot) + "\n")
            sys.stdout.flush()
        said = watched.problem

    return write


def _clock(snapshot: dict[str, Any]) -> str:
    moment = Snapshot(snapshot).number("time")
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, ValueError, OSError):
        return "--:--:--"
