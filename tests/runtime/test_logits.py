"""Logits and greedy text against transformers, in fp32, for every family and option."""

from pathlib import Path
from typing import Any

import pytest
import torch
from native_kernels import native
from tiny_models import CASES, Case, load, make_reference, save_reference

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels
from farthing.sampling_params import SamplingParams

NUM_GREEDY = 64
MIN_GAP = 1e-3  # between the two largest logits, relative to the largest: what makes greedy equality more than luck


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def greedy_reference(reference: Any) -> tuple[list[int], list[int]]:
    """The first prompt whose greedy continuation by transformers has no near tie, and that continuation."""
    for seed in range(40):
        prompt = [1, *torch.randint(3, 300, (90,), generator=torch.Generator().manual_seed(seed)).tolist()]
        output = reference.generate(
            torch.tensor([prompt]),
            max_new_tokens=NUM_GREEDY,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
        top_two = torch.stack(output.logits)[:, 0].topk(2).values
        if bool(((top_two[:, 0] - top_two[:, 1]) > MIN_GAP * top_two[:, 0].abs().max()).all()):
            return prompt, output.sequences[0, len(prompt) :].tolist()
    raise AssertionError("every prompt has a near tie: give the model another seed")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_logits_and_greedy_text_are_those_of_transformers(case: Case, tmp_path: Path) -> None:
    reference = make_reference(case)
    save_reference(reference, tmp_path)
    prompt, expected_text = greedy_reference(reference)
    with torch.inference_mode():
        expected = reference(torch.tensor([prompt])).logits[0].float()
    for kernels in (ReferenceKernels(), VendorKernels(), native()):
        loaded = load(tmp_path, kernels=kernels)
        assert relative_error(loaded.all_logits(prompt), expected) <= 1e-4
        greedy = SamplingParams(temperature=0.0, max_tokens=NUM_GREEDY)
        assert loaded.run({0: prompt}, greedy)[0] == expected_text


def test_there_are_at_least_24_configurations_over_all_families() -> None:
    assert len(CASES) >= 24
    assert {case.family for case in CASES} == {"Llama", "Mistral", "Qwen2", "Qwen3"}
