"""Six engines that are slow for a reason that was planted: the ledger names it first."""

import time
from pathlib import Path

import pytest

from farthing.engine.accounts.ledger import StepSums
from farthing.engine.accounts.why_slow import Finding, why_slow
from farthing.engine.engine import Engine
from farthing.runtime.model_runner import ModelRunner
from farthing.scheduler.batch import Batch

from .measured_engine import add_requests, engine, run


class ThrottledRunner(ModelRunner):
    seconds_lost = 0.0

    def submit(self, batch: Batch) -> None:
        super().submit(batch)
        time.sleep(self.seconds_lost)


def findings(engine: Engine, speeds: str) -> list[Finding]:
    found = why_slow(engine.accountant.ledger.total, max_num_seqs=engine.plan.config.max_num_seqs)
    assert found == sorted(found, key=lambda one: -one.gain)
    return [one for one in found if one.speeds == speeds]


def causes(engine: Engine, speeds: str) -> list[str]:
    return [one.cause for one in findings(engine, speeds)]


def test_one_thread_of_two(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 8, "num_hidden_layers": 3}
    slow = engine(tmp_path, sizes=sizes, context=64, max_num_seqs=2)
    add_requests(slow, 2, output=12)
    run(slow, steps=1)
    slow.accountant.ledger.reset()
    run(slow)
    first = findings(slow, "answers")[0]
    assert first.cause == "threads" and 1.3 < first.gain <= 2.0
    assert "--threads" in first.remedy


def test_all_threads_and_nothing_is_said_of_them(tmp_path: Path) -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 8, "num_hidden_layers": 3}
    sound = engine(tmp_path, sizes=sizes, context=64, max_num_seqs=2, threads=2)
    add_requests(sound, 2, output=4)
    run(sound)
    assert "threads" not in causes(sound, "answers")


def test_a_tiny_kv_pool(tmp_path: Path) -> None:
    slow = engine(tmp_path, context=128, max_num_seqs=8, num_blocks=16)
    add_requests(slow, 8, prompt=60, output=40)
    run(slow, steps=60)
    assert causes(slow, "throughput")[0] == "kv_starvation"
    assert "--memory" in findings(slow, "throughput")[0].remedy


def test_a_gap_between_the_steps(tmp_path: Path) -> None:
    slow = engine(tmp_path, context=128, max_num_seqs=4)
    add_requests(slow, 4)
    run(slow, between=lambda: time.sleep(0.02))
    first = findings(slow, "answers")[0]
    assert first.cause == "host" and first.share > 0.5


def test_a_long_context(tmp_path: Path) -> None:
    sizes = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 128}
    slow = engine(tmp_path, sizes=sizes, context=4096, max_num_seqs=1)
    add_requests(slow, 1, prompt=3000, output=30)
    run(slow, steps=3000 // 512 + 1)
    slow.accountant.ledger.reset()
    run(slow)
    assert causes(slow, "answers")[0] == "kv_cache"


def test_a_small_batch(tmp_path: Path) -> None:
    slow = engine(tmp_path, context=128, max_num_seqs=1)
    add_requests(slow, 8)
    run(slow, steps=80)
    first = findings(slow, "throughput")[0]
    assert first.cause == "small_batch" and first.gain > 1.5
    assert "--max-num-seqs" in first.remedy


def test_prompts_that_fill_the_steps_are_no_want_of_places(tmp_path: Path) -> None:
    slow = engine(tmp_path, context=512, max_num_seqs=64, max_batch_tokens=64)
    add_requests(slow, 12, prompt=300, output=20)
    run(slow)
    first = findings(slow, "throughput")[0]
    assert first.cause == "token_budget" and "--max-batch-tokens" in first.remedy


def test_an_executor_that_becomes_slower(tmp_path: Path) -> None:
    slow = engine(tmp_path, context=512, max_num_seqs=2, runner_type=ThrottledRunner)
    add_requests(slow, 2, prompt=130, output=110)
    run(slow, steps=60)
    assert causes(slow, "answers")[0] != "throttled"
    slow.accountant.ledger.reset()
    slow.runner.seconds_lost = 0.05  # type: ignore[attr-defined]
    run(slow, steps=20)
    first = findings(slow, "answers")[0]
    assert first.cause == "throttled" and first.share > 0.5
    assert "farthing doctor" in first.remedy


def test_few_requests_are_no_fault_and_are_said_to_be_none(tmp_path: Path) -> None:
    idle = engine(tmp_path, context=128, max_num_seqs=8)
    add_requests(idle, 1)
    run(idle)
    only = findings(idle, "throughput")
    assert [one.cause for one in only] == ["few_requests"] and "nothing is wrong" in only[0].remedy


def test_nothing_computed_nothing_to_tell() -> None:
    assert why_slow(StepSums(), max_num_seqs=8) == []


def test_a_gain_is_what_the_sums_say() -> None:
    """A second of steps of 2 sequences, 0.6 s of it whatever the batch; 2 more wait all the time for a place."""
    sums = StepSums()
    decode = sums.phases["decode"]
    decode.num_steps, decode.num_sequences, decode.seconds, decode.fixed_seconds = 100, 200, 1.0, 0.6
    sums.parts["weights"], sums.parts["host"] = 0.8, 0.2
    sums.waits["queueing"] = 2.0
    by_cause = {one.cause: one for one in why_slow(sums, max_num_seqs=2)}
    assert by_cause["weights"].gain == pytest.approx(1 / 0.6)
    assert by_cause["host"].gain == pytest.approx(1 / 0.8)
    assert by_cause["small_batch"].gain == pytest.approx(2 / (0.6 + 2 * 0.4))
