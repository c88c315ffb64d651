"""The simulator against hand-made sums and laws of nature: nothing is lost, waits are what they must be."""

import itertools
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_hardware import one_node, round_device, tiny_spec

from farthing.ops.batch import BatchShape
from farthing.planner.layout import layouts, place
from farthing.planner.request import PlanRequest
from farthing.planner.simulation import simulator
from farthing.planner.simulation.deployment import Deployment, deployment_of
from farthing.planner.simulation.lengths import Lengths
from farthing.planner.simulation.simulated_executor import SimulatedExecutor
from farthing.planner.simulation.simulation import Objective, Simulation, summarize
from farthing.planner.simulation.simulator import Run, simulate
from farthing.planner.simulation.workload import Prefixes, Workload, by_rate, by_users, recorded
from farthing.planner.speed import max_running, speed_of
from farthing.planner.timing.device import Device
from farthing.planner.timing.forecast import forecast_step
from farthing.scheduler.batch import Batch
from farthing.scheduler.loop import VirtualClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence

REQUEST = PlanRequest(max_num_seqs=16, max_batch_tokens=256, input_tokens=100, output_tokens=50)
CONTEXT = 1024
FEW = Lengths.parse("U(20,200)", "x")
SOME = Lengths.parse("U(1,60)", "x")


def device(**changes: float) -> Device:
    return round_device(**{"bandwidth": 1e9, "rate": 1e11, "overhead_seconds": 1e-6, **changes})


def deployed(devices: list[Device], request: PlanRequest = REQUEST, dealing: str = "least-loaded", **asked: int):
    request = replace(request, **asked)
    (layout,) = layouts(tiny_spec(), len(devices), request)
    hardware = one_node(*devices)
    return deployment_of(place(layout, devices, request, CONTEXT), hardware, request, dealing=dealing)


def small_pool(deployment: Deployment, num_blocks: int) -> Deployment:
    return replace(deployment, replicas=tuple(replace(shape, num_blocks=num_blocks) for shape in deployment.replicas))


def here(**changes: float) -> Device:
    """A GPU of this machine, under Farthing's own engine."""
    return replace(device(**changes), is_here=True, records=True)


def figures(workload: Workload, deployment: Deployment, objective: Objective | None = None) -> Simulation:
    return summarize(simulate(workload, deployment), deployment, objective)


def check_conservation(run: Run, workload: Workload, deployment: Deployment) -> None:
    """Each request ends once, with all of its tokens, after its first token, which is after its arrival."""
    assert [outcome.request for outcome in run.outcomes] == list(workload.requests)
    for outcome in run.outcomes:
        assert not outcome.refused
        assert outcome.output_tokens == outcome.request.output_tokens
        assert outcome.arrival <= outcome.first_token <= outcome.ended
    computed = sum(replica.scheduler.stats.num_scheduled_tokens for replica in run.replicas)
    asked = sum(one.request.input_tokens - one.cached_tokens + one.output_tokens - 1 for one in run.outcomes)
    if not sum(replica.scheduler.stats.num_preemptions for replica in run.replicas):
        assert computed == asked
    else:
        assert computed > asked
    tokens = sum(outcome.output_tokens for outcome in run.outcomes)
    assert sum(times for totals in run.totals for _, times in totals.gaps) == tokens - len(run.outcomes)
    for replica in run.replicas:
        assert replica.scheduler.block_pool.num_available == replica.scheduler.block_pool.num_blocks
        assert replica.executor.in_flight == 0


@pytest.mark.parametrize("layout", [{"tp": 1, "pp": 1}, {"tp": 2, "pp": 2}, {"tp": 1, "pp": 4}, {"tp": 4, "pp": 1}])
@pytest.mark.parametrize("dealing", ["least-loaded", "round-robin"])
@pytest.mark.parametrize("num_blocks", [20, 2000])
def test_nothing_is_lost_and_the_same_load_is_the_same_run(layout: dict[str, int], dealing: str, num_blocks: int):
    deployment = small_pool(deployed([device()] * 4, dealing=dealing, **layout), num_blocks)
    workload = by_rate(300.0, 60, FEW, SOME, prefixes=Prefixes(32, 2))
    run = simulate(workload, deployment)
    check_conservation(run, workload, deployment)
    again = simulate(workload, deployment)
    assert again.outcomes == run.outcomes
    assert summarize(run, deployment) == summarize(again, deployment)


def test_an_idle_replica_answers_in_the_time_of_its_steps():
    one = device()
    deployment = deployed([one])
    (outcome,) = simulate(recorded([(3.0, 100, 4)], "x"), deployment).outcomes
    spec = tiny_spec()
    steps = [BatchShape.prefill(100), *(BatchShape.decode(100 + done) for done in range(3))]
    seconds = [forecast_step(spec, shape, one, (None, None)).seconds for shape in steps]
    assert outcome.ttft_seconds == pytest.approx(seconds[0], rel=1e-9)
    assert outcome.request_seconds == pytest.approx(sum(seconds), rel=1e-9)
    assert outcome.tpot_seconds == pytest.approx(sum(seconds[1:]) / 3, rel=1e-9)
    host = replace(deployment, request_seconds=0.5, replicas=(replace(deployment.replicas[0], step_seconds=0.25),))
    (slower,) = simulate(recorded([(3.0, 100, 4)], "x"), host).outcomes
    assert slower.ttft_seconds == pytest.approx(0.5 + 0.25 + seconds[0])
    assert slower.request_seconds == pytest.approx(0.5 + 4 * 0.25 + sum(seconds))


def test_a_request_passes_the_stages_of_a_pipeline_one_after_the_other():
    devices = [device()] * 2
    deployment = deployed(devices, tp=1, pp=2)
    (outcome,) = simulate(recorded([(0.0, 100, 1)], "x"), deployment).outcomes
    stages = deployment.replicas[0].stages
    assert len(stages) == 2
    hardware = one_node(*devices)
    (layout,) = layouts(tiny_spec(), 2, replace(REQUEST, tp=1, pp=2))
    speed = speed_of(place(layout, devices, REQUEST, CONTEXT), hardware, REQUEST, 1)
    assert outcome.ttft_seconds == pytest.approx(speed.prefill.seconds, rel=1e-9)


def test_stages_compute_different_batches_at_the_same_time():
    """Prompts too large for one step keep both stages busy: less than the sum of all steps on one after the other."""
    deployment = deployed([device(overhead_seconds=0.0)] * 2, tp=1, pp=2)
    run = simulate(recorded([(0.0, 256, 1)] * 12, "x"), deployment)
    executor = run.replicas[0].executor
    assert executor.num_batches == 12
    assert run.seconds < 0.6 * executor.busy.seconds
    found = summarize(run, deployment)
    assert found.utilisation.busy == pytest.approx(1.0)
    assert 0 < found.utilisation.waiting < 0.4


def test_the_engine_on_a_gpu_here_makes_a_step_while_one_computes():
    (shape,) = deployed([here()]).replicas
    assert shape.overlaps and not deployed([device()]).replicas[0].overlaps
    assert not deployed([replace(here(), kind="cpu")]).replicas[0].overlaps
    workload = by_rate(300.0, 60, FEW, SOME, prefixes=Prefixes(32, 2))
    for deployment in (deployed([here()]), small_pool(deployed([here()]), 20)):
        run = simulate(workload, deployment)
        assert run.replicas[0].executor.depth == 2
        check_conservation(run, workload, deployment)


def test_a_request_that_comes_during_a_step_waits_for_the_one_that_is_made_already():
    """Alone on the device a request takes as long as ever; one that comes in the first step of another is behind its
    second, which was made before."""
    overlaps = deployed([here()])
    waits = replace(overlaps, replicas=tuple(replace(shape, overlaps=False) for shape in overlaps.replicas))
    plain, overlapping = (
        simulate(recorded([(0.0, 100, 4), (1e-9, 100, 1)], "x"), one).outcomes for one in (waits, overlaps)
    )
    alone = [simulate(recorded([(0.0, 100, 4)], "x"), one).outcomes[0].request_seconds for one in (waits, overlaps)]
    assert alone[0] == pytest.approx(alone[1])
    assert overlapping[1].ttft_seconds > plain[1].ttft_seconds * 1.01


def test_littles_law_holds():
    deployment = deployed([device()])
    workload = by_rate(120.0, 1500, FEW, SOME)
    run = simulate(workload, deployment)
    totals = run.totals[0]
    inside = sum(outcome.request_seconds for outcome in run.outcomes)
    assert totals.running + totals.waiting == pytest.approx(inside, rel=0.05), "arrivals inside a step count with it"
    assert inside / run.seconds == pytest.approx(1500 / run.seconds * fmean(o.request_seconds for o in run.outcomes))


def test_users_are_never_more_than_they_are_and_think_between():
    deployment = deployed([device()])
    workload = by_users(7, 0.5, 200, FEW, SOME)
    run = simulate(workload, deployment)
    check_conservation(run, workload, deployment)
    events = sorted([(one.arrival, 1) for one in run.outcomes] + [(one.ended, -1) for one in run.outcomes])
    inside = most = 0
    for _, change in events:
        inside += change
        most = max(most, inside)
    assert most <= 7
    ends = sorted(outcome.ended for outcome in run.outcomes)
    later = sorted(run.outcomes, key=lambda outcome: outcome.request.index)[7:]
    assert all(
        outcome.arrival == pytest.approx(ends[place] + outcome.request.think_seconds)
        for place, outcome in enumerate(later)
    )


def test_a_shared_prefix_is_computed_once():
    deployment = deployed([device()])
    lengths = Lengths.parse("200", "x")
    alone = figures(by_rate(20.0, 100, lengths, SOME), deployment)
    shared = figures(by_rate(20.0, 100, lengths, SOME, prefixes=Prefixes(160, 1)), deployment)
    assert alone.cached_tokens == 0
    assert shared.cached_tokens == pytest.approx(99 * 160, rel=0.05)
    assert shared.ttft.mean < alone.ttft.mean


@pytest.mark.parametrize(
    ("layout", "tolerance"),
    [({"tp": 1, "pp": 1, "replicas": 1}, 0.08), ({"tp": 1, "pp": 1, "replicas": 2}, 0.08), ({"tp": 1, "pp": 2}, 0.15)],
)
def test_a_saturated_deployment_gives_what_the_closed_form_says(layout: dict[str, int], tolerance: float):
    """Users who never think, as many as run at a time: each always follows an answer with the next request."""
    request = replace(REQUEST, **layout)
    devices = [device()] * (layout["pp"] * layout.get("replicas", 1))
    (plan_layout,) = layouts(tiny_spec(), len(devices), request)
    placement, hardware = place(plan_layout, devices, request, CONTEXT), one_node(*devices)
    running = max_running(placement, request)
    speed = speed_of(placement, hardware, request, running)
    deployment = deployment_of(placement, hardware, request)
    lengths = Lengths.parse("100", "x"), Lengths.parse("50", "x")
    found = figures(by_users(running, 0.0, 20 * running, *lengths), deployment)
    assert found.output_tokens_per_second == pytest.approx(speed.output_tokens_per_second, rel=tolerance)


@settings(max_examples=15, deadline=None)
@given(
    bandwidth=st.floats(1e8, 1e10),
    rate=st.floats(1e9, 1e12),
    factors=st.tuples(st.floats(1.0, 4.0), st.floats(1.0, 4.0)),
    seed=st.integers(0, 100),
)
def test_a_slower_machine_is_never_faster(bandwidth: float, rate: float, factors: tuple[float, float], seed: int):
    """Where no arrival falls into a step, the batches are the same, so that every request ends no earlier."""
    workload = by_users(20, 0.0, 60, FEW, SOME, seed=seed)
    fast = simulate(workload, deployed([device(bandwidth=bandwidth, rate=rate)]))
    slow = simulate(workload, deployed([device(bandwidth=bandwidth / factors[0], rate=rate / factors[1])]))
    for quick, late in zip(fast.outcomes, slow.outcomes, strict=True):
        assert late.first_token >= quick.first_token * (1 - 1e-9)
        assert late.ended >= quick.ended * (1 - 1e-9)


def test_a_slower_machine_makes_everybody_wait_longer_on_average():
    workload = by_rate(60.0, 300, FEW, SOME)
    waits = [figures(workload, deployed([device(bandwidth=2e9 / slower)])) for slower in (1, 1.5, 2, 4)]
    for faster, slower in itertools.pairwise(waits):
        assert faster.ttft.mean < slower.ttft.mean and faster.tpot.mean < slower.tpot.mean
        assert faster.request.mean < slower.request.mean


def test_requests_go_to_the_replica_with_fewest():
    deployment = deployed([device()] * 3, tp=1, pp=1)
    longest = recorded([(0.0, 100, 60), *((0.001 * step, 20, 1) for step in range(1, 30))], "x")
    run = simulate(longest, deployment)
    counts = [sum(one.replica == number for one in run.outcomes) for number in range(3)]
    assert counts[run.outcomes[0].replica] == min(counts)
    in_turn = simulate(longest, replace(deployment, dealing="round-robin"))
    assert [one.replica for one in in_turn.outcomes] == [index % 3 for index in range(30)]


def test_a_small_pool_is_told_as_what_binds():
    workload = by_users(16, 0.0, 80, Lengths.parse("100", "x"), Lengths.parse("60", "x"))
    wide = figures(workload, deployed([device()]))
    narrow = figures(workload, small_pool(deployed([device()]), 30))  # of 16 tokens: two or three at a time
    assert narrow.binding == "kv" and narrow.pool.short_of_blocks > 0.5
    assert narrow.pool.running < 4 < wide.pool.running
    assert narrow.output_tokens_per_second < wide.output_tokens_per_second
    places = figures(by_users(40, 0.0, 160, FEW, SOME), deployed([device()]))
    assert places.binding == "slots"
    assert figures(by_rate(0.1, 10, FEW, SOME), deployed([device()])).binding == "load"


def test_what_is_longer_than_the_context_is_refused_or_cut_as_the_engine_does():
    deployment = deployed([device()])
    found = figures(recorded([(0.0, 2000, 5), (0.0, 1000, 100), (0.0, 100, 5)], "x"), deployment)
    assert (found.requests, found.answered, found.refused, found.cut) == (3, 2, 1, 1)
    assert "2000 tokens" in found.refusal


@pytest.mark.parametrize("layout", [{"tp": 1, "pp": 1}, {"tp": 1, "pp": 2}])
def test_what_waits_outside_the_scheduler_changes_no_batch(layout: dict[str, int], monkeypatch: pytest.MonkeyPatch):
    """A replica hands over no more than the scheduler looks at: the batches are those of a queue that is all there."""
    devices = [device()] * layout["pp"]
    deployment = deployed(devices, replace(REQUEST, max_num_seqs=4), **layout)
    (shape,) = deployment.replicas
    workload = recorded([(0.0, 20 + 7 * index % 150, 1 + index % 40) for index in range(80)], "x")
    made: list[list[object]] = []
    submit = SimulatedExecutor.submit

    def recording(self: SimulatedExecutor, batch: Batch) -> None:
        made[-1].append([(item.seq_id, item.start, len(item.token_ids), item.samples) for item in batch.items])
        submit(self, batch)

    monkeypatch.setattr(SimulatedExecutor, "submit", recording)
    made.append([])
    simulate(workload, deployment)
    made.append([])
    clock = VirtualClock()
    scheduler = Scheduler(num_blocks=shape.num_blocks, block_size=shape.block_size, max_num_seqs=4,
                          max_batch_tokens=shape.max_batch_tokens, max_model_len=shape.context)  # fmt: skip
    executor = SimulatedExecutor(shape.stages, clock)
    for request in workload.requests:
        scheduler.add(
            Sequence(
                request.index, workload.prompt_ids(request), max_output_tokens=request.output_tokens, ignore_eos=True
            )
        )
    while scheduler.has_unfinished or executor.in_flight:
        step(scheduler, executor, clock)
    assert made[0] == made[1] and len(made[0]) > 100


def test_goodput_counts_those_that_were_fast_enough_and_tells_the_nearest_if_none_was():
    deployment, workload = deployed([device()]), by_rate(60.0, 200, FEW, SOME)
    free = figures(workload, deployment)
    assert free.goodput is None and figures(workload, deployment, Objective()).goodput is None
    half = figures(workload, deployment, Objective(ttft=free.ttft.p50)).goodput
    assert half is not None and half.share == pytest.approx(0.5, abs=0.01)
    none = figures(workload, deployment, Objective(ttft=1e-9))
    assert none.goodput is not None and none.goodput.requests == 0
    assert none.nearest is not None and none.nearest[0] > 1e-9


def test_shares_of_the_time_add_up():
    used = figures(by_rate(60.0, 200, FEW, SOME), deployed([device()] * 2, tp=1, pp=2)).utilisation
    assert used.bandwidth + used.compute + used.link + used.latency + used.waiting + used.idle == pytest.approx(1.0)
    assert 0 < used.of_limit < used.busy < 1


def test_progress_is_told_while_it_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simulator, "_TELL_EVERY_SECONDS", 0.0)
    told = []
    run = simulate(by_rate(60.0, 400, FEW, SOME), deployed([device()]), told.append)
    assert len(told) >= 2 and told[-1].ended <= told[-1].requests == len(run.outcomes) == 400
    assert all(before.ended <= after.ended for before, after in itertools.pairwise(told))
    assert all(before.simulated_seconds <= after.simulated_seconds for before, after in itertools.pairwise(told))
