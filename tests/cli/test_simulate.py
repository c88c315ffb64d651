"""`farthing simulate` as a user meets it: figures, one JSON object, or one line and exit code 2."""

import json
import math
from functools import partial
from pathlib import Path

import pytest
from command_line import Farthing

SMALL = ("--on", "rtx-4090", "--requests", "40", "--input-tokens", "U(50,400)", "--output-tokens", "20")


@pytest.fixture
def run_farthing(run_farthing: Farthing) -> Farthing:
    """The command line from `simulate` on."""
    return partial(run_farthing, "simulate")


def test_the_answer_says_waits_goodput_and_cost(run_farthing: Farthing):
    done = run_farthing("llama-3.1-8b", *SMALL, "--format", "int4", "--rate", "5", "--ttft", "1", "--tpot", "0.05")
    assert done.code == 0 and not done.err
    for words in ("time to first token", "p99", "goodput: ", "per million output tokens", "what binds", "40 requests"):
        assert words in done.out


def test_json_is_one_object_whose_figures_agree(run_farthing: Farthing):
    done = run_farthing("llama-3.1-8b", *SMALL, "--format", "int4", "--rate", "5", "--ttft", "1", "--json")
    found = json.loads(done.out)
    assert found["schema"] == "farthing.simulate/1" and done.code == 0
    assert found["answered"] == 40 and found["output_tokens"] == 800
    assert found["output_tokens_per_second"] == pytest.approx(800 / found["seconds"])
    assert found["goodput"]["share"] == 1.0 and found["goodput"]["ttft"] == 1.0
    hour = found["cost"]["dollars_per_hour"]
    assert found["cost"]["dollars_per_million_output_tokens"] == pytest.approx(
        hour / 3600 / found["output_tokens_per_second"] * 1e6
    )
    used = found["utilisation"]
    assert math.fsum(used[part] for part in ("bandwidth", "compute", "link", "latency", "waiting", "idle")) == (
        pytest.approx(1.0)
    )
    again = json.loads(
        run_farthing("llama-3.1-8b", *SMALL, "--format", "int4", "--rate", "5", "--ttft", "1", "--json").out
    )
    assert again == found, "the same seed, the same figures"


def test_users_take_turns_and_replicas_share_them(run_farthing: Farthing):
    done = run_farthing(
        "llama-3.1-8b", "--on", "2x rtx-4090", "--users", "6", "--think", "1", "--requests", "30", "--format", "int4",
        "--tp", "1", "--pp", "1", "--json",
    )  # fmt: skip
    found = json.loads(done.out)
    assert (found["replicas"], found["workload"]["users"], found["answered"]) == (2, 6, 30)


def test_a_pipeline_is_simulated_stage_by_stage(run_farthing: Farthing):
    done = run_farthing("llama-3.1-70b", "--on", "4x4090", "--pp", "4", "--tp", "1", "--rate", "1", "--requests", "20",
                        "--format", "int4", "--json")  # fmt: skip
    found = json.loads(done.out)
    assert found["pp"] == 4 and found["answered"] == 20


def test_another_engine_has_its_own_limits(run_farthing: Farthing):
    load = ("llama-3.1-8b", "--on", "h100-sxm", "--rate", "5", "--requests", "30", "--json")
    own, other = json.loads(run_farthing(*load).out), json.loads(run_farthing(*load, "--engine", "vllm").out)
    assert (own["engine"], other["engine"]) == (None, "vllm")
    assert other["max_batch_tokens"] != own["max_batch_tokens"] and other["kv"]["blocks"] != own["kv"]["blocks"]
    timed = json.loads(run_farthing(*load, "--engine", "vllm", "--by-operators").out)
    assert timed["kv"]["blocks"] == other["kv"]["blocks"] and timed["tpot_seconds"] != other["tpot_seconds"]
    fewer = json.loads(run_farthing(*load, "--engine", "vllm", "--max-num-seqs", "3").out)
    assert fewer["max_num_seqs"] == 3
    unknown = run_farthing(*load, "--engine", "vllmm")
    assert unknown.code == 2 and "did you mean vllm" in unknown.err


def test_a_trace_is_played(run_farthing: Farthing, tmp_path: Path):
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival,input_tokens,output_tokens\n3.5,100,10\n4.0,200,20\n5.25,50,5\n")
    found = json.loads(run_farthing("llama-3.1-8b", "--on", "h100-sxm", "--trace", str(trace), "--json").out)
    assert (found["answered"], found["input_tokens"], found["output_tokens"]) == (3, 350, 35)


@pytest.mark.parametrize(
    ("line", "said"), [("1.0,many,5", "line 2"), ("1.0,5", "line 2"), ("-1,5,5", "line 2"), ("nan,5,5", "line 2")]
)
def test_garbage_in_a_trace_is_told_with_its_line(run_farthing: Farthing, tmp_path: Path, line: str, said: str):
    trace = tmp_path / "trace.csv"
    trace.write_text(f"0.5,100,10\n{line}\n")
    done = run_farthing("llama-3.1-8b", "--on", "h100-sxm", "--trace", str(trace))
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1 and not done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "0"), "--rate is 0"),
        (("--rate", "-3"), "--rate is -3"),
        (("--rate", "nan"), "--rate is nan"),
        (("--rate", "inf"), "--rate is inf"),
        (("--users", "0"), "--users is 0"),
        (("--users", "2.6"), "no whole number"),
        (("--rate", "1", "--requests", "1.5"), "no whole number"),
        (("--users", "3", "--think", "-1"), "--think"),
        (("--users", "3", "--think", "nan"), "--think"),
        (("--rate", "1", "--think", "2"), "--think"),
        ((), "--rate, --users and --trace"),
        (("--rate", "1", "--users", "2"), "--rate, --users and --trace"),
        (("--rate", "1", "--requests", "0"), "--requests is 0"),
        (("--rate", "1", "--ttft", "0"), "--ttft is 0"),
        (("--rate", "1", "--by-operators"), "--engine"),
        (("--rate", "1", "--tpot", "nan"), "--tpot is nan"),
        (("--rate", "1", "--price-per-hour", "-1"), "--price-per-hour"),
        (("--rate", "1", "--input-tokens", "U(9,1)"), "--input-tokens"),
        (("--rate", "1", "--prefixes", "0"), "--prefixes is 0"),
        (("--rate", "1", "--prefix-tokens", "-1"), "--prefix-tokens is -1"),
        (("--rate", "1", "--prefixes", "3"), "--prefix-tokens"),
        (("--rate", "1", "--engine", "vllm", "--memory", "20GiB", "--no-p2p"), "--memory, --p2p"),
        (("--rate", "1", "--engine", "vllm", "--network", "25GB"), "--network"),
        (("--rate", "1", "--max-num-seqs", "0"), "--max-num-seqs"),
        (("--rate", "1", "--on", "rtx-9999"), "rtx-9999"),
        (("--trace", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_code_2(run_farthing: Farthing, arguments: tuple[str, ...], said: str):
    where = () if "--on" in arguments else ("--on", "h100-sxm")
    done = run_farthing("llama-3.1-8b", *where, *arguments)
    assert done.code == 2 and said in done.err and done.err.count("\n") == 1 and not done.out


def test_what_does_not_fit_is_told_with_what_would(run_farthing: Farthing):
    done = run_farthing("llama-3.1-70b", "--on", "rtx-4090", "--format", "bf16", "--rate", "1")
    assert done.code == 2 and "does not fit" in done.err and "would fit" in done.err


def test_an_impossible_objective_is_answered_with_the_nearest_and_what_stands_in_the_way(run_farthing: Farthing):
    done = run_farthing("llama-3.1-8b", *SMALL, "--rate", "1", "--tpot", "0.0001", "--ttft", "0.0001")
    assert done.code == 0
    assert "no request meets the objective; the nearest" in done.out and "bandwidth-bound" in done.out


def test_a_context_that_no_request_fits_is_an_error_and_one_that_cuts_some_is_told(run_farthing: Farthing):
    some = run_farthing("llama-3.1-8b", "--on", "h100-sxm", "--rate", "1", "--requests", "40", "--input-tokens",
                        "U(100,800)", "--output-tokens", "50", "--context", "600")  # fmt: skip
    assert some.code == 0 and "requests are refused" in some.out


def test_a_queue_that_grows_is_told(run_farthing: Farthing):
    done = run_farthing("llama-3.1-8b", "--on", "rtx-4090", "--format", "int4", "--rate", "50", "--requests", "300",
                        "--max-num-seqs", "8")  # fmt: skip
    assert done.code == 0 and "the queue grows" in done.out and "--max-num-seqs" in done.out
