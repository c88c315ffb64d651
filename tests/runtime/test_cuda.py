"""The same runtime on a CUDA device: the plain torch kernels compute there what they compute on the CPU."""

from itertools import takewhile

import pytest
import torch

from farthing import LLM, SamplingParams
from farthing.engine.config import EngineConfig
from farthing.engine.request import Completion
from farthing.runtime.probe import device_key, probe
from farthing.runtime.probe_graph_calls import graph_seconds
from farthing.sampling_params import Grammar

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none"),
]
NEAR_TIE = 1e-4  # between the log-probabilities of the two most likely tokens: behind it, either is right
PROMPTS = ["Once upon a time", "The king said", "One day, a fox and a hen"]


@pytest.mark.parametrize("batch_invariant", [True, False])
def test_greedy_tokens_in_fp32_are_those_of_the_cpu_up_to_a_near_tie(batch_invariant: bool) -> None:
    answers: list[list[Completion]] = []
    for device, logprobs in (("cpu", 2), ("cuda", None)):  # tokens whose logprobs are wanted aren't drawn on the device
        params = SamplingParams(temperature=0.0, max_tokens=32, ignore_eos=True, logprobs=logprobs)
        config = EngineConfig(device=device, format="fp32", batch_invariant=batch_invariant)
        with LLM("bundled", config) as llm:
            answers.append([output.completions[0] for output in llm.generate(PROMPTS, params)])
    for expected, found in zip(*answers, strict=True):
        sure = len([*takewhile(lambda told: told.top[0][1] - told.top[1][1] > NEAR_TIE, expected.logprobs)])
        assert sure > 0 and found.token_ids[:sure] == expected.token_ids[:sure]


def test_what_the_device_and_the_host_draw_in_one_batch_is_the_text_of_the_cpu() -> None:
    """Three times over, so that slots are taken again."""
    asked = [
        SamplingParams(max_tokens=24, temperature=0.0, repetition_penalty=1.3, frequency_penalty=0.2),
        SamplingParams(max_tokens=40, temperature=0.0, min_tokens=30, logit_bias={5: 1.5}),
        SamplingParams(max_tokens=24, temperature=0.0, logprobs=2, presence_penalty=0.5),
        SamplingParams(max_tokens=24, temperature=0.0, grammar=Grammar("regex", "[a-z ]{5,40}")),
        SamplingParams(max_tokens=24, temperature=0.0),
    ] * 3
    texts = []
    for device in ("cpu", "cuda"):
        config = EngineConfig(device=device, format="fp32", batch_invariant=True, speculation="off", max_num_seqs=4)
        with LLM("bundled", config) as llm:
            outputs = llm.generate([f"{PROMPTS[index % 3]} {index}" for index in range(len(asked))], asked)
            texts.append([output.text for output in outputs])
    assert texts[0] == texts[1]


@pytest.mark.parametrize("weight_format", ["bf16", "fp16", "int8", "int4"])
def test_every_format_answers_with_all_sampling_options(weight_format: str) -> None:
    params = SamplingParams(
        temperature=0.8, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.1, presence_penalty=0.1,
        logit_bias={5: -1.0}, min_tokens=3, logprobs=2, prompt_logprobs=1, max_tokens=16, seed=1,
    )  # fmt: skip
    with LLM("bundled", EngineConfig(device="cuda", format=weight_format)) as llm:
        outputs = llm.generate(PROMPTS, params)
        again = llm.generate(PROMPTS[1], params)
    assert all(output.finished and output.prompt_logprobs for output in outputs)
    assert again.completions[0].token_ids


def test_the_device_is_measured() -> None:
    calibration = probe("cuda", quick=True, progress=lambda what, share: None)
    assert calibration.read_bandwidth(2**28) > 0 and calibration.flops_per_second("bf16", 128) > 0
    assert calibration.device == device_key(torch.device("cuda", 0), compiled=True), "an engine meets it again"


def test_a_call_in_a_graph_and_an_empty_step_take_microseconds() -> None:
    with torch.inference_mode():
        per_call, per_step = graph_seconds(torch.device("cuda", 0))
    print(f"a call {per_call * 1e6:.2f} us, a step {per_step * 1e6:.1f} us")
    assert 0.3e-6 < per_call < 20e-6 and 0 < per_step < 1e-3
