"""The engine on a thread of its own: requests come from any thread, deltas go back through callbacks.

One mechanism for blocking, iterating and asynchronous callers. Knows nothing of what a request means.
"""

import queue
import threading
from collections.abc import Callable

from farthing.engine.engine import Engine
from farthing.engine.request import Delta, Request
from farthing.errors import EngineStoppedError, RequestError

OnDelta = Callable[[Delta | BaseException], None]


class EngineThread:
    """`on_delta` of a request is called on the engine's thread with each delta, the last one with a finish reason per
    sample; with an exception instead if the request can't be served, the engine broke or was closed. A listener that
    raises has gone away: its request is cancelled."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[str, OnDelta] = {}
        self._ended: EngineStoppedError | None = None  # why nothing is served any more
        self._gate = threading.Lock()  # between `submit` and `close`: no command may stand behind the last one
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="farthing-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, on_delta: OnDelta) -> None:
        """EngineStoppedError after `close`."""
        with self._gate:
            if self._closing:
                raise EngineStoppedError("the engine was closed", fix="make a new one")
            self._commands.put(lambda: self._add(request, on_delta))

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

    def _run(self) -> None:
        while self._obey():
            try:
                deltas = self.engine.step()
            except BaseException as error:  # a broken invariant: every waiting caller must hear of it
                self._end(EngineStoppedError(f"the engine broke: {error!r}", fix="make a new one"), error)
                self._refuse_the_rest()
                return
            for delta in deltas:
                self._tell(delta.request_id, delta)
        self._end(EngineStoppedError("the engine was closed", fix="make a new one"))

    def _obey(self) -> bool:
        """Carry out what has been asked for; wait while there is nothing to compute. False: end."""
        while True:
            try:
                command = self._commands.get(block=not self.engine.has_unfinished)
            except queue.Empty:
                return True
            if command is None:
                return False
            command()

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
        reason.__cause__ = cause
        self._ended = reason
        for request_id in list(self._listeners):
            self._tell(request_id, reason)
        self._listeners.clear()

    def _refuse_the_rest(self) -> None:
        """After the engine broke: every later request is told why, until `close`."""
        while (command := self._commands.get()) is not None:
            command()
