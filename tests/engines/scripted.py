"""An engine process whose answers are given: a prompt that holds SCRIPT:name gets that text, token by token.

The scheduler, the loop and the text side are the real ones; only the model is not asked. Run by server_process.py:
`scripted.py scripts.json [seconds a step]`, where the file maps names to texts; "default" answers everything else.
"""

import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import farthing
from farthing.engine.process.engine_process import main
from farthing.engine.tokenization.tokenizer import load_tokenizer
from farthing.runtime.drawing import InFlight
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.sampler import RequestState
from farthing.scheduler.batch import Batch, Done

TOKENIZER = load_tokenizer(Path(farthing.__file__).parent / "models" / "bundled")
SCRIPTS = {"default": "Hello there.", **json.loads(Path(sys.argv[1]).read_text())}
STEP_SECONDS = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
(END,) = TOKENIZER.eos_ids


class ScriptedRunner(ModelRunner):
    scripts: dict[int, list[int]] = {}  # noqa: RUF012 - one runner a process

    def add(self, seq_id: int, state: RequestState, prompt_ids: Sequence[int]) -> None:
        super().add(seq_id, state, prompt_ids)
        named = re.findall(r"SCRIPT:(\w+)", TOKENIZER.decode(prompt_ids))
        text = SCRIPTS[named[-1] if named and named[-1] in SCRIPTS else "default"]
        self.scripts[seq_id] = [*TOKENIZER.encode(text, add_special=False, parse_special=True), END]

    def remove(self, seq_id: int) -> None:
        super().remove(seq_id)
        self.scripts.pop(seq_id, None)

    def submit(self, batch: Batch) -> None:
        time.sleep(STEP_SECONDS)
        tokens: dict[int, int] = {}
        for item in batch.items:
            if item.samples:
                script = self.scripts[item.seq_id]
                token = _permitted(self.states[item.seq_id], script[min(item.output_index, len(script) - 1)])
                tokens[item.seq_id] = token
                self.states[item.seq_id].saw(token)
        done = Done(batch, tokens, time.monotonic())
        self.flights.append(InFlight(lambda: done))


def _permitted(state: RequestState, token: int) -> int:
    """The token of the script, or where a grammar rules it out the one that brings the answer to its end."""
    if state.constraint is None:
        return token
    allowed_V = state.constraint.allowed()
    if allowed_V[token]:
        return token
    return int(state.constraint.leanings().masked_fill(~allowed_V, float("-inf")).argmax())


if __name__ == "__main__":
    main(ScriptedRunner)
