"""What the training question is asked: each field is a flag of `farthing plan --training`. Knows no model."""

import math
from dataclasses import dataclass, replace

from farthing.errors import UsageError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.models.training import TrainingSetup
from farthing.planner.hardware import Hardware
from farthing.planner.training.training_answer import METHODS, TrainingAnswer, answer, setup_of
from farthing.planner.training.training_time import TrainingTime, links_by_way, training_time
from farthing.quantization.base import resolve
from farthing.units import parse_bytes

_MAX_TOKENS = 1e18
_SCALES = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """Each field is a flag.

    Parameters
    ----------
    tokens
        Tokens to train on: 2T, 300B, 5000000; by default 20 for each parameter.
    method
        full, lora (adapters beside 16-bit weights) or qlora (beside 4-bit weights).
    sequence
        Tokens of a training sequence.
    micro_batch
        Sequences that a device computes at a time.
    host_memory
        Memory of each node's host: 512GiB; by default enough.
    mfu
        Part of the dense 16-bit peak that training reaches, 0 to 1; by default 0.4.
    """

    tokens: str | None = None
    method: str = "full"
    sequence: int = 4096
    micro_batch: int = 1
    host_memory: str | None = None
    mfu: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"--method {self.method!r:.20} is not known", fix=f"use {', '.join(METHODS)}")
        for name in ("sequence", "micro_batch"):
            if not 1 <= getattr(self, name) <= 2**24:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}", fix="say at least 1")
        if self.mfu is not None and not 0.001 <= self.mfu <= 1:
            raise UsageError(f"--mfu is {self.mfu:g}", fix="a part of the peak: --mfu 0.4")
        self.num_tokens()
        self.host_bytes(1)

    def num_tokens(self) -> int | None:
        """None where nobody said."""
        if self.tokens is None:
            return None
        text = self.tokens.strip().replace(",", "").upper()
        number = text.rstrip("KMBGT")
        try:
            value = float(number) * _SCALES[text[len(number) :]]
        except (KeyError, ValueError):
            value = math.nan
        if not 1 <= value <= _MAX_TOKENS:
            raise UsageError(f"--tokens {self.tokens!r:.30} is no number of tokens", fix="write 2T, 300B or 5000000")
        return int(value)

    def host_bytes(self, num_nodes: int) -> int | None:
        """Of all nodes together."""
        try:
            return None if self.host_memory is None else parse_bytes(self.host_memory) * num_nodes
        except ValueError as error:
            raise UsageError(f"--host-memory: {error}", fix="say for example --host-memory 512GiB") from None


def answer_training(
    model: str,
    config: ConfigReader,
    hardware: Hardware,
    request: TrainingRequest | None = None,
    *,
    p2p: bool | None = None,
    network: float = 1.25e9,
    dollars_per_hour: float | None = None,
    price_note: str | None = None,
) -> TrainingAnswer:
    """Memory, time and money of training `model` there; `dollars_per_hour` of all of it, None if unknown;
    `price_note`: where that is from."""
    asked = request or TrainingRequest()
    spec = describe(config, Precision.of(resolve("bf16", "cuda")))
    tokens = asked.num_tokens()

    def time_of(setup: TrainingSetup) -> TrainingTime | None:
        return training_time(
            spec,
            setup,
            hardware,
            tokens=tokens,
            mfu=asked.mfu,
            p2p=p2p,
            network=network,
            dollars_per_hour=dollars_per_hour,
        )

    def seconds_of(setup: TrainingSetup) -> float:
        time = time_of(setup)
        return 0.0 if time is None else time.seconds

    method = next(method for method in METHODS if method == asked.method)
    setup = setup_of(method, sequence_tokens=asked.sequence, micro_batch=asked.micro_batch)
    is_timed = time_of(replace(setup, data_parallel=len(hardware.devices))) is not None
    found = answer(
        spec,
        [device.memory_bytes for device in hardware.devices],
        max(device.reserve_bytes for device in hardware.devices),
        model=model,
        hardware=hardware.name,
        setup=setup,
        host_bytes=asked.host_bytes(len(set(hardware.nodes))),
        seconds_of=seconds_of if is_timed else None,
    )
    time = time_of(found.attempt.setup)
    if time is None:
        return found
    ways = links_by_way(spec, found.attempt.setup, hardware, p2p=p2p, network=network)
    notes = time.notes if price_note is None else (*time.notes, price_note)
    return replace(found, time=replace(time, ways=ways, notes=notes))
