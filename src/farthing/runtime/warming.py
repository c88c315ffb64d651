"""Steps of rows that compute nothing, before the first request: what a GPU's kernels are compiled for is compiled at
start-up and not in the middle of an answer, and memory that the largest step needs is there.

Kernels are compiled anew for each doubling of the sequences, and others are chosen by the number of rows; decodes,
which are recorded, have been through that. Knows no kernel.
"""

from collections.abc import Iterator

from farthing.runtime.graph import Steps
from farthing.runtime.inputs import InputBuffers

_FEW = 16  # new tokens of a sequence, more than those that are computed like decodes


def warm(steps: Steps, buffers: InputBuffers) -> None:
    """Compute steps with prompts, up to the largest."""
    whole = buffers.whole
    for num_tokens, num_sequences in sizes(len(whole.token_ids_T), len(whole.sequences.starts_S)):
        x_RH = steps.hidden(buffers.first(num_tokens, num_sequences, num_sequences))
        steps.largest(steps.logits(x_RH))


def sizes(max_tokens: int, max_sequences: int) -> Iterator[tuple[int, int]]:
    """(tokens, sequences) of the steps: of every doubling of either, with more tokens than sequences, a few for each,
    and the largest."""
    most = min(max_sequences, max_tokens - 1)
    yield from ((num_sequences + 1, num_sequences) for num_sequences in (*_doublings(most), most) if num_sequences)
    yield from ((num_tokens, 1) for num_tokens in _doublings(max_tokens) if num_tokens > 1)
    sequences = (*_doublings(max_sequences), max_sequences)
    yield from ((min(_FEW * num_sequences, max_tokens), num_sequences) for num_sequences in sequences)
    yield max_tokens, max_sequences


def _doublings(most: int) -> Iterator[int]:
    """1, 2, 4 and on, below `most`."""
    number = 1
    while number < most:
        yield number
        number *= 2
