"""One snapshot, many faces: ledger, metrics and usage say the same, in shapes that programs may rely on."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from server_process import ServerProcess, serving

from farthing.engine.accounts.step_record import PARTS

PHASE = {
    "steps", "tokens", "seconds", "limit_seconds", "forecast_seconds", "tokens_per_second", "share_of_limit",
    "speed_to_forecast",
}  # fmt: skip
KEYS = {
    "schema", "time", "model", "device", "format", "plan_line", "state", "stalled", "uptime_seconds", "num_restarts",
    "price_dollars_per_hour", "price_note", "requests", "kv", "tokens", "window_seconds", "recent", "total", "rates",
    "parts", "waits", "why_slow", "dollars", "latency", "history", "gpus", "report",
}  # fmt: skip
PERCENTILES = {"p50", "p90", "p99"}


def ledger(server: ServerProcess) -> dict[str, Any]:
    return httpx.get(f"{server.url}/farthing/ledger", timeout=10).json()


def metrics(server: ServerProcess) -> dict[str, float]:
    """Value of each sample, by name and labels."""
    text = httpx.get(f"{server.url}/metrics", timeout=10).text
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def ask(server: ServerProcess, **fields: Any) -> dict[str, Any]:
    body = {"model": server.model, "prompt": "Once upon a time", "max_tokens": 20, "temperature": 0, **fields}
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()["usage"]


@pytest.fixture(scope="module")
def used() -> Any:
    """A server that answered five requests, and what they said they used."""
    with serving(price_per_hour=3.6) as server:
        usages = [ask(server, ignore_eos=True) for _ in range(4)]
        usages.append(ask(server, ignore_eos=True, n=3))
        yield server, usages


def test_the_ledger_has_the_shape_that_its_schema_promises(used: Any) -> None:
    found = ledger(used[0])
    assert found["schema"] == "farthing.ledger/1" and set(found) == KEYS
    for span in ("recent", "total"):
        assert set(found[span]) == {"prefill", "decode"} and set(found[span]["decode"]) == PHASE
    assert set(found["parts"]) == {*PARTS, "idle"}
    assert set(found["waits"]) == {"queueing", "token_budget", "kv_starvation"}
    assert set(found["latency"]) == {f"{name}_seconds" for name in ("ttft", "tpot", "itl", "request", "queue")}
    assert all(set(percentiles) == PERCENTILES for percentiles in found["latency"].values())
    assert set(found["why_slow"][0]) == {"cause", "speeds", "share", "gain", "what", "remedy"}
    assert set(found["history"][-1]) == {
        "time", "output_tokens_per_second", "share_of_limit", "kv_usage_ratio", "running", "waiting", "dollars",
    }  # fmt: skip


def test_usage_ledger_and_metrics_agree(used: Any) -> None:
    server, usages = used
    found, sampled = ledger(server), metrics(server)
    seconds = sum(usage["farthing"]["seconds"] for usage in usages)
    assert sum(phase["seconds"] for phase in found["total"].values()) == pytest.approx(seconds, rel=1e-3)
    assert found["dollars"]["requests"] == pytest.approx(sum(usage["farthing"]["dollars"] for usage in usages))
    assert found["dollars"]["requests"] == pytest.approx(seconds / 1000, rel=1e-3)
    assert sampled["farthing_dollars_total kind=requests"] == pytest.approx(found["dollars"]["requests"])
    assert found["tokens"]["output"] == sum(usage["completion_tokens"] for usage in usages) == 7 * 20
    assert sampled["farthing_output_tokens_total"] == 7 * 20
    assert sampled["farthing_prompt_tokens_total"] == found["tokens"]["prompt"]
    assert sampled["farthing_requests_total outcome=stop route=completions"] == len(usages)
    assert sampled["farthing_time_to_first_token_seconds_count"] == len(usages)
    assert sampled["farthing_inter_token_latency_seconds_count"] == 4 * 19 + 3 * 19
    for part in PARTS:
        assert sampled[f"farthing_time_seconds_total part={part}"] == pytest.approx(found["parts"][part])
    assert sum(found["parts"][part] for part in PARTS) == pytest.approx(seconds, rel=1e-3)
    assert 0 < usages[0]["farthing"]["share_of_limit"] < 1
    assert usages[3]["farthing"]["cached_tokens"] == usages[3]["prompt_tokens_details"]["cached_tokens"]


def test_tokens_that_were_guessed_are_counted_and_usage_does_not_tell_them_from_others() -> None:
    with serving(engine={"speculation": "6"}) as server:
        assert metrics(server)["farthing_draft_tokens_total"] == 0
        usage = ask(
            server, prompt="The cat sat on the mat. The dog sat on the rug. " * 4, ignore_eos=True, max_tokens=60
        )
        found, sampled = ledger(server), metrics(server)
    assert 0 < sampled["farthing_accepted_tokens_total"] <= sampled["farthing_draft_tokens_total"]
    assert usage["completion_tokens"] == found["tokens"]["output"] == sampled["farthing_output_tokens_total"] == 60
    assert sampled["farthing_inter_token_latency_seconds_count"] == 59
    assert sampled["farthing_steps_total phase=decode"] <= 59 - sampled["farthing_accepted_tokens_total"]


def test_idle_time_costs_as_much_as_any_other(used: Any) -> None:
    before = ledger(used[0])
    time.sleep(1.5)
    after = ledger(used[0])
    assert after["dollars"]["requests"] == before["dollars"]["requests"]
    assert after["dollars"]["idle"] > before["dollars"]["idle"]
    assert after["dollars"]["total"] == pytest.approx(after["dollars"]["requests"] + after["dollars"]["idle"])


def test_counters_never_fall_however_often_they_are_read(used: Any) -> None:
    server = used[0]
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(lambda: [ask(server, ignore_eos=True, max_tokens=100) for _ in range(20)])
        readings = [metrics(server)]
        while not asking.done():
            readings.append(metrics(server))
        asking.result()
    assert len(readings) > 10
    for before, after in pairwise(readings):
        assert [name for name in before if "_total" in name and after[name] < before[name]] == []


def test_names_and_types_are_those_that_prometheus_expects(used: Any) -> None:
    text = httpx.get(f"{used[0].url}/metrics", timeout=10)
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(text.text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.name.startswith("farthing_") and family.documentation and family.type != "unknown", family
    assert {"counter", "gauge", "histogram"} <= {family.type for family in families}


def test_nothing_is_known_before_anything_happened() -> None:
    with serving() as server:
        found, sampled = ledger(server), metrics(server)
        assert found["why_slow"] == [] and found["history"] == []
        assert found["latency"]["ttft_seconds"] == dict.fromkeys(PERCENTILES)
        assert "farthing_share_of_limit_ratio phase=decode" not in sampled


def test_without_measuring_answers_cost_nothing_that_is_known() -> None:
    with serving(engine={"measure": False}) as server:
        usage = ask(server)
        cost = usage["farthing"]
        assert (cost["seconds"], cost["dollars"], cost["share_of_limit"]) == (None, None, None)
        found, sampled = ledger(server), metrics(server)
        assert found["total"]["decode"]["steps"] == 0 and found["dollars"] is None
        assert found["tokens"]["output"] is None and set(found["rates"].values()) == {None}
        unknown = ("farthing_steps", "farthing_step_seconds", "farthing_output_tokens", "farthing_dollars")
        assert not [name for name in sampled if name.startswith(unknown)], "a zero would be a stalled engine"
        assert sampled["farthing_prompt_tokens_total"] == usage["prompt_tokens"]


def test_watching_needs_a_key_where_there_are_keys(tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text("me:0123456789abcdef\n")
    with serving(api_keys=str(keys)) as server:
        for path in ("/metrics", "/farthing/ledger"):
            assert httpx.get(server.url + path).status_code == 401
            assert httpx.get(server.url + path, headers={"x-api-key": "0123456789abcdef"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Once"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}),
        ("/v1/responses", {"input": "Hello"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}),
    ],
)
def test_an_answer_of_every_api_says_what_it_cost(used: Any, path: str, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{used[0].url}{path}", json={"model": used[0].model, **body}, timeout=60).json()
    cost = answer["usage"]["farthing"]
    assert set(cost) == {"seconds", "dollars", "share_of_limit", "cached_tokens"}
    assert cost["dollars"] == pytest.approx(cost["seconds"] / 1000, rel=1e-3)
