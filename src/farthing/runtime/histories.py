"""What sequences have said, kept on the device for those whose next token depends on it: penalties, bias, min_tokens.

There are as many slots as the memory plan has (models/graph_memory.py). A sequence takes one when a token is first
drawn for it, and keeps it until it is removed, preempted or not; whoever finds none is left to the host. Slots are
written in the order in which the device computes: nothing is waited for, and what is on its way is not disturbed.
Knows no logits: kernels read the slots, and count in them what they draw. Shapes as in kernels/histories.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from farthing.kernels.histories import History
from farthing.models.graph_memory import num_histories
from farthing.runtime.int_buffer import IntBuffer
from farthing.runtime.sampler import RequestState


class Histories:
    """For steps of at most `max_rows` rows, as many of them on their way as `depth` says."""

    def __init__(self, max_rows: int, vocab_size: int, *, device: torch.device, depth: int) -> None:
        num_slots = num_histories(max_rows)
        self._device = device
        self._slots_R = IntBuffer(max_rows, device=device, turns=depth)
        self._depth, self._turn = depth, 0
        size = (num_slots, vocab_size)
        self._kept = History(
            self._slots_R.tensor,
            repetition_S=torch.ones(num_slots, dtype=torch.float32, device=device),
            presence_S=torch.zeros(num_slots, dtype=torch.float32, device=device),
            frequency_S=torch.zeros(num_slots, dtype=torch.float32, device=device),
            prompt_SV=torch.zeros(size, dtype=torch.int8, device=device),
            counts_SV=torch.zeros(size, dtype=torch.int32, device=device),
            bias_SV=torch.zeros(size, dtype=torch.float32, device=device),
        )
        self._free = list(range(num_slots))
        self._taken: dict[int, int] = {}  # by sequence
        self._masking: set[int] = set()  # slots in whose bias stops are masked

    def slot(self, seq_id: int, state: RequestState, output_index: int) -> int | None:
        """That of a sequence of which the next token, the one of this index, is to be drawn. None if none is free."""
        slot, masks = self._taken.get(seq_id), state.masks_stops(output_index)
        if slot is None:
            if not self._free:
                return None
            slot = self._taken[seq_id] = self._free.pop()
            self._write(slot, state)
            self._write_bias(slot, state, masks)
        elif slot in self._masking and not masks:
            self._write_bias(slot, state, masks)
        return slot

    def of(self, slots: Sequence[int]) -> History:
        """The history of each row of a step, by its slot or NO_HISTORY."""
        self._turn = (self._turn + 1) % self._depth
        self._slots_R.put(slots, turn=self._turn)
        return replace(self._kept, slots_R=self._slots_R.tensor[: len(slots)])

    def free(self, seq_id: int) -> None:
        """The sequence is drawn from no more; unknown ids are ignored."""
        slot = self._taken.pop(seq_id, None)
        if slot is not None:
            self._free.append(slot)

    def _write(self, slot: int, state: RequestState) -> None:
        params, counts, kept = state.params, state.output_counts, self._kept
        kept.repetition_S[slot] = params.repetition_penalty
        kept.presence_S[slot] = params.presence_penalty
        kept.frequency_S[slot] = params.frequency_penalty
        kept.prompt_SV[slot].zero_().index_fill_(0, self._moved(state.prompt_ids), 1)
        output_ids = self._moved(torch.tensor(list(counts), dtype=torch.int64))
        output_counts = self._moved(torch.tensor(list(counts.values()), dtype=torch.int32))
        kept.counts_SV[slot].zero_().index_copy_(0, output_ids, output_counts)

    def _write_bias(self, slot: int, state: RequestState, masks: bool) -> None:
        bias_V = self._kept.bias_SV[slot].zero_()
        bias_V.index_copy_(0, self._moved(state.bias_ids), self._moved(state.biases))
        self._masking.discard(slot)
        if masks:
            self._masking.add(slot)
            stop_ids = state.stop_ids[state.stop_ids < bias_V.numel()]  # a tokenizer's may lie beyond
            bias_V.index_fill_(0, self._moved(stop_ids), float("-inf"))

    def _moved(self, values: torch.Tensor) -> torch.Tensor:
        """On the device, which is not waited for."""
        if self._device.type == "cuda" and values.numel():
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)
