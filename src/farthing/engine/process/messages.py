"""What the API process and the engine process say to each other: typed values in MessagePack, and nothing else.

A message that is no such value is dropped by whoever receives it and counted; nothing in one is ever executed.
"""

from typing import TypeVar

import msgspec

from farthing.engine.accounts.step_record import Charge, StepRecord
from farthing.engine.config import EngineConfig
from farthing.engine.request import Delta, Request
from farthing.errors import FarthingError

MAX_MESSAGE_BYTES = 64 * 2**20  # a prompt of 1M tokens is 5 MB


class Start(msgspec.Struct, frozen=True):
    """The first line of the engine process's standard input: what to run, and where to speak."""

    model: str
    config: EngineConfig
    commands_address: str
    events_address: str


class Submit(msgspec.Struct, tag=True, array_like=True, frozen=True):
    request: Request


class Cancel(msgspec.Struct, tag=True, array_like=True, frozen=True):
    request_id: str


Command = Submit | Cancel


class Planned(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The model fits: what will run. `line` is for people, `device` is its name, `format` that of the weights."""

    line: str
    path: str
    context: int
    vocab_size: int
    max_num_seqs: int
    kv_tokens: int
    block_size: int = 1
    device: str = ""
    device_kind: str = "cpu"
    format: str = ""


class Refused(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The model can't be run, for a reason that the user can mend."""

    what: str
    fix: str


class Loading(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """How far the weights are read; at most once a second."""

    done_bytes: int
    all_bytes: int


class Ready(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """The weights are loaded; requests are served from now on."""


class EngineStatus(msgspec.Struct, array_like=True, frozen=True):
    """Counts of one moment; `num_*` since the start where they can only grow."""

    num_steps: int = 0
    num_running: int = 0
    num_waiting: int = 0
    num_blocks: int = 0
    num_available_blocks: int = 0
    num_cached_blocks: int = 0
    num_preemptions: int = 0
    num_failed_sequences: int = 0
    num_dropped_messages: int = 0
    memory_bytes: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0


class Rejected(msgspec.Struct, array_like=True, frozen=True):
    """A request that the engine would not take, and why."""

    request_id: str
    what: str
    fix: str


class Stepped(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """What one step, or the commands before it, brought; and what the steps that were priced since cost."""

    deltas: list[Delta]
    rejected: list[Rejected]
    status: EngineStatus
    steps: list[StepRecord] = []
    charges: list[Charge] = []


Event = Planned | Loading | Refused | Ready | Stepped

_T = TypeVar("_T")
_encoder = msgspec.msgpack.Encoder()


def encode(message: Command | Event) -> bytes:
    return _encoder.encode(message)


class Decoder:
    """Reads messages of one kind and counts what is none."""

    def __init__(self, kind: object) -> None:
        self._decoder = msgspec.msgpack.Decoder(kind)
        self.num_dropped = 0

    def read(self, data: bytes) -> object | None:
        """None for bytes that are no message of this kind."""
        try:
            message: object = self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError, FarthingError):
            self.num_dropped += 1
            return None
        return message
