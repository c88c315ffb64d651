"""A step priced by the sums of its batch costs what the description says, to the byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec, Precision
from farthing.models.step_cost import StepCost
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 320,
}


def described(weight_format: str = "bf16", **changes: object) -> ModelSpec:
    precision = Precision.of(resolve(weight_format, "cpu"))
    return describe(ConfigReader({**CONFIG, **changes}, "config.json"), precision)


SPECS = {
    "plain": described(),
    "tied": described(tie_word_embeddings=True, attention_bias=True),
    "int8": described("int8"),
    "windowed": described(architectures=["MistralForCausalLM"], sliding_window=24),
    "qwen3": described(architectures=["Qwen3ForCausalLM"], head_dim=32),
    "rank": parallelize(described(), tp=2, pp=1)[0],
}
BATCHES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), max_size=6)


@pytest.mark.parametrize("name", list(SPECS))
@given(sequences=BATCHES, num_logits=st.integers(0, 8))
def test_the_cost_by_sums_equals_that_of_the_description(
    name: str, sequences: list[tuple[int, int]], num_logits: int
) -> None:
    spec, batch = SPECS[name], BatchShape.of(sequences, num_logits)
    by_sums = StepCost.of(spec)
    assert by_sums is not None
    cost, described_cost = by_sums.cost(batch), spec.cost(batch)
    assert (cost.read_bytes, cost.write_bytes, cost.comm_bytes) == (
        described_cost.read_bytes,
        described_cost.write_bytes,
        described_cost.comm_bytes,
    )
    assert cost.flops == {math: count for math, count in described_cost.flops.items() if count}


@given(sequences=BATCHES.filter(bool), num_logits=st.integers(0, 8))
def test_what_varies_adds_up_over_the_sequences(sequences: list[tuple[int, int]], num_logits: int) -> None:
    by_sums = StepCost.of(SPECS["windowed"])
    assert by_sums is not None
    whole = by_sums.sums(BatchShape.of(sequences, num_logits))
    parts = [by_sums.sums(BatchShape.of([one], num_logits if index == 0 else 0)) for index, one in enumerate(sequences)]
    for line in (by_sums.read, by_sums.write, *(line for _, line in by_sums.flops)):
        assert line.varying(whole) == sum(line.varying(part) for part in parts)


def test_the_cache_is_read_where_it_is_attended_and_written_where_it_grows() -> None:
    by_sums = StepCost.of(SPECS["plain"])
    assert by_sums is not None
    one = 3 * 2 * 2 * 16 * 2  # layers, K and V, heads, head size, 16 bits
    assert by_sums.kv_bytes(by_sums.sums(BatchShape.of([(1, 9), (1, 4)]))) == one * (10 + 5 + 2)


def test_experts_are_no_such_sum() -> None:
    mixtral = described(architectures=["MixtralForCausalLM"], num_local_experts=4, num_experts_per_tok=2)
    assert StepCost.of(mixtral) is None
