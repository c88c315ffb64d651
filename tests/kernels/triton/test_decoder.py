"""A whole model on Triton's kernels in the interpreter; on a GPU tests/runtime/test_cuda.py runs one in the engine."""

from pathlib import Path

import pytest
import torch
from tiny_models import CASES, load, make_reference, save_reference
from triton_kernels import launcher

from farthing.kernels.triton.backend import TritonKernels
from farthing.sampling_params import SamplingParams

PROMPTS = {0: [1, 5, 9], 1: [1, *range(30, 50)]}
GREEDY = SamplingParams(temperature=0.0, max_tokens=2)
SAMPLED = SamplingParams(temperature=0.8, top_k=40, top_p=0.9, max_tokens=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels run on the GPU alone")
@pytest.mark.parametrize("name", ["qwen3-window"])  # QK norm, some layers with a window
def test_greedy_tokens_are_those_of_the_reference(name: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    folder = save_reference(make_reference(case), tmp_path)
    kernels = TritonKernels(launcher("cpu"), batch_invariant=True)
    assert load(folder, kernels=kernels).run(PROMPTS, GREEDY) == load(folder).run(PROMPTS, GREEDY)


@pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels run on the GPU alone")
def test_tokens_drawn_on_the_device_while_the_next_step_is_on_its_way_are_those_of_the_sampler(tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == "llama-2-one-layer")
    folder = save_reference(make_reference(case), tmp_path)
    kernels = TritonKernels(launcher("cpu"), batch_invariant=True)
    found = load(folder, kernels=kernels, depth=2).run(PROMPTS, SAMPLED)
    assert found == load(folder).run(PROMPTS, SAMPLED)
