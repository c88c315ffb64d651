"""Answers of the bundled model under every schema of the corpus: valid where they end, and nearly all end."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from farthing import models
from farthing.engine.config import EngineConfig
from farthing.engine.llm import LLM
from farthing.errors import FarthingError
from farthing.sampling_params import Grammar, SamplingParams

SCHEMAS = json.loads((Path(__file__).parents[2] / "data/schemas/enforced.json").read_text())
CONTEXT = 2048


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    """The bundled model with room for long answers."""
    folder = tmp_path_factory.mktemp("model") / "bundled"
    shutil.copytree(Path(models.__file__).parent / "bundled", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    with LLM(folder, EngineConfig(context=CONTEXT)) as llm:
        yield llm


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_answers_that_end_validate_and_95_percent_end_within_512_tokens(llm, temperature):
    params = [
        SamplingParams(
            temperature=temperature, seed=1, max_tokens=512, grammar=Grammar("json_schema", json.dumps(case["schema"]))
        )
        for case in SCHEMAS
    ]
    answers = [output.completions[0] for output in llm.generate(["Once upon a time"] * len(params), params)]
    ended = []
    for case, answer in zip(SCHEMAS, answers, strict=True):
        if answer.finish_reason == "stop":
            jsonschema.Draft202012Validator(case["schema"]).validate(json.loads(answer.text))
            ended.append(case["name"])
        else:
            assert answer.finish_reason == "length" and len(answer.token_ids) == 512
    print(f"temperature {temperature}: {len(ended)} of {len(SCHEMAS)} ended within 512 tokens")
    assert len(ended) >= 0.95 * len(SCHEMAS), {case["name"] for case in SCHEMAS} - set(ended)


def test_samples_of_one_request_keep_to_the_grammar_each_for_itself(llm):
    params = SamplingParams(n=8, seed=5, temperature=9.0, max_tokens=40, grammar=Grammar("regex", "[a-z]{4} [a-z]{4}"))
    completions = llm.generate("Is it?", params).completions
    assert all(re.fullmatch("[a-z]{4} [a-z]{4}", completion.text) for completion in completions)
    assert len({completion.text for completion in completions}) > 1
    assert {completion.finish_reason for completion in completions} == {"stop"}


def test_min_tokens_and_ignore_eos_yield_where_the_answer_is_complete(llm):
    for more in ({"min_tokens": 20}, {"ignore_eos": True}):
        params = SamplingParams(temperature=0.0, max_tokens=30, grammar=Grammar("choice", '["yes"]'), **more)
        completion = llm.generate("Is it?", params).completions[0]
        assert (completion.text, completion.finish_reason) == ("yes", "stop")


def test_a_grammar_that_can_not_be_compiled_fails_its_request_alone(llm):
    with pytest.raises(FarthingError, match="unclosed group"):
        llm.generate("Is it?", SamplingParams(grammar=Grammar("regex", "a(")))
    assert llm.generate("Is it?", SamplingParams(max_tokens=5, grammar=Grammar("regex", "a"))).text == "a"
