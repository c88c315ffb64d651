"""What a replica carries in closed form: by hand, monotone, and as the simulator has it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.hardware.accelerator import load_accelerator
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.planner.engines.engine_profile import find_engine
from farthing.planner.search.candidates import Descriptions, Wishes, precisions
from farthing.planner.search.capacity import ReplicaLoad
from farthing.planner.search.confirm import confirm
from farthing.planner.search.loads import Demand
from farthing.planner.search.slo import Slo
from farthing.planner.timing.load_steps import StepUse
from farthing.planner.timing.step_times import step_times


def _times(id="h100-sxm", model="llama-3.1-8b", tp=1, pp=1, **changes):
    published = find_published(model)
    descriptions = Descriptions(ConfigReader(published.config, published.name))
    accelerator = load_accelerator(id)
    precision = precisions(accelerator, descriptions.config, Wishes(kv_format="fp16"))[0]
    return step_times(
        descriptions.spec(precision), replace(accelerator, **changes), tp, pp, find_engine("vllm"), 1.25e9
    )


_H100 = _times()


def _demand(**said):
    whole = {
        "name": "test", "users": 8, "rate": None, "input_tokens": 1000, "new_tokens": 1000, "output_tokens": 200,
        "prefix_of": "nobody", "think_seconds": 5.0, "spread": 0.0, "longest": 1200,
    } | said  # fmt: skip
    return Demand(**whole)


def test_littles_law_holds_in_the_steady_state():
    load = ReplicaLoad(_H100, _demand(users=40))
    steady = load.steady(40.0, keeps=False)
    answer_seconds = 199 * steady.tpot_mean
    assert steady.running == pytest.approx(steady.rate * answer_seconds, rel=1e-3)
    assert steady.running + steady.rate * (5.0 + steady.ttft_mean) == pytest.approx(40, rel=1e-3)


def test_decode_seconds_lie_on_the_steps_and_not_below_them_between():
    from_engine = [_H100.replica.stage_seconds(use)[0] for use in _uses(1, 8, 9, 10, 11, 128)]
    ours = [_H100.decode_seconds(count, 1100) for count in (1, 8, 9, 10, 11, 128)]
    for index in (0, 1, 4, 5):
        assert ours[index] == pytest.approx(from_engine[index])
    for index in (2, 3):
        assert from_engine[index] * (1 - 1e-9) <= ours[index] <= from_engine[index] * 1.01


def _uses(*counts):

    return [StepUse(1.0, count, 1, 1100) for count in counts]


@given(
    users=st.integers(1, 300),
    new=st.integers(16, 6000),
    output=st.integers(2, 800),
    think=st.floats(0, 60),
    spread=st.floats(0, 2),
    ttft=st.floats(0.05, 20),
    tpot=st.floats(0.004, 0.2),
)
@settings(max_examples=60, deadline=None)
def test_what_is_carried_keeps_the_promise_and_one_more_step_of_capacity_never_hurts(
    users, new, output, think, spread, ttft, tpot
):
    demand = _demand(
        users=users, input_tokens=new, new_tokens=new, output_tokens=output, longest=new + output,
        think_seconds=think, spread=spread,
    )  # fmt: skip
    slo, load = Slo(ttft, tpot), ReplicaLoad(_H100, demand)
    capacity = load.capacity(slo)
    assert 0 <= capacity.amount <= users
    if capacity.amount:
        steady = load.steady(capacity.amount, keeps=False)
        assert slo.is_met(steady.ttft, steady.tpot)
        assert steady.kv_tokens <= _H100.kv_tokens
        looser = ReplicaLoad(_H100, demand).capacity(Slo(ttft * 1.5, tpot * 1.5))
        assert looser.amount >= capacity.amount
    else:
        assert capacity.binds != "none"


@given(rate=st.floats(0.05, 50), faster=st.floats(1.0, 3.0))
@settings(max_examples=25, deadline=None)
def test_more_bandwidth_never_carries_less(rate, faster):
    bandwidth = load_accelerator("h100-sxm").bandwidth
    quick = _times(bandwidth=replace(bandwidth, value=bandwidth.value * faster))
    demand, slo = _demand(users=None, rate=rate), Slo(2.0, 0.03)
    slow, fast = ReplicaLoad(_H100, demand).capacity(slo), ReplicaLoad(quick, demand).capacity(slo)
    assert fast.amount >= slow.amount * (1 - 1e-3)
    if slow.amount == rate:
        a, b = ReplicaLoad(_H100, demand).steady(rate, False), ReplicaLoad(quick, demand).steady(rate, False)
        assert b.tpot <= a.tpot * (1 + 1e-3) and b.ttft <= a.ttft * (1 + 1e-3)


def test_a_conversation_that_is_kept_carries_more_and_takes_room_for_every_user():
    demand = _demand(users=10_000, input_tokens=8000, new_tokens=400, prefix_of="user", longest=8200)
    slo = Slo(2.0, 0.05)
    kept = ReplicaLoad(_H100, demand).capacity(slo)
    computed = ReplicaLoad(_H100, replace(demand, new_tokens=8000, prefix_of="nobody")).capacity(slo)
    assert kept.at.keeps_prefix and kept.amount >= computed.amount
    assert kept.at.kv_tokens >= kept.amount * 8000


def test_where_one_sequence_has_no_room_kv_binds():
    capacity = ReplicaLoad(_H100, _demand(longest=10**7, input_tokens=10**7 - 200)).capacity(Slo())
    assert (capacity.amount, capacity.binds) == (0.0, "kv")
    assert capacity.replicas_for(8) is None


def test_where_the_weights_have_no_room_memory_binds():
    assert ReplicaLoad(_times("rtx-4090", "llama-3.1-70b", tp=2), _demand()).capacity(Slo()).binds == "memory"


def test_an_answer_of_one_token_has_a_capacity():
    capacity = ReplicaLoad(_H100, _demand(users=None, rate=5.0, output_tokens=1)).capacity(Slo(2.0, None))
    assert capacity.amount == 5.0


@pytest.mark.parametrize("pp", [1, 2])
def test_the_simulator_agrees(pp):
    times = _times(pp=pp)
    demand = _demand(users=40, think_seconds=3.0, spread=0.5)
    steady = ReplicaLoad(times, demand).steady(40.0, keeps=False)
    simulated = confirm(times, demand, 40.0, steady.running, keeps_prefix=False)
    assert simulated.tpot == pytest.approx(steady.tpot, rel=0.35)
    assert simulated.ttft <= steady.ttft * 1.5
    assert math.isfinite(simulated.ttft)


def test_the_simulator_finds_what_is_kept():
    demand = _demand(users=10, input_tokens=4000, new_tokens=500, prefix_of="user", longest=4400)
    simulated = confirm(_H100, demand, 10.0, 3.0, keeps_prefix=True)
    assert simulated.hit_ratio == pytest.approx(3500 / 4000, abs=0.1)
