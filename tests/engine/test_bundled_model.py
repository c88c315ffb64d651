"""The bundled model through Farthing's own engine: it ends by itself, and computes what transformers computes."""

import re
from collections.abc import Iterator

import pytest
import torch
import transformers

from farthing import LLM, SamplingParams
from farthing.engine.config import EngineConfig
from farthing.models.reference import find_model

QUESTIONS = ("Hello!", "Who are you?", "What is 2 + 3?", "Tell me a story about a fox.", "What colour is the sky?")


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("bundled", EngineConfig(max_num_seqs=25)) as loaded:
        yield loaded


def test_nine_of_ten_samples_end_by_themselves_within_200_tokens(llm: LLM) -> None:
    stories = [llm.engine.text.encode("Once upon a time")] * 25
    answers = [llm.engine.text.encode_chat([{"role": "user", "content": question}]) for question in QUESTIONS * 5]
    params = [SamplingParams(temperature=0.7, max_tokens=200, seed=seed) for seed in range(50)]
    outputs = llm.generate([*stories, *answers], params)
    ended = [output.completions[0].finish_reason == "stop" for output in outputs]
    assert sum(ended) >= 45
    sentences = [re.findall(r"[A-Z\"][^.!?]*[.!?]", output.text) for output in outputs[:25]]
    assert sum(len(found) >= 3 for found in sentences) >= 23, "a story is several whole sentences"


def test_a_story_that_is_opened_in_a_chat_is_continued(llm: LLM) -> None:
    prompt = "Once upon a time, there was a"
    assert llm.engine.text.encode_chat([{"role": "user", "content": prompt}]) == llm.engine.text.encode(prompt)


def test_its_logits_are_those_of_transformers_in_fp32() -> None:
    folder = find_model("bundled").path
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with LLM("bundled", EngineConfig(format="fp32")) as llm:
        output = llm.generate(
            "Once upon a time, there was a fox.", SamplingParams(temperature=0.0, max_tokens=40, prompt_logprobs=0)
        )
    ids = torch.tensor([list(output.prompt_ids)])
    with torch.inference_mode():
        logprobs = reference(ids).logits[0].log_softmax(-1)
    expected = [float(logprobs[position, token]) for position, token in enumerate(output.prompt_ids[1:])]
    assert [told.logprob for told in output.prompt_logprobs] == pytest.approx(expected, abs=1e-3)
    generated = reference.generate(ids, max_new_tokens=40, do_sample=False, pad_token_id=0)[0, ids.shape[1] :].tolist()
    tokens = output.completions[0].token_ids
    assert generated[: len(tokens)] == tokens
