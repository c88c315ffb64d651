"""An engine process that knows what its sockets cost it: `measured.py FIGURES.json`, written when SIGUSR1 comes.

For benchmarks/server: CPU seconds of its thread in reading commands and sending events, and when it sent tokens.
"""

import json
import signal
import sys
import time
from pathlib import Path

from farthing.engine.engine import Engine
from farthing.engine.process import engine_process
from farthing.engine.process.messages import Event, Stepped

FIGURES = Path(sys.argv[1])


class MeasuredProcess(engine_process.EngineProcess):
    ipc_seconds = 0.0
    sent: list[float] = []  # noqa: RUF012 - one a process

    def _obey(self, engine: Engine) -> bool:
        started = time.thread_time()
        any_came = super()._obey(engine)
        type(self).ipc_seconds += time.thread_time() - started
        return any_came

    def _send(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.sent.extend([time.monotonic()] * len(event.deltas))
        started = time.thread_time()
        super()._send(event)
        type(self).ipc_seconds += time.thread_time() - started


def write(*_: object) -> None:
    figures = {"ipc_seconds": MeasuredProcess.ipc_seconds, "sent": MeasuredProcess.sent}
    partial = FIGURES.with_suffix(".part")
    partial.write_text(json.dumps(figures))
    partial.rename(FIGURES)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, write)
    engine_process.EngineProcess = MeasuredProcess  # type: ignore[misc]
    engine_process.main()
