"""Whether a model fits this machine, asked before torch is there: by the GPUs that nvidia-smi tells of."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.fit import Fit, engine_memory, fit_here, sequences_here
from farthing.engine.room import Room
from farthing.hardware.machine import gpus
from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.planner.timing.device import CONTEXT_BYTES

MIB = 2**20
H200, RTX_4090 = "NVIDIA H200", "NVIDIA GeForce RTX 4090"
LLAMA = config_of(find_model("llama-3.1-8b"))
Cards = Sequence[tuple[str, int, int]]  # name, MiB in all, MiB free


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Cards], None]:
    """Puts cards into this machine that were never measured."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    def having(cards: Cards) -> None:
        lines = [f"{name}, {total}, {free}, 580.1, GPU-{index}" for index, (name, total, free) in enumerate(cards)]
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(lines) + "\nEND\n")
        program.chmod(0o755)

    return having


def fit(**flags: object) -> Fit:
    return fit_here("8b", LLAMA, EngineConfig(**flags))


@pytest.mark.parametrize("weight_format", ["bf16", "int8", "int4", "fp8"])
def test_a_gpu_keeps_no_room_for_a_widened_matrix(weight_format: str, machine: Callable[[Cards], None]) -> None:
    machine([(H200, 143771, 143000)])
    found = fit(format=weight_format)
    room = Room("cuda", 143771 * MIB, 143000 * MIB, CONTEXT_BYTES)
    sizes = {"max_num_seqs": found.sizes.max_num_seqs, "max_batch_tokens": found.sizes.max_batch_tokens}
    config = EngineConfig(format=weight_format, **sizes)
    assert found.memory == engine_memory(found.spec, found.context, config, room, widens=False, captures=True)


def test_a_processor_keeps_room_for_what_its_kernels_do_not_multiply() -> None:
    memories = {name: fit(device="cpu", format=name, memory="100GiB", context=64).memory for name in ("int8", "fp8")}
    assert all(memories.values())
    assert memories["fp8"].activation_bytes > memories["int8"].activation_bytes


def test_the_freest_gpu_is_asked_and_of_equals_the_first(machine: Callable[[Cards], None]) -> None:
    machine([(H200, 143771, 1000), (RTX_4090, 24564, 24000), ("NVIDIA L40S", 46068, 24000)])
    assert [gpu.uuid for gpu in gpus()] == ["GPU-0", "GPU-1", "GPU-2"]
    assert (fit().device, fit().available_bytes) == (RTX_4090, 24000 * MIB)


def test_sizes_are_those_of_the_card(machine: Callable[[Cards], None]) -> None:
    machine([(H200, 143771, 143000)])
    assert sequences_here(EngineConfig()) == fit().sizes.max_num_seqs == 256
    machine([(RTX_4090, 24564, 24000)])
    assert sequences_here(EngineConfig()) == fit().sizes.max_num_seqs == 64
    assert sequences_here(EngineConfig(device="cpu")) == fit(device="cpu", memory="100GiB").sizes.max_num_seqs == 16
