"""A server from its start to its end: socket, engine, routes; and how it lets go of its clients when it is told to.

SIGTERM or Ctrl-C: nobody new is admitted, who is being answered gets `drain_seconds`, the rest is told; a second signal
ends it at once. Knows no flag's spelling (cli/serve.py).
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec
import uvicorn
import uvloop

from farthing.engine.accounts.bill_file import bill_path
from farthing.engine.accounts.incident import FlightRecorder
from farthing.engine.config import EngineConfig
from farthing.engine.model_text import ModelText, load_model_text
from farthing.engine.process.engine_client import ENGINE_COMMAND, EngineClient, Watch
from farthing.engine.process.messages import Planned
from farthing.models.auto import read_config
from farthing.planner.money.price import price_of_device
from farthing.server.admission import Admission
from farthing.server.app import build_app
from farthing.server.books import Books, open_bill
from farthing.server.config import ServerConfig
from farthing.server.desk import Desk
from farthing.server.guard import check_origins, refuse_public
from farthing.server.http_protocol import LimitedProtocol
from farthing.server.ignored import IgnoredFields
from farthing.server.keys import KeyRing, load_keys
from farthing.server.listen import bind, url_of
from farthing.server.log import Log
from farthing.server.notify import notify
from farthing.server.service import Service
from farthing.server.speaker import Speaker
from farthing.units import format_bytes

Say = Callable[[str], None]

_FAREWELL_SECONDS = 2.0  # for the last words to those who could not finish
_EXIT_FAILED = 1
_TICK_SECONDS = 1.0


def serve(
    model: str,
    engine: EngineConfig,
    config: ServerConfig,
    say: Say,
    *,
    command: Sequence[str] = ENGINE_COMMAND,
    reports: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Serve until told to end; the exit code. FarthingError if it can't begin. `reports`: of the plan, by language."""
    keys = _admitted_keys(config)
    recorder = FlightRecorder(msgspec.structs.asdict)
    with (
        bind(config.host, config.port) as listening,
        Log(on_line=recorder.line) as log,
        Speaker(say) as speaker,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(
            _Serving(model, engine, config, keys, log, recorder, speaker.say, command, reports).run(listening)
        )


def check(config: ServerConfig) -> None:
    """FarthingError for what would be refused later: told before a model is downloaded or read."""
    _admitted_keys(config)
    bind(config.host, config.port).close()


def _admitted_keys(config: ServerConfig) -> KeyRing | None:
    """The keys, where what they have to protect is protected."""
    keys = load_keys(config.api_keys) if config.api_keys is not None else None
    refuse_public(config.host, keys)
    check_origins(config.cors_origin, keys)
    return keys


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: draining is ours."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


class _Serving:
    def __init__(
        self,
        model: str,
        engine: EngineConfig,
        config: ServerConfig,
        keys: KeyRing | None,
        log: Log,
        recorder: FlightRecorder,
        say: Say,
        command: Sequence[str],
        reports: Mapping[str, str],
    ) -> None:
        self._model, self._engine, self._config, self._keys = model, engine, config, keys
        self._log, self._say, self._command = log, say, command
        bill = open_bill(bill_path(), say) if config.bill and engine.measure else None
        self._books = Books(
            model=_served_names(model, config)[0],
            bill=bill,
            recorder=recorder,
            reports=reports,
            measures=engine.measure,
            on_problem=self._on_bill_problem,
        )
        self._told_to_end = asyncio.Event()
        self._ready = asyncio.Event()
        self._failed = False

    async def run(self, listening: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        watch = Watch(self._config.stall_seconds, self._config.max_restarts)
        client = EngineClient(
            self._model,
            self._engine,
            watch=watch,
            command=self._command,
            on_change=self._on_engine_change,
            on_loading=lambda done, total: self._say(f"loading weights: {done / total:.0%} of {format_bytes(total)}"),
            on_loss=lambda loss: self._books.lost(loss, client, self._say),
            on_steps=self._books.steps,
        )
        self._client = client
        ticking = asyncio.create_task(self._tick())
        try:
            planned = await self._unless_ended(client.planned)
            if planned is None:
                return 0
            self._say(planned.line)
            self._books.plan(planned, price_of_device(planned.device, self._config.price_per_hour))
            text = await asyncio.to_thread(self._load_text, planned)
            return await self._serve(listening, client, planned, text)
        finally:
            await client.close()
            ticking.cancel()
            await asyncio.to_thread(self._books.close)

    async def _tick(self) -> None:
        """The clock of the bill."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self._books.flush()

    async def _serve(self, listening: socket.socket, client: EngineClient, planned: Planned, text: ModelText) -> int:
        config = self._config
        admission = Admission(max_requests=config.max_queued_requests, max_tokens=config.max_queued_tokens)
        names = _served_names(self._model, config)
        service = Service(client, text, context=planned.context, names=names, admission=admission)
        ignored = IgnoredFields(
            strict=config.strict, on_new=lambda name: self._log.event("unknown field ignored", name=name)
        )
        desk = Desk(service, ignored, self._log, self._books, timeout=config.request_timeout)
        app = build_app(desk, config, self._keys)
        server = _Server(
            uvicorn.Config(
                app,
                http=LimitedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=75,  # longer than proxies keep theirs, or they would meet a closed connection
                timeout_graceful_shutdown=5,
            )
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await self._wait_for(self._ready, self._told_to_end)
            if client.state == "ready":
                self._announce(url_of(listening), names[0], chats=text.template is not None)
            await self._told_to_end.wait()
            await self._drain(admission, client)
        finally:
            server.should_exit = True
            await serving
            service.close()
        return _EXIT_FAILED if self._failed else 0

    async def _drain(self, admission: Admission, client: EngineClient) -> None:
        admission.draining = True
        notify("STOPPING=1")
        if admission.num_active and not self._failed:
            self._say(f"ending: {admission.num_active} requests may finish within {self._config.drain_seconds:g} s")
        await self._until_idle(admission, 0.0 if self._failed else self._config.drain_seconds)
        if admission.num_active:
            await client.close()  # which tells those who still wait
            await self._until_idle(admission, _FAREWELL_SECONDS)

    async def _until_idle(self, admission: Admission, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while admission.num_active:
                    await asyncio.sleep(0.02)

    def _load_text(self, planned: Planned) -> ModelText:
        path = Path(planned.path)
        return load_model_text(
            path, read_config(path), planned.vocab_size, needs_tokenizer=self._engine.weights != "random"
        )

    def _announce(self, url: str, name: str, *, chats: bool) -> None:
        self._say(f"serving {name} at {url}  (OpenAI: {url}/v1, Anthropic: {url})")
        key = "" if self._keys is None else ' -H "Authorization: Bearer $KEY"'
        path = "chat/completions" if chats else "completions"
        asked = '"messages": [{"role": "user", "content": "Hello!"}]' if chats else '"prompt": "Once upon a time"'
        body = f'{{"model": "{name}", {asked}}}'
        self._say(f"try: curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d '{body}'")
        notify("READY=1")

    def _on_signal(self) -> None:
        if self._told_to_end.is_set():
            os._exit(130)  # asked twice: the engine ends with this process
        self._told_to_end.set()

    def _on_engine_change(self, reason: str) -> None:
        planned = self._client.planned
        if planned.done() and planned.exception() is not None:
            self._told_to_end.set()
            return  # it never began: the command says why, once
        state = self._client.state
        self._log.event("engine", state=state, reason=reason)
        self._books.recorder.event("engine", {"state": state, "reason": reason})
        if state == "ready":
            self._ready.set()
        elif state == "failed":
            self._say(f"the engine failed: {reason}")
            self._failed = True
            self._told_to_end.set()
        else:
            self._say(f"the engine is {state}: {reason}")

    def _on_bill_problem(self, problem: str) -> None:
        self._log.event("bill", problem=problem)
        self._say(f"the bill can't be written: {problem}; what it has to add is kept and tried again")

    async def _unless_ended(self, planned: asyncio.Future[Planned]) -> Planned | None:
        """What is planned; None if a signal came first."""
        ended = asyncio.create_task(self._told_to_end.wait())
        await asyncio.wait((planned, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        return planned.result() if planned.done() else None

    async def _wait_for(self, *events: asyncio.Event) -> None:
        waiting = [asyncio.create_task(event.wait()) for event in events]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()


def _served_names(model: str, config: ServerConfig) -> tuple[str, ...]:
    return config.served_model_name or (_model_name(model),)


def _model_name(model: str) -> str:
    """Of a path its last part, of anything else all."""
    path = Path(model)
    return path.name if path.exists() and path.name else model
