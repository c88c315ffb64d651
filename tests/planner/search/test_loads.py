"""Loads: presets with sources, files of lengths, garbage refused."""

import json

import pytest

from farthing.errors import UsageError
from farthing.planner.search.loads import demand_of, presets
from farthing.planner.search.slo import Slo

_LONG = 131_072


def test_every_figure_of_a_preset_has_a_source_or_is_marked_assumed():
    for preset in presets().values():
        for name, figure in preset.figures.items():
            assert figure.sources or figure.assumed, (preset.name, name)


@pytest.mark.parametrize("name", ["chat", "code-agent", "rag", "batch"])
def test_a_preset_is_a_load_that_fits_its_model(name):
    demand, _ = demand_of(_LONG, users=3, workload=name)
    assert 1 <= demand.new_tokens <= demand.input_tokens
    assert demand.input_tokens + demand.output_tokens <= demand.longest <= _LONG
    assert demand.amount == 3


def test_a_workload_longer_than_the_models_context_is_cut_and_says_so():
    demand, _ = demand_of(32_768, users=1, workload="code-agent")
    assert demand.longest == 32_768
    assert demand.input_tokens + demand.output_tokens <= 32_768
    assert any("of the 32,768 that the model takes" in note for note in demand.notes)


def test_an_agent_needs_more_than_an_old_models_context():
    with pytest.raises(UsageError, match="needs a context"):
        demand_of(4096, users=1, workload="code-agent")


def test_without_a_load_one_user_chats():
    demand, slo = demand_of(_LONG)
    assert (demand.users, demand.name) == (1, "chat")
    assert slo != Slo()


def test_lengths_that_are_said_go_before_the_presets():
    demand, _ = demand_of(_LONG, rate=2.0, workload="chat", input_tokens=2040, output_tokens=7)
    assert (demand.input_tokens, demand.output_tokens, demand.rate) == (2040, 7, 2.0)
    assert demand.new_tokens == 1040  # in the preset's proportion


@pytest.mark.parametrize(
    "said",
    [
        {"users": 0},
        {"users": -1},
        {"rate": 0.0},
        {"rate": -1.0},
        {"rate": float("nan")},
        {"rate": float("inf")},
        {"users": 1, "rate": 1.0},
        {"users": 1, "workload": "no-such-thing"},
        {"users": 1, "think_seconds": -1.0},
        {"users": 1, "input_tokens": 2**20},
        {"users": 1, "context": 100, "workload": "chat", "input_tokens": 90, "output_tokens": 90},
    ],
)
def test_what_is_no_load_is_refused(said):
    with pytest.raises(UsageError) as raised:
        demand_of(_LONG, **said)
    assert raised.value.fix


@pytest.mark.parametrize("ttft, tpot", [(0.0, None), (None, -0.1), (float("nan"), None), (None, float("inf"))])
def test_what_is_no_promise_is_refused(ttft, tpot):
    with pytest.raises(UsageError):
        Slo(ttft, tpot)


def test_a_file_gives_mean_spread_and_the_longest(tmp_path):
    file = tmp_path / "lengths.jsonl"
    file.write_text("".join(json.dumps({"input_length": n, "output_length": 10}) + "\n" for n in (100, 300)))
    demand, _ = demand_of(_LONG, users=2, workload=str(file))
    assert (demand.input_tokens, demand.output_tokens, demand.longest) == (200, 10, 310)
    assert demand.spread == pytest.approx((100 / 200) ** 2)


def test_a_csv_may_use_the_names_of_known_traces(tmp_path):
    file = tmp_path / "azure.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n0,40,8\n1,60,12\n")
    demand, _ = demand_of(_LONG, users=2, workload=str(file))
    assert (demand.input_tokens, demand.output_tokens) == (50, 10)


@pytest.mark.parametrize(
    "content, names",
    [
        (b"", "no request"),
        (b"{\n", "line 1"),
        (b'{"input_tokens": 1}\n', "output_tokens"),
        (b'{"input_tokens": 1, "output_tokens": 1}\n[1]\n', "line 2"),
        (b'{"input_tokens": -5, "output_tokens": 1}\n', "-5"),
        (b'{"input_tokens": 1.5, "output_tokens": 1}\n', "1.5"),
        (b'{"input_tokens": true, "output_tokens": 1}\n', "True"),
        (b"a,b\n1,2\n", "input_tokens"),
        (b"input_tokens,output_tokens\n1,two\n", "two"),
        (b"input_tokens,output_tokens\n1\n", "None"),
        (b"\xff\xfe\x00garbage", "UTF-8"),
        (b'{"input_tokens": ' + b"9" * 30 + b', "output_tokens": 1}\n', "999"),
        (b"[" * 100_000, "input_tokens"),
    ],
)
def test_garbage_in_a_file_is_named(tmp_path, content, names):
    file = tmp_path / "lengths.jsonl"
    file.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        demand_of(_LONG, users=1, workload=str(file))
    assert names in str(raised.value)
