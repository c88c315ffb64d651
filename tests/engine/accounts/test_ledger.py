"""The ledger against clocks of its own: no time is lost, none is counted twice, and requests pay for all of it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.engine.accounts.ledger import Ledger
from farthing.engine.accounts.step_price import Measured, StepPricer, forecast
from farthing.engine.accounts.step_record import PARTS, Charge, Owner, StepRecord
from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.plan_line import measured
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.ops.batch import BatchShape
from farthing.quantization.base import resolve
from farthing.scheduler.batch import Batch, BatchItem

from .measured_engine import CONFIG, add_requests, calibration, engine, run

SPEC = describe(ConfigReader(CONFIG, "config.json"), Precision.of(resolve("bf16", "cpu")))
SEQUENCES = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 3000)), min_size=1, max_size=16)


def step_of(sequences: list[tuple[int, int]], seconds: float = 0.01, in_executor: float = 0.8) -> Measured:
    owners = [Owner(f"request-{index // 2}", "alice") for index in range(len(sequences))]
    items = [BatchItem(i, start, (1,) * new, (), True, 0) for i, (new, start) in enumerate(sequences)]
    return Measured(0.0, Batch(0, tuple(items)), len(items), owners, seconds, seconds * in_executor, 3, "slots", 5, 0)


def parts_of(record: StepRecord) -> dict[str, float]:
    return {name: getattr(record, name) for name in PARTS}


@given(sequences=SEQUENCES, seconds=st.floats(1e-5, 10.0), in_executor=st.floats(0.0, 1.0), few=st.booleans())
def test_parts_and_charges_add_up_to_the_step_whatever_it_was(
    sequences: list[tuple[int, int]], seconds: float, in_executor: float, few: bool
) -> None:
    pricer = StepPricer(SPEC, calibration(), num_threads=1, threads_matter=few)
    for _ in range(20):  # the last ones know what is usual
        record, charges = pricer.price(step_of(sequences, seconds, in_executor))
    parts = parts_of(record)
    assert min(parts.values()) >= -1e-12
    assert sum(parts.values()) == pytest.approx(seconds)
    assert sum(charge.seconds for charge in charges) == pytest.approx(seconds)
    assert sum(charge.limit_seconds for charge in charges) == pytest.approx(record.limit_seconds)
    assert len(charges) == len({charge.request_id for charge in charges}), "samples of a request pay together"


@given(sequences=SEQUENCES)
def test_limit_and_forecast_are_those_of_the_roofline(sequences: list[tuple[int, int]]) -> None:
    machine = calibration()
    record, _ = StepPricer(SPEC, machine).price(step_of(sequences))
    roofline = forecast(SPEC, BatchShape.of(sequences), machine)
    assert record.forecast_seconds == pytest.approx(roofline.seconds)
    assert record.limit_seconds == pytest.approx(roofline.limit_seconds)


def test_steps_that_decode_the_same_sequences_are_priced_together_and_nothing_is_lost() -> None:
    pricer = StepPricer(SPEC, calibration())
    steps = [step_of([(1, 100 + n), (1, 900 + n)], seconds=0.01 + n / 1000) for n in range(16)]
    records, charges = pricer.price_alike(steps)
    assert [record.context_tokens for record in records] == [1000 + 2 * n for n in range(16)]
    for record, step in zip(records, steps, strict=True):
        assert sum(parts_of(record).values()) == pytest.approx(step.seconds)
        alone, _ = StepPricer(SPEC, calibration()).price(step)
        assert record.limit_seconds == pytest.approx(alone.limit_seconds, rel=0.02)
    assert sum(charge.seconds for charge in charges) == pytest.approx(sum(step.seconds for step in steps))
    assert sum(charge.limit_seconds for charge in charges) == pytest.approx(sum(one.limit_seconds for one in records))


def test_a_request_pays_for_its_context_and_shares_the_weights() -> None:
    _, charges = StepPricer(SPEC, calibration()).price(step_of([(1, 10), (1, 10), (1, 4000), (1, 4000)]))
    short, long = (charge.seconds for charge in charges)
    assert long > 1.5 * short
    _, charges = StepPricer(SPEC, calibration()).price(step_of([(1, 10)] * 4))
    assert charges[0].seconds == pytest.approx(charges[1].seconds)


def test_an_unknown_machine_has_no_limit_but_its_requests_pay_all_the_same() -> None:
    record, charges = StepPricer(SPEC, None).price(step_of([(1, 10), (30, 0)]))
    assert record.limit_seconds == 0 and sum(charge.seconds for charge in charges) == pytest.approx(record.seconds)


def test_the_parts_add_up_to_the_time_that_another_clock_says(tmp_path: Path) -> None:
    busy = engine(tmp_path, context=256, max_num_seqs=4)
    add_requests(busy, 8, prompt=40, output=60)
    charges: list[Charge] = []
    started = time.monotonic()
    busy.accountant.on_settled = lambda steps, more: charges.extend(more)
    run(busy)
    elapsed = time.monotonic() - started
    total = busy.accountant.ledger.total
    assert sum(total.parts.values()) == pytest.approx(elapsed, rel=0.02)
    assert sum(charge.seconds for charge in charges) == pytest.approx(elapsed, rel=0.02)
    assert total.num_outputs == 8 * 60
    assert {charge.request_id for charge in charges} == {str(index) for index in range(8)}


def test_idle_time_between_requests_is_nobodys(tmp_path: Path) -> None:
    quiet = engine(tmp_path, context=128, max_num_seqs=4)
    add_requests(quiet, 1, output=5)
    run(quiet)
    time.sleep(1.0)
    add_requests(quiet, 1, output=5)
    run(quiet)
    total = quiet.accountant.ledger.total
    assert total.seconds < 1.0 and sum(phase.num_steps for phase in total.phases.values()) == 10


def test_idle_time_behind_a_cancelled_request_is_nobodys(tmp_path: Path) -> None:
    quiet = engine(tmp_path, context=128, max_num_seqs=4)
    charges: list[Charge] = []
    quiet.accountant.on_settled = lambda steps, more: charges.extend(more)
    add_requests(quiet, 1, output=50)
    for _ in range(3):
        quiet.step()
    quiet.cancel("0")
    time.sleep(1.0)
    add_requests(quiet, 1, output=5)
    run(quiet)
    assert sum(charge.seconds for charge in charges) < 1.0
    assert quiet.accountant.ledger.total.seconds < 1.0


def test_the_bundled_model_stays_below_the_limit_that_was_measured_here() -> None:
    plan = measured(plan_engine("bundled", EngineConfig()))
    assert plan.calibration is not None
    spread = max(point.spread for point in (*plan.calibration.bandwidth, *plan.calibration.gemm))
    bundled = Engine(plan)
    add_requests(bundled, 16, prompt=30, output=30)
    run(bundled)
    bundled.close()
    for phase in bundled.accountant.ledger.total.phases.values():
        assert phase.share_of_limit is not None and 0 < phase.share_of_limit <= 1 + spread


def test_measuring_can_be_left_out(tmp_path: Path) -> None:
    plain = engine(tmp_path, context=128, max_num_seqs=4, measure=False)
    add_requests(plain, 2, output=5)
    run(plain)
    plain.accountant.on_settled = lambda steps, charges: pytest.fail("something was measured")
    plain.accountant.settle()
    assert plain.accountant.ledger.total.seconds == 0.0


def test_pure_decode_and_steps_with_a_prompt_are_kept_apart() -> None:
    ledger, pricer = Ledger(), StepPricer(SPEC, None)
    ledger.record(pricer.price(step_of([(1, 5), (1, 9)], seconds=0.5))[0])
    ledger.record(pricer.price(step_of([(1, 5), (7, 0)], seconds=0.25))[0])
    assert (ledger.decode.num_tokens, ledger.decode.tokens_per_second) == (2, 4.0)
    assert (ledger.prefill.num_tokens, ledger.prefill.tokens_per_second) == (8, 32.0)
    assert ledger.decode.share_of_limit is None, "no limit is known without a calibration"


def test_the_recent_minute_forgets_what_is_older_and_the_total_does_not() -> None:
    ledger = Ledger()
    record, _ = StepPricer(SPEC, calibration()).price(step_of([(1, 5)], seconds=0.5))
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    for moment in (1000.0, 1030.0, 1090.0):
        ledger.record(StepRecord(**{**fields, "time": moment}))
    assert ledger.total.seconds == pytest.approx(1.5)
    assert ledger.recent(1091.0).seconds == pytest.approx(0.5)
    assert len(ledger.buckets) == 3


def test_waiting_is_counted_by_what_is_lacking() -> None:
    ledger, pricer = Ledger(), StepPricer(SPEC, calibration())
    ledger.record(pricer.price(step_of([(1, 5)], seconds=0.5))[0])
    for cause, waiting in (("blocks", 2), ("tokens", 1)):
        step = replace(step_of([(1, 5)], seconds=0.25), waiting_for=cause, num_waiting=waiting)
        ledger.record(pricer.price(step)[0])
    waits = {"queueing": 1.5, "token_budget": 0.25, "kv_starvation": 0.5}
    assert ledger.total.waits == {cause: pytest.approx(seconds) for cause, seconds in waits.items()}
