"""Zeros whose pages are taken beside their use: counted like all memory, then the process's own, and never changed."""

import subprocess
import sys
import threading

import pytest
import torch

from farthing.runtime import device
from farthing.runtime.device import Memory
from farthing.runtime.process_memory import process_bytes

SHAPE = (64, 2**20)


def taken(memory: Memory) -> None:
    memory.take()
    for thread in threading.enumerate():
        if thread.name == "farthing-memory":
            thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems write the zeros at once")
def test_zeros_are_the_processes_memory_once_they_are_taken() -> None:
    memory, before = Memory(torch.device("cpu")), process_bytes()
    zeros = memory.zeros("kv", SHAPE, "bf16")
    assert memory.bytes_by_use == {"kv": zeros.nbytes}
    taken(memory)
    assert process_bytes() - before > 0.9 * zeros.nbytes
    assert not zeros.any()


def test_what_is_written_before_the_memory_is_taken_stays() -> None:
    memory = Memory(torch.device("cpu"))
    zeros = memory.zeros("kv", SHAPE, "fp32")
    zeros[::7] = 3
    taken(memory)
    assert bool((zeros[::7] == 3).all()) and not zeros[1::7].any()


def test_a_system_without_such_memory_writes_zeros_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "fresh_zeros", lambda num_bytes: None)
    memory = Memory(torch.device("cpu"))
    zeros = memory.zeros("kv", SHAPE, "bf16")
    taken(memory)
    assert not zeros.any() and zeros.shape == SHAPE and memory.bytes_by_use == {"kv": zeros.nbytes}


@pytest.mark.skipif(sys.platform != "linux", reason="pages are taken so on Linux alone")
def test_a_process_that_ends_while_pages_are_taken_ends_well() -> None:
    lines = "from farthing.runtime.fresh_memory import fresh_zeros, take", "take([fresh_zeros(2**30)])"
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
