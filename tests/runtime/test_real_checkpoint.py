"""A real trained checkpoint (stories260K.gguf): the logits and the greedy text that transformers gives for it."""

from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import load

from farthing import LLM, SamplingParams
from farthing.engine.config import EngineConfig
from farthing.kernels.vendor import VendorKernels

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def checkpoint(shared: Path) -> Path:
    return shared / "fixtures" / "checkpoints" / "stories260K.gguf"


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> transformers.PreTrainedModel:
    config = transformers.AutoConfig.from_pretrained(checkpoint.parent, gguf_file=checkpoint.name)
    config.pad_token_id = None  # the file has none, and the class's default lies outside this small vocabulary
    return transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint.parent,
        gguf_file=checkpoint.name,
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
    ).eval()


def test_its_logits_are_those_of_transformers(checkpoint: Path, reference: transformers.PreTrainedModel) -> None:
    loaded = load(checkpoint, kernels=VendorKernels())
    ids = torch.tensor([1, *range(3, 200, 2)])
    found = loaded.all_logits(ids.tolist())
    with torch.inference_mode():
        expected = reference(ids[None]).logits[0].float()
    assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-4


def test_its_greedy_text_is_that_of_transformers(checkpoint: Path, reference: transformers.PreTrainedModel) -> None:
    """The ids of transformers, as the file's own tokenizer spells them (transformers can't load it: its padding id lies
    outside the vocabulary)."""
    with LLM(str(checkpoint), EngineConfig(format="fp32")) as llm:
        output = llm.generate(PROMPT, SamplingParams(temperature=0.0, max_tokens=200))
        tokens = output.completions[0].token_ids
        ids = torch.tensor([list(output.prompt_ids)])
        expected = reference.generate(ids, max_new_tokens=200, do_sample=False, eos_token_id=None, pad_token_id=0)[0]
        text = llm.engine.text.tokenizer.decode(expected[: ids.shape[1] + len(tokens)].tolist())
    assert tokens == expected[ids.shape[1] :].tolist()[: len(tokens)]
    assert len(tokens) >= 64
    assert PROMPT + output.text == text
    assert output.text.startswith(", there was a little girl named Lily.")
