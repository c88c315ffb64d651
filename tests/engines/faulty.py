"""An engine process with faults on demand: a prompt that holds FAULT:name meets that fault at its fourth token.

Everything else is the real engine. Run by server_process.py, without arguments.
"""

import math
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import torch

import farthing
from farthing.engine.process.engine_process import main
from farthing.engine.tokenization.tokenizer import load_tokenizer
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.sampler import RequestState
from farthing.scheduler.batch import Batch

AT_TOKEN = 3
TOKENIZER = load_tokenizer(Path(farthing.__file__).parent / "models" / "bundled")


def loop_forever() -> NoReturn:
    while True:
        pass


def run_out_of_memory() -> NoReturn:
    raise MemoryError("no memory for this step")


def break_an_invariant() -> NoReturn:
    raise RuntimeError("a kernel failed")


FAULTS: dict[str, Callable[[], object]] = {
    "loop": loop_forever,
    "memory": run_out_of_memory,
    "error": break_an_invariant,
    "abort": os.abort,  # as native code ends a process
    "slow": lambda: time.sleep(1.0),
}


class FaultyRunner(ModelRunner):
    faults: dict[int, str] = {}  # noqa: RUF012 - one runner a process

    def add(self, seq_id: int, state: RequestState, prompt_ids: Sequence[int]) -> None:
        super().add(seq_id, state, prompt_ids)
        fault = re.search(r"FAULT:(\w+)", TOKENIZER.decode(prompt_ids))
        if fault:
            self.faults[seq_id] = fault[1]

    def remove(self, seq_id: int) -> None:
        super().remove(seq_id)
        self.faults.pop(seq_id, None)

    def submit(self, batch: Batch) -> None:
        for item in batch.items:
            if item.samples and item.output_index == AT_TOKEN:
                FAULTS.get(self.faults.get(item.seq_id, ""), lambda: None)()
        super().submit(batch)

    def _draw(self, batch: Batch, x_RH: torch.Tensor) -> tuple[dict[int, int], dict[int, str]]:
        row = 0
        for item in batch.items:
            if item.samples and item.output_index == AT_TOKEN and self.faults.get(item.seq_id) == "nan":
                x_RH[row] = math.nan
            row += item.samples
        return super()._draw(batch, x_RH)


if __name__ == "__main__":
    main(FaultyRunner)
