"""The engine process as its owner sees it: started, spoken to, watched, and started anew when it dies or stands still.

One asyncio loop owns everything here. A request is a Stream of deltas; when the engine is lost, every open stream ends
with an EngineStoppedError, and a request sent again later is served by the next engine. Knows no HTTP.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import msgspec
import zmq
import zmq.asyncio

from farthing.engine.accounts.step_record import Charge, StepRecord
from farthing.engine.config import EngineConfig
from farthing.engine.process.messages import (
    MAX_MESSAGE_BYTES,
    Cancel,
    Command,
    Decoder,
    EngineStatus,
    Event,
    Loading,
    Planned,
    Ready,
    Refused,
    Start,
    Stepped,
    Submit,
    encode,
)
from farthing.engine.process.stream import Stream
from farthing.engine.request import Request
from farthing.errors import EngineStoppedError, FarthingError, RequestError, UsageError

# PyTorch's products on a CPU keep compiled code and buffers for each shape, up to half a MiB for each of a thousand:
# requests of many lengths would take a GiB that nobody planned. Decoding comes back to a few shapes.
_ENVIRONMENT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16", "LRU_CACHE_CAPACITY": "16"}
ENGINE_COMMAND = (sys.executable, "-m", "farthing.engine.process.engine_process")
_BUDGET_SECONDS = 600.0  # restarts older than this are forgiven
_FIRST_BACK_OFF_SECONDS = 0.5
_MAX_BACK_OFF_SECONDS = 30.0
_WATCH_SECONDS = 0.25
_END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Watch:
    """When an engine is given up. `stall_seconds`: no step was finished for so long while work was waiting; it must be
    longer than the longest step. `max_restarts` within ten minutes, then the engine has failed."""

    stall_seconds: float = 60.0
    max_restarts: int = 3


@dataclass(frozen=True, slots=True)
class Loss:
    """How an engine was lost. `kind`: "crash", "stall" (it still ran and was given up), or "failed" if no other is
    started. `exit_code` of a process that ended; below zero it is the signal. `status`: what it last said."""

    kind: str
    reason: str
    exit_code: int | None = None
    status: EngineStatus = field(default_factory=EngineStatus)


class EngineClient:
    """`state` is "starting" until the first weights are loaded, then "ready", "restarting" after a loss, "failed" when
    the restarts are used up, "closed" in the end. `on_change` is called after each change, `on_loading` with the bytes
    of the weights that are read and of all, about once a second while they are, `on_loss` for each engine that was
    lost, but not for a model that was refused at the start, `on_steps` with steps that were measured, and the
    charges of their requests."""

    def __init__(
        self,
        model: str,
        config: EngineConfig,
        *,
        watch: Watch,
        command: Sequence[str] = ENGINE_COMMAND,
        on_change: Callable[[str], None] = lambda reason: None,
        on_loading: Callable[[int, int], None] = lambda done_bytes, all_bytes: None,
        on_loss: Callable[[Loss], None] = lambda loss: None,
        on_steps: Callable[[Sequence[StepRecord], Sequence[Charge]], None] = lambda steps, charges: None,
    ) -> None:
        self._model, self._config, self._watch, self._command = model, config, watch, tuple(command)
        self._on_change, self._on_loading, self._on_loss, self._on_steps = on_change, on_loading, on_loss, on_steps
        self.state = "starting"
        self.status = EngineStatus()
        self.num_restarts = 0
        self.planned: asyncio.Future[Planned] = asyncio.get_running_loop().create_future()
        self._decoder = Decoder(Event)
        self._streams: dict[str, Stream] = {}
        self._refusal: FarthingError | None = None
        self._losses: deque[float] = deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: zmq.Socket[bytes] | None = None
        self._quiet_seconds = 0.0  # since the engine was last heard of, while work waited and this process ran
        self._task = asyncio.create_task(self._run())

    @property
    def num_open(self) -> int:
        """Requests that the engine has not finished."""
        return len(self._streams)

    @property
    def num_restarts_left(self) -> int:
        """Losses of the next minutes that end in a restart."""
        return max(0, self._watch.max_restarts - len(self._losses))

    @property
    def quiet_seconds(self) -> float:
        """For how long work has waited without a step being finished; 0 if none waits."""
        return self._quiet_seconds if self._streams and self.state == "ready" else 0.0

    @property
    def stall_seconds(self) -> float:
        return self._watch.stall_seconds

    @property
    def is_stalled(self) -> bool:
        """Work waits and nothing comes, for too long to be a long step: the engine is about to be given up."""
        return self.quiet_seconds > self._watch.stall_seconds / 2

    @property
    def num_dropped_messages(self) -> int:
        return self._decoder.num_dropped

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def submit(self, requests: Sequence[Request]) -> Stream:
        """EngineStoppedError while no engine is ready."""
        if self.state != "ready":
            raise EngineStoppedError(f"the engine is {self.state}", fix="try again in a few seconds")
        stream = Stream(requests, self._cancel)
        for request in requests:
            self._streams[request.request_id] = stream
            self._say(Submit(request))
        return stream

    async def close(self) -> None:
        """End the engine; open streams are told."""
        self.state = "closed"
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _cancel(self, request_id: str) -> None:
        if self._streams.pop(request_id, None) is not None and self.state == "ready":
            self._say(Cancel(request_id))

    def _say(self, command: Command) -> None:
        """An engine that died a moment ago hears nothing; the watch will find that out and tell its streams."""
        assert self._commands is not None
        with suppress(zmq.Again):
            self._commands.send(encode(command), zmq.NOBLOCK)

    async def _run(self) -> None:
        """One engine after the other."""
        while True:
            loss = await self._live()
            self._losses.append(time.monotonic())
            while self._losses and self._losses[0] < time.monotonic() - _BUDGET_SECONDS:
                self._losses.popleft()
            if self.state == "starting" or len(self._losses) > self._watch.max_restarts:
                self._give_up(loss)
                return
            self._on_loss(loss)
            self._become("restarting", loss.reason)
            self.num_restarts += 1
            await asyncio.sleep(min(_FIRST_BACK_OFF_SECONDS * 2 ** (len(self._losses) - 1), _MAX_BACK_OFF_SECONDS))

    async def _live(self) -> Loss:
        """The life of one engine process; returns how it was lost."""
        context = zmq.asyncio.Context()
        try:
            with tempfile.TemporaryDirectory(prefix="farthing-", ignore_cleanup_errors=True) as folder:  # mode 0700
                return await self._live_in(folder, context)
        except (OSError, zmq.ZMQError) as error:
            return Loss("crash", f"the engine process can't be started: {error}")
        finally:
            context.destroy(linger=0)

    async def _live_in(self, folder: str, context: zmq.asyncio.Context) -> Loss:
        """The sockets are in `folder`."""
        self._refusal = None
        try:
            self._commands = zmq.Context(context).socket(zmq.PUSH)
            self._commands.setsockopt(zmq.SNDHWM, 0)
            self._commands.bind(f"ipc://{folder}/commands")
            events = context.socket(zmq.PULL)
            events.setsockopt(zmq.RCVHWM, 0)
            events.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
            events.bind(f"ipc://{folder}/events")
            start = Start(self._model, self._config, f"ipc://{folder}/commands", f"ipc://{folder}/events")
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, start_new_session=True, env={**_ENVIRONMENT, **os.environ}
            )
            assert self._process.stdin is not None
            self._process.stdin.write(msgspec.json.encode(start) + b"\n")
            self._process.stdin.flush()  # and it stays open: its end tells the engine that its parent is gone
            receiving = asyncio.create_task(self._receive(events))
            try:
                return await self._watch_over(self._process, events, receiving)
            finally:
                receiving.cancel()
                await asyncio.gather(receiving, return_exceptions=True)
        finally:
            self._lose_streams()
            process, self._process, self._commands = self._process, None, None
            if process is not None:
                await _end(process)

    async def _receive(self, events: zmq.asyncio.Socket) -> None:
        while True:
            event = self._decoder.read(await events.recv())
            self._quiet_seconds = 0.0
            match event:
                case Stepped():
                    self._take(event)
                case Planned() if not self.planned.done():
                    self.planned.set_result(event)
                case Loading(done_bytes, all_bytes):
                    self._on_loading(done_bytes, all_bytes)
                case Ready():
                    self._become("ready", "loaded")
                case Refused():
                    self._refusal = UsageError(event.what, fix=event.fix)

    def _take(self, event: Stepped) -> None:
        self.status = event.status
        for charge in event.charges:  # before the deltas: an answer that ends now has its whole cost
            stream = self._streams.get(charge.request_id)
            if stream is not None:
                stream.charge(charge)
        if event.steps:
            self._on_steps(event.steps, event.charges)
        for delta in event.deltas:
            stream = self._streams.get(delta.request_id)
            if stream is not None and stream.push(delta):  # its reader may take long; the engine owes nothing more
                for request_id in stream.request_ids:
                    self._streams.pop(request_id, None)
        for rejected in event.rejected:
            stream = self._streams.pop(rejected.request_id, None)
            if stream is not None:
                stream.fail(RequestError(rejected.what, fix=rejected.fix))

    async def _watch_over(
        self, process: subprocess.Popen[bytes], events: zmq.asyncio.Socket, receiving: asyncio.Task[None]
    ) -> Loss:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            code = process.poll()
            if code is not None:
                await asyncio.sleep(_WATCH_SECONDS)  # its last words may still be on the way
                reason = str(self._refusal or f"the engine process ended with exit code {code}")
                return Loss("crash", reason, code, self.status)
            if receiving.done():
                return Loss("crash", f"its events can't be read: {receiving.exception()!r}", None, self.status)
            unheard = int(events.get(zmq.EVENTS)) & zmq.POLLIN  # then it is this process that is behind
            if not self._streams or self.state != "ready" or unheard:
                self._quiet_seconds = 0.0
            elif (quiet := self._quiet_seconds) > self._watch.stall_seconds:
                reason = f"the engine finished no step for {quiet:.0f} s while {len(self._streams)} requests waited"
                return Loss("stall", reason, None, self.status)
            self._quiet_seconds += _WATCH_SECONDS

    def _give_up(self, loss: Loss) -> None:
        if self.state != "starting" or self._refusal is None:
            self._on_loss(replace(loss, kind="failed"))
        if not self.planned.done():
            self.planned.set_exception(self._refusal or EngineStoppedError(loss.reason, fix="see its messages above"))
        self._become("failed", loss.reason)

    def _become(self, state: str, reason: str) -> None:
        self.state = state
        self._on_change(reason)

    def _lose_streams(self) -> None:
        """Nothing more comes and nothing is taken: said before the process is gone, which may take a while."""
        if self.state == "ready":
            self.state = "restarting"
        self.status = EngineStatus()
        for stream in self._streams.values():
            stream.fail(EngineStoppedError("the engine was lost while it worked on this", fix="send the request again"))
        self._streams.clear()


async def _end(process: subprocess.Popen[bytes]) -> None:
    """Its memory is given back when it is gone, which takes a while for a large one."""
    process.kill()
    with suppress(subprocess.TimeoutExpired):
        await asyncio.to_thread(process.wait, _END_SECONDS)
    if process.stdin is not None:
        process.stdin.close()
