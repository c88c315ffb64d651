"""The JSON object `farthing.plan/1`, fixed key by key, and the text of a plan."""

import json
from typing import Any

import pytest
from round_hardware import KV_BYTES_PER_TOKEN, one_node, round_device, tiny_config

from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.report import headline, layout_rows, memory_columns, op_rows, speed_columns, to_json_object
from farthing.planner.request import PlanRequest

NUMBER = (int, float)
PHASE = {"tokens_per_second": float, "bound": str, "shares": dict, "ops": list}
COST = {"dollars_per_hour": NUMBER, "dollars_per_million_output_tokens": NUMBER}
FIXED: dict[str, Any] = {
    "schema": str,
    "model": str,
    "hardware": str,
    "fits": bool,
    "plan_only": list,
    "cautions": list,
    "untimed": (str, type(None)),
    "format": str,
    "kv_format": str,
    "formats_too_large": list,
    "tp": int,
    "pp": int,
    "replicas": int,
    "context": int,
    "input_tokens": int,
    "output_tokens": int,
    "memory": {
        "weights_bytes": int,
        "kv_bytes_per_token": int,
        "kv_tokens": int,
        "sequences": int,
        "activation_bytes": int,
        "reserve_bytes": int,
        "per_device": list,
    },
    "batch": int,
    "prefill": {"seconds": float, **PHASE},
    "decode": {"tpot_seconds": float, **PHASE},
    "cost": COST,
    "full": dict,
    "other_layouts": list,
    "would_fit": list,
    "assumptions": list,
}
PER_DEVICE = {
    "device": str,
    "stage": int,
    "layers": int,
    "usable_bytes": int,
    "weights_bytes": int,
    "kv_bytes": int,
    "kv_tokens": int,
    "activation_bytes": int,
    "reserve_bytes": int,
    "left_after_weights_bytes": int,
}


def plan_of(model: str, on: str, **asked: object) -> Plan:
    request = PlanRequest(on=on, **asked)
    return make_plan(model, config_of(find_model(model)), find_hardware(request), request)


def assert_keys(found: dict[str, Any], fixed: dict[str, Any], where: str = "") -> None:
    """Every key of the schema with its type. Keys may be added to the schema, and are then added here."""
    assert set(found) == set(fixed), where
    for key, kind in fixed.items():
        if isinstance(kind, dict):
            assert_keys(found[key], kind, key)
        else:
            assert isinstance(found[key], kind) and (kind is bool or type(found[key]) is not bool), f"{where} {key}"


def test_every_key_of_a_plan_has_its_name_and_type():
    document = to_json_object(plan_of("llama-3.1-70b", "4x4090"))
    assert document["schema"] == "farthing.plan/1"
    assert_keys(document, FIXED)
    for device in document["memory"]["per_device"]:
        assert_keys(device, PER_DEVICE, "per_device")
    assert_keys(document["full"], {key: FIXED[key] for key in ("batch", "prefill", "decode", "cost")}, "full")
    assert document["other_layouts"]
    for layout in document["other_layouts"]:
        assert {"tp", "pp", "replicas", "kv_tokens"} <= set(layout)


def test_a_plan_that_does_not_fit_has_the_same_keys_and_no_speed():
    document = to_json_object(plan_of("llama-2-70b", "rtx-4090", format="fp16"))
    assert set(document) == set(FIXED)
    assert document["fits"] is False
    for key in ("prefill", "decode", "batch", "full"):
        assert document[key] is None
    assert document["cost"] == {"dollars_per_hour": pytest.approx(0.475), "dollars_per_million_output_tokens": None}
    assert document["memory"]["kv_tokens"] == document["memory"]["sequences"] == 0
    assert document["would_fit"]


def test_a_price_that_nobody_knows_is_null():
    document = to_json_object(plan_of("llama-3.1-8b", "maia-100"))
    nothing = {"dollars_per_hour": None, "dollars_per_million_output_tokens": None}
    assert document["cost"] == document["full"]["cost"] == nothing


@pytest.mark.parametrize(
    ("model", "on", "asked"),
    [
        ("llama-3.1-8b", "rtx-4090", {}),
        ("llama-3.1-70b", "4x4090", {"tp": 2, "pp": 2}),
        ("llama-3.1-8b", "4x4090+4x3090", {"tp": 1, "pp": 1}),
        ("llama-2-70b", "5x4090", {"format": "fp16"}),
    ],
)
def test_totals_are_the_sums_of_the_devices(model: str, on: str, asked: dict[str, object]):
    memory = to_json_object(plan_of(model, on, **asked))["memory"]
    for key in ("weights_bytes", "activation_bytes", "reserve_bytes"):
        assert memory[key] == sum(device[key] for device in memory["per_device"])
    for device in memory["per_device"]:
        assert device["left_after_weights_bytes"] == device["usable_bytes"] - device["weights_bytes"]


def test_tokens_of_replicas_add_up_and_those_of_the_ranks_of_one_do_not():
    replicas = to_json_object(plan_of("llama-3.1-8b", "2x4090", tp=1, pp=1))["memory"]
    assert replicas["kv_tokens"] == sum(device["kv_tokens"] for device in replicas["per_device"])
    ranks = to_json_object(plan_of("llama-3.1-8b", "2x4090", tp=2))["memory"]
    assert ranks["kv_tokens"] == ranks["per_device"][0]["kv_tokens"] == ranks["per_device"][1]["kv_tokens"]


def test_kv_bytes_per_token_are_the_models_own_before_replication():
    """Two KV heads on four ranks are kept twice; a token of the model still has the bytes of two heads."""
    hardware = one_node(*[round_device()] * 4)
    document = to_json_object(make_plan("tiny", tiny_config(), hardware, PlanRequest(tp=4)))
    assert document["memory"]["kv_bytes_per_token"] == KV_BYTES_PER_TOKEN
    kept = sum(device["kv_bytes"] for device in document["memory"]["per_device"])
    assert kept == 2 * KV_BYTES_PER_TOKEN * document["memory"]["kv_tokens"]
    real = to_json_object(plan_of("llama-2-70b", "8xh100-sxm", tp=8))
    assert real["memory"]["kv_bytes_per_token"] == 327_680


def test_shares_are_of_the_whole_and_the_ops_add_up():
    document = to_json_object(plan_of("llama-3.1-70b", "4x4090", tp=4, batch=4))
    for phase in (document["prefill"], document["decode"]):
        assert set(phase["shares"]) == {"bandwidth", "compute", "link", "latency"}
        assert sum(phase["shares"].values()) == pytest.approx(1)
        assert phase["bound"] == max(phase["shares"], key=phase["shares"].get)
    decode = document["decode"]
    assert sum(op["seconds"] for op in decode["ops"]) == pytest.approx(decode["tpot_seconds"])
    assert decode["tokens_per_second"] == pytest.approx(4 / decode["tpot_seconds"])


def test_dollars_are_those_of_the_hour_over_the_tokens_of_the_hour():
    document = to_json_object(plan_of("llama-3.1-8b", "rtx-4090", price_per_hour=3.6, batch=2))
    seconds = document["prefill"]["seconds"] + 255 * document["decode"]["tpot_seconds"]
    tokens_an_hour = 2 * 256 / seconds * 3600
    assert document["cost"]["dollars_per_hour"] == 3.6
    assert document["cost"]["dollars_per_million_output_tokens"] == pytest.approx(3.6 / tokens_an_hour * 1e6)


@pytest.mark.parametrize("on", ["rtx-4090", "2x8xh100-sxm", "maia-100", "4x4090+4x3090"])
def test_the_object_is_strict_json(on: str):
    document = to_json_object(plan_of("llama-3.1-8b", on, price_per_hour=1e9))
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_headline_says_model_format_hardware_room_speed_and_price():
    line = headline(plan_of("llama-3.1-70b", "4x4090", tp=2))
    for part in ("llama-3.1-70b", "fp8", "4x rtx-4090", "tp 2", "KV room", "tok/s", "bandwidth-bound", "$"):
        assert part in line
    assert "\n" not in line
    assert "does not fit" in headline(plan_of("llama-2-70b", "rtx-4090", format="fp16"))
    assert "price unknown" in headline(plan_of("llama-3.1-8b", "maia-100"))


def test_a_slow_machine_is_not_said_to_give_nothing():
    plan = plan_of("llama-3.1-405b", "ryzen-7950x", memory="512GiB", format="int4")
    rate = plan.best.speed.decode.tokens_per_second
    assert 0 < rate < 0.5
    assert " 0 tok/s" not in headline(plan)
    assert not any(value == "0 tok/s" for _, figures in speed_columns(plan) for _, value in figures)


def test_equal_devices_share_a_column_of_the_memory_map():
    titles = [title for title, _ in memory_columns(plan_of("llama-2-70b", "6x4090", format="fp16", tp=1, pp=6))]
    assert titles == ["rtx-4090 #0", "rtx-4090 #1-2", "rtx-4090 #3-4", "rtx-4090 #5"]
    (title,) = [title for title, _ in memory_columns(plan_of("llama-3.1-8b", "8x4090", tp=8))]
    assert title == "rtx-4090 #0-7"


def test_what_is_missing_for_one_sequence_is_said_where_only_the_cache_does_not_fit():
    """Weights fit a 4090 easily; 131,072 tokens of 128 KiB are 16 GiB."""
    plan = plan_of("llama-3.1-8b", "rtx-4090", context=131072, format="bf16")
    ((_, figures),) = memory_columns(plan)
    rows = dict(figures)
    assert not plan.fits
    assert any(value == "16.00 GiB" for value in rows.values())
    assert "missing" in rows and "left" not in rows and not rows["missing"].startswith("0 ")


def test_ops_are_listed_longest_first():
    plan = plan_of("llama-3.1-8b", "rtx-4090")
    step = plan.best.speed.decode.step
    rows = list(op_rows(step, limit=5))
    shares = [share for _, _, share, _ in rows]
    assert len(rows) == 5 and shares == sorted(shares, reverse=True)
    assert sum(share for _, _, share, _ in op_rows(step, limit=1000)) == pytest.approx(1)


def test_every_layout_has_a_row():
    plan = plan_of("llama-3.1-8b", "4x4090")
    assert len(list(layout_rows(plan))) == len(plan.choices) > 3
