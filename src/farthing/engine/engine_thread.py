"""The engine on a thread of its own: requests come from any thread, deltas go back through callbacks.

A caller who only waits may step it on his own thread meanwhile (`compute`): on few cores, handing every token from
thread to thread costs more than a small model's step. Knows nothing of what a request means.
"""

import queue
import threading
from collections.abc import Callable, Sequence

from farthing.engine.engine import Engine
from farthing.engine.interrupts import deferred
from farthing.engine.request import Delta, Request
from farthing.errors import EngineStoppedError, RequestError

OnDelta = Callable[[Delta | BaseException], None]


class EngineThread:
    """`on_delta` of a request is called with each delta, the last one with a finish reason per sample; with an
    exception instead if the request can't be served, the engine broke or was closed. A listener that raises has gone
    away: its request is cancelled."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[str, OnDelta] = {}
        self._ended: EngineStoppedError | None = None  # why nothing is served any more
        self._gate = threading.Lock()  # between `submit` and `close`: no command may stand behind the last one
        self._closing = False
        self._turn = threading.Lock()  # of whoever steps the engine or carries out a command
        self._driven = False  # by a caller
        self._wanted = threading.Event()  # the engine's own thread waits for its turn
        self._thread = threading.Thread(target=self._run, name="farthing-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, on_delta: OnDelta) -> None:
        """EngineStoppedError after `close`."""
        with self._gate:
            if self._closing:
                raise EngineStoppedError("the engine was closed", fix="make a new one")
            self._commands.put(lambda: self._add(request, on_delta))

    def compute(self, requests: Sequence[Request], on_delta: OnDelta, finished: Callable[[], bool]) -> None:
        """Submit requests, and step the engine here until `finished`, if nobody else uses it: its own thread goes on as
        soon as it has something to do."""
        if not self._turn.acquire(blocking=False):
            return self._submit_all(requests, on_delta)
        try:
            if self._closing or self._ended is not None or self.engine.has_unfinished:
                return self._submit_all(requests, on_delta)
            with deferred() as interrupt:
                self._driven = True
                for request in requests:
                    self._add(request, on_delta)
                while not (finished() or interrupt.came or self._wanted.is_set()) and self._has_work:
                    self._step()
        finally:
            self._driven = False
            self._turn.release()
            self._commands.put(_look_again)

    def cancel(self, request_id: str) -> None:
        """Nothing more comes of this request; unknown and finished ones are ignored."""
        self._commands.put(lambda: self._cancel(request_id))

    def close(self) -> None:
        """Finish the step in hand and end; requests still running are told so. A second call does nothing."""
        with self._gate:
            if self._closing:
                return
            self._closing = True
            self._commands.put(None)
        self._thread.join()
        self.engine.close()

    @property
    def _has_work(self) -> bool:
        return self._ended is None and self.engine.has_unfinished

    def _submit_all(self, requests: Sequence[Request], on_delta: OnDelta) -> None:
        for request in requests:
            self.submit(request, on_delta)

    def _run(self) -> None:
        going = True
        while going:
            command = self._next(wait=self._driven or not self._has_work)
            self._wanted.set()
            with self._turn:
                self._wanted.clear()
                while command is not _nothing and going:
                    going = command is not None
                    if command is not None:
                        command()
                        command = self._next(wait=False)
                if going and self._has_work:
                    self._step()
        with self._turn:
            self._end(EngineStoppedError("the engine was closed", fix="make a new one"))

    def _next(self, *, wait: bool) -> Callable[[], None] | None:
        """What has been asked for: `_nothing`, or None for the end."""
        try:
            return self._commands.get(block=wait)
        except queue.Empty:
            return _nothing

    def _step(self) -> None:
        try:
            deltas = self.engine.step()
        except BaseException as error:  # a broken invariant: every waiting caller must hear of it
            self._end(EngineStoppedError(f"the engine broke: {error!r}", fix="make a new one"), error)
            return
        for delta in deltas:
            self._tell(delta.request_id, delta)

    def _add(self, request: Request, on_delta: OnDelta) -> None:
        if request.request_id in self._listeners:
            on_delta(RequestError(f"request {request.request_id} is already running", fix="make a new request"))
            return
        self._listeners[request.request_id] = on_delta
        try:
            if self._ended is not None:
                raise self._ended
            self.engine.add(request)
        except Exception as error:
            self._tell(request.request_id, error)
            self._listeners.pop(request.request_id, None)

    def _cancel(self, request_id: str) -> None:
        self._listeners.pop(request_id, None)
        if self._ended is None:
            self.engine.cancel(request_id)

    def _tell(self, request_id: str, news: Delta | BaseException) -> None:
        on_delta = self._listeners.get(request_id)
        if on_delta is None:
            return
        try:
            on_delta(news)
        except Exception:  # the caller's code, such as an event loop that has closed
            self._cancel(request_id)

    def _end(self, reason: EngineStoppedError, cause: BaseException | None = None) -> None:
        if self._ended is None:
            reason.__cause__ = cause
            self._ended = reason
        for request_id in list(self._listeners):
            self._tell(request_id, reason)
        self._listeners.clear()


def _nothing() -> None:
    """Stands for no command."""


def _look_again() -> None:
    """The engine's own thread sees whether there is something left to do."""
