"""What sequences have said and want of their logits for it, as a device reads it. Knows no logits and no requests.

Shapes: R rows, S slots of a history each, V vocabulary.
"""

from dataclasses import dataclass

import torch

NO_HISTORY = -1
"""The slot of a row whose logits stay as they are."""


@dataclass(frozen=True, slots=True)
class History:
    """`slots_R` (int64): where the history of a row's sequence lies in the other tensors; no two rows share one.

    Of each slot: the penalties (fp32). Of each of its tokens: `prompt_SV` (int8), 1 if the prompt has it; `counts_SV`
    (int32), how often the output has it; `bias_SV` (fp32), which is added last; negative infinity there is a mask.
    """

    slots_R: torch.Tensor
    repetition_S: torch.Tensor
    presence_S: torch.Tensor
    frequency_S: torch.Tensor
    prompt_SV: torch.Tensor
    counts_SV: torch.Tensor
    bias_SV: torch.Tensor
