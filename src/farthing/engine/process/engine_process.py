"""The engine process: scheduler and model behind two ZeroMQ sockets. Commands come in, what each step brought goes out.

Crash-only: a broken invariant ends the process with its traceback, and whoever started it (engine_client.py) starts it
anew. It ends with its parent, too. Knows no HTTP and no templates.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
import zmq

from farthing.engine.accounts.step_record import Charge, StepRecord
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.plan_line import measured, plan_line
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
    Rejected,
    Start,
    Stepped,
    Submit,
    encode,
)
from farthing.engine.request import Delta
from farthing.errors import FarthingError
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.process_memory import process_bytes

_PR_SET_PDEATHSIG = 1
_PROGRESS_SECONDS = 1.0


class EngineProcess:
    """One engine, and the two sockets it speaks through."""

    def __init__(self, start: Start, runner_type: type[ModelRunner] = ModelRunner) -> None:
        self._start, self._runner_type = start, runner_type
        context = zmq.Context()
        self._commands = context.socket(zmq.PULL)
        self._commands.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self._commands.setsockopt(zmq.RCVHWM, 0)
        self._commands.connect(start.commands_address)
        self._events = context.socket(zmq.PUSH)
        self._events.setsockopt(zmq.SNDHWM, 0)
        self._events.connect(start.events_address)
        self._decoder = Decoder(Command)
        self._num_steps = 0
        self._rejected: list[Rejected] = []
        self._steps: list[StepRecord] = []
        self._charges: list[Charge] = []
        self._last_told = time.monotonic()

    def run(self) -> None:
        """Until the process is killed."""
        engine = self._load()
        if engine is None:
            return
        engine.accountant.on_settled = self._settled
        self._send(Ready())
        self._send(self._stepped(engine, []))
        while True:
            if self._obey(engine):
                self._send(self._stepped(engine, []))
            if engine.has_unfinished:
                deltas = engine.step()
                self._num_steps += 1
                self._send(self._stepped(engine, deltas))

    def _load(self) -> Engine | None:
        """The engine, planned and loaded; None, and why told, if the user has to change something first."""
        try:
            plan = measured(plan_engine(self._start.model, self._start.config))
            memory = plan.memory
            self._send(
                Planned(
                    plan_line(plan),
                    str(plan.path),
                    plan.context,
                    plan.spec.vocab_size,
                    plan.config.sizes.max_num_seqs,
                    memory.kv_tokens,
                    memory.block_size,
                    plan.key.name,
                    plan.device.type,
                    plan.spec.precision.format.name,
                )
            )
            return Engine(plan, self._tell_progress, with_template=False, runner_type=self._runner_type)
        except FarthingError as error:
            self._send(Refused(error.what, error.fix))
            self._events.close(linger=5_000)
            return None

    def _tell_progress(self, done_bytes: int, all_bytes: int) -> None:
        if time.monotonic() - self._last_told >= _PROGRESS_SECONDS:
            self._last_told = time.monotonic()
            self._send(Loading(done_bytes, all_bytes))

    def _obey(self, engine: Engine) -> bool:
        """Carry out the commands that have come; wait for one while there is nothing to compute. Whether any came."""
        if not engine.has_unfinished:
            self._commands.poll()
        any_came = False
        while self._commands.poll(0):
            any_came = True
            command = self._decoder.read(self._commands.recv())
            if isinstance(command, Cancel):
                engine.cancel(command.request_id)
            elif isinstance(command, Submit):
                self._submit(engine, command)
        return any_came

    def _submit(self, engine: Engine, command: Submit) -> None:
        if engine.knows(command.request.request_id):
            self._decoder.num_dropped += 1  # a message played twice
            return
        try:
            engine.add(command.request)
        except FarthingError as error:
            self._rejected.append(Rejected(command.request.request_id, error.what, error.fix))

    def _settled(self, steps: Sequence[StepRecord], charges: Sequence[Charge]) -> None:
        self._steps.extend(steps)
        self._charges.extend(charges)

    def _stepped(self, engine: Engine, deltas: list[Delta]) -> Stepped:
        steps, self._steps = self._steps, []
        charges, self._charges = self._charges, []
        rejected, self._rejected = self._rejected, []
        pool, stats = engine.scheduler.block_pool, engine.scheduler.stats
        status = EngineStatus(
            num_steps=self._num_steps,
            num_running=engine.scheduler.num_running,
            num_waiting=engine.scheduler.num_waiting,
            num_blocks=pool.num_blocks,
            num_available_blocks=pool.num_available,
            num_cached_blocks=pool.num_cached,
            num_preemptions=stats.num_preemptions,
            num_failed_sequences=stats.num_failed,
            num_dropped_messages=self._decoder.num_dropped,
            memory_bytes=0 if engine.has_unfinished else process_bytes(),
            num_draft_tokens=stats.num_draft_tokens,
            num_accepted_tokens=stats.num_accepted_tokens,
        )
        return Stepped(deltas, rejected, status, steps, charges)

    def _send(self, event: Event) -> None:
        self._events.send(encode(event))


def main(runner_type: type[ModelRunner] = ModelRunner) -> None:
    """Reads Start from standard input and serves until its parent is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # they are for the parent, who lets running answers end
    _die_with_parent()
    start = msgspec.json.decode(sys.stdin.buffer.readline(), type=Start)
    threading.Thread(target=_end_with_stdin, name="farthing-parent-watch", daemon=True).start()
    EngineProcess(start, runner_type).run()


def _die_with_parent() -> None:
    """On Linux the kernel kills this process when its parent dies, even if it is stopped or stuck."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_with_stdin() -> None:
    """Elsewhere, and in case the parent died before: standard input ends with it."""
    while os.read(0, 4096):  # not through sys.stdin: its lock, held here, would abort an interpreter that ends
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
