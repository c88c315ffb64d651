"""The engine on a thread of its own: requests come from any thread, deltas go back through callbacks.

One mechanism for blocking, iterating and asynchronous callers. Knows nothing of what a request means.
"""

import queue
import threading
from collections.abc import Callable

from farthing.engine.engine import Engine
from farthing.engine.request import Delta, Request

OnDelta = Callable[[Delta | BaseException], None]


class EngineThread:
    """`on_delta` of a request is called on the engine's thread with each delta, the last one with a finish reason per
    sample; with an exception instead if the request can't be served or the engine broke."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[str, OnDelta] = {}
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="farthing-engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request, on_delta: OnDelta) -> None:
        self._commands.put(lambda: self._add(request, on_delta))

    def cancel(self, request_id: str) -> None:
        """Nothing more comes of this request; unknown and finished ones are ignored."""
        self._commands.put(lambda: self._cancel(request_id))

    def close(self) -> None:
        """Finish the step in hand and end; requests still running get no more deltas."""
        self._commands.put(None)
        self._thread.join()
        self.engine.close()

    def _run(self) -> None:
        while self._obey():
            try:
                deltas = self.engine.step()
            except BaseException as error:  # a broken invariant: every waiting caller must hear of it
                self._break(error)
                continue
            for delta in deltas:
                self._listeners[delta.request_id](delta)

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
        try:
            if self._broken is not None:
                raise RuntimeError("the engine has stopped after an error") from self._broken
            self.engine.add(request)
        except Exception as error:
            on_delta(error)
        else:
            self._listeners[request.request_id] = on_delta

    def _cancel(self, request_id: str) -> None:
        self.engine.cancel(request_id)
        self._listeners.pop(request_id, None)

    def _break(self, error: BaseException) -> None:
        self._broken = error
        for request_id, on_delta in list(self._listeners.items()):
            self.engine.cancel(request_id)
            on_delta(error)
        self._listeners.clear()
