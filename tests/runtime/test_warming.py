"""What is computed before the first request covers all that later steps are compiled for."""

import pytest
import torch

from farthing.runtime.inputs import InputBuffers, Limits, StepInputs
from farthing.runtime.warming import sizes, warm


def power(number: int) -> int:
    return (number - 1).bit_length()


@pytest.mark.parametrize("limits", [(512, 16), (2048, 256), (256, 256), (1, 1), (9, 3)], ids=str)
def test_every_doubling_of_sequences_and_of_tokens_is_met_once_there_are_prompts(limits: tuple[int, int]) -> None:
    max_tokens, max_sequences = limits
    met = list(sizes(max_tokens, max_sequences))
    assert all(num_tokens <= max_tokens and num_sequences <= max_sequences for num_tokens, num_sequences in met)
    assert (max_tokens, max_sequences) in met
    mixed = [(num_tokens, num_sequences) for num_tokens, num_sequences in met if num_tokens > num_sequences]
    of_sequences = {power(num_sequences) for _, num_sequences in mixed}
    of_tokens = {power(num_tokens) for num_tokens, _ in met}
    assert {power(number) for number in range(1, max_sequences + 1) if number < max_tokens} <= of_sequences
    assert {power(number) for number in range(2, max_tokens + 1)} <= of_tokens


def test_each_is_computed_to_the_largest_logit_from_the_buffers_themselves() -> None:
    """Which is where a recorded step would look, too."""
    buffers = InputBuffers(Limits(8, 2, 64), block_size=16, device=torch.device("cpu"))
    calls: list[tuple[str, int]] = []

    class Steps:
        def prepare(self) -> None:
            calls.append(("prepare", 0))

        def hidden(self, inputs: StepInputs) -> torch.Tensor:
            assert inputs.token_ids_T.data_ptr() == buffers.whole.token_ids_T.data_ptr()
            calls.append(("hidden", len(inputs.token_ids_T)))
            return torch.zeros(len(inputs.logit_rows), 4)

        def logits(self, x_RH: torch.Tensor) -> torch.Tensor:
            calls.append(("logits", len(x_RH)))
            return x_RH

        def largest(self, logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            calls.append(("largest", len(logits_RV)))
            return logits_RV[:, 0], logits_RV[:, 0].long()

    warm(Steps(), buffers)
    assert [name for name, _ in calls] == ["hidden", "logits", "largest"] * (len(calls) // 3)
    assert calls[-3:] == [("hidden", 8), ("logits", 2), ("largest", 2)]
