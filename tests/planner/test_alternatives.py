"""What would fit where a plan does not: every phrase, followed, fits."""

import re
from dataclasses import replace

import pytest
from round_hardware import round_accelerator, round_device, tiny_config

from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.planner.alternatives import what_would_fit
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import Device


def plan_of(model: str, request: PlanRequest) -> Plan:
    return make_plan(model, config_of(find_model(model)), find_hardware(request), request)


def followed(request: PlanRequest, phrase: str) -> PlanRequest:
    """The request with the flags and the hardware that a phrase names."""
    said = dict(re.findall(r"--(format|kv-format|context) (\w+)", phrase))
    changes: dict[str, object] = {"format": said["format"]} if "format" in said else {}
    changes |= {"kv_format": said["kv-format"]} if "kv-format" in said else {}
    changes |= {"context": int(said["context"])} if "context" in said else {}
    if split := re.search(r"tp (\d+), pp (\d+), replicas (\d+)", phrase):
        changes |= dict(zip(("tp", "pp", "replicas"), map(int, split.groups()), strict=True))
    elif cards := re.match(r"(\d+)x \S+ in a pipeline", phrase):
        changes |= {"on": cards[0].partition(" in")[0], "tp": 1, "pp": int(cards[1]), "replicas": 1}
    else:
        changes |= dict.fromkeys(("tp", "pp", "replicas"))
    return replace(request, **changes)


@pytest.mark.parametrize(
    ("model", "request_"),
    [
        ("llama-2-13b", PlanRequest(on="rtx-4090", format="fp16")),
        ("llama-2-70b", PlanRequest(on="5x rtx-4090", format="fp16")),
        ("llama-3.1-8b", PlanRequest(on="rtx-4090", context=131072, format="bf16")),
        ("mixtral-8x7b", PlanRequest(on="rtx-4090")),
        ("llama-3.1-8b", PlanRequest(on="t4", format="fp16")),
    ],
)
def test_every_phrase_followed_gives_a_plan_that_fits(model: str, request_: PlanRequest):
    plan = plan_of(model, request_)
    assert not plan.fits and plan.would_fit
    for phrase in plan.would_fit:
        changed = plan_of(model, followed(request_, phrase))
        assert changed.fits, phrase
        if room := re.search(r"KV room for ([\d,]+) sequence", phrase):
            assert changed.placement.num_sequences == int(room[1].replace(",", "")), phrase


def test_13b_in_fp16_fits_a_4090_in_8_bits_or_two_of_them():
    phrases = plan_of("llama-2-13b", PlanRequest(on="rtx-4090", format="fp16")).would_fit
    assert any(phrase.startswith("--format fp8") for phrase in phrases)
    assert any(phrase.startswith("2x rtx-4090") for phrase in phrases)


def test_the_fewest_cards_that_do_are_named():
    phrases = plan_of("llama-2-70b", PlanRequest(on="5x rtx-4090", format="fp16")).would_fit
    assert [phrase.partition(" ")[0] for phrase in phrases if "pipeline" in phrase] == ["6x"]


def test_nothing_is_proposed_where_nothing_helps():
    assert what_would_fit(tiny_config(), [round_device(memory_bytes=1)], PlanRequest(), 4096) == ()


def _small(sale: str) -> Device:
    """A card on which half of the tiny model fits, and the whole does not."""
    return round_device(memory_bytes=2_500_000, accelerator=round_accelerator(sale=sale))


def test_more_of_what_cannot_be_bought_is_never_proposed():
    request = PlanRequest(format="bf16", max_num_seqs=1, max_batch_tokens=16)
    proposed = {sale: what_would_fit(tiny_config(), [_small(sale)], request, 4096) for sale in ("sold", "not-sold")}
    assert any("in a pipeline" in phrase for phrase in proposed["sold"])
    assert not any("in a pipeline" in phrase for phrase in proposed["not-sold"])


def test_a_shorter_context_is_never_shorter_than_prompt_and_answer():
    request = PlanRequest(on="rtx-4090", context=131072, input_tokens=100_000, output_tokens=1000)
    found = [re.search(r"--context (\d+)", phrase) for phrase in plan_of("llama-3.1-8b", request).would_fit]
    contexts = [int(match[1]) for match in found if match]
    assert all(101_000 <= context < 131_072 for context in contexts)


def test_a_mixed_cluster_is_not_multiplied():
    request = PlanRequest(on="rtx-4090+rtx-3090", format="bf16")
    assert not any("in a pipeline" in phrase for phrase in plan_of("llama-3.1-70b", request).would_fit)
