"""How a worker is driven: a line of words in ("decode 16 32 24"), a line of JSON out ({"seconds": 1.25}).

Runs in Farthing's Python and in the peers'; knows no engine. A worker that waits for a line uses no processor.
"""

import json
import os
import random
import sys
from collections.abc import Callable

FIRST_ID = 300  # below it lie the special tokens and the bytes
MAX_BATCH_TOKENS = 512
PROMPT_TOKENS, OUTPUT_TOKENS = (32, 512), (32, 256)  # of the requests of `serve`: from, to


def answer_lines(load: Callable[[], object]) -> None:
    """Load the engine, then call its methods as the lines say, with numbers as arguments. What libraries print on
    standard output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = load()
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        name, *numbers = line.split()
        try:
            answer: dict[str, object] = {"seconds": getattr(engine, name)(*map(int, numbers))}
        except Exception as error:  # whatever it is, the parent tells
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def random_ids(count: int, vocab_size: int) -> list[int]:
    """Speed does not depend on which they are; each call gives others, so that no prefix is met again."""
    return [random.randrange(FIRST_ID, vocab_size) for _ in range(count)]


def workload(num_requests: int, seed: int) -> list[tuple[int, int]]:
    """(prompt tokens, output tokens) of each request, the same in every worker."""
    draw = random.Random(seed)
    return [(draw.randint(*PROMPT_TOKENS), draw.randint(*OUTPUT_TOKENS)) for _ in range(num_requests)]
