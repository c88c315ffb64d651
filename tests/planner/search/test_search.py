"""The search: against brute force, monotone, and bad questions."""

import math
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import UsageError
from farthing.hardware.accelerator import load_accelerator
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.planner.money.monthly import Monthly
from farthing.planner.money.offers import WAYS, Offers
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_book import price_book
from farthing.planner.search.candidates import (
    Configuration,
    Descriptions,
    Target,
    Wishes,
    engines_of,
    precisions,
    shapes,
    targets_of,
)
from farthing.planner.search.capacity import ReplicaLoad
from farthing.planner.search.loads import demand_of
from farthing.planner.search.pareto import dominates
from farthing.planner.search.search import search, share_of
from farthing.planner.search.search_answer import answer
from farthing.planner.search.slo import Slo
from farthing.planner.search.why_not import all_ways

_SMALL = ("rtx-4090", "l40s", "h100-sxm")
_SLO = Slo(2.0, 0.05)


@cache
def _descriptions(model="llama-3.1-8b"):
    published = find_published(model)
    return Descriptions(ConfigReader(published.config, published.name))


def _targets(*ids):
    return tuple(Target(load_accelerator(id)) for id in ids or _SMALL)


def _search(targets=None, slo=_SLO, wishes=None, model="llama-3.1-8b", prices=None, **load):
    demand, _ = demand_of(131_072, **(load or {"users": 40, "workload": "chat"}))
    descriptions = _descriptions(model)
    return search(model, descriptions, targets or _targets(), demand, slo, Offers(price_book(prices)), wishes)


def _dollars(found, way):
    best = found.best(way)
    return math.inf if best is None else best.dollars(way)


@pytest.mark.parametrize(
    "load",
    [
        {"users": 60, "workload": "chat"},
        {"users": 25, "workload": "code-agent"},
        {"rate": 6.0, "workload": "rag"},
        {"users": 32, "workload": "batch"},
    ],
)
def test_the_pruned_search_finds_what_brute_force_finds(load):
    wishes = Wishes(max_devices=8)
    demand, _ = demand_of(131_072, **load)
    descriptions, offers = _descriptions(), Offers(price_book())
    found = search("llama-3.1-8b", descriptions, _targets(), demand, _SLO, offers, wishes)
    cheapest = dict.fromkeys(WAYS, math.inf)
    for target in _targets():
        accelerator = target.accelerator
        for precision in precisions(accelerator, descriptions.config, wishes):
            for tp, pp in shapes(wishes):
                if not descriptions.is_divisible(precision, tp, pp):
                    continue
                if engines_of(accelerator, descriptions.spec(precision), tp, pp, wishes) is None:
                    continue
                for replicas in range(1, 8 // (tp * pp) + 1):
                    if not _carries(descriptions, precision, accelerator, tp, pp, demand, replicas, wishes):
                        continue
                    for way in WAYS:
                        price = offers.monthly(accelerator, replicas * tp * pp, way)
                        if isinstance(price, Monthly):
                            cheapest[way] = min(cheapest[way], price.dollars)
    assert {way: _dollars(found, way) for way in WAYS} == pytest.approx(cheapest)


def _carries(descriptions, precision, accelerator, tp, pp, demand, replicas, wishes):
    from_list = engines_of(accelerator, descriptions.spec(precision), tp, pp, wishes)
    configuration = _configuration(accelerator, precision, tp, pp, from_list)
    if not descriptions.has_room(configuration):
        return False
    times = descriptions.times(configuration, wishes.network)
    if times is None or times.kv_tokens < demand.longest:
        return False
    load, share = ReplicaLoad(times, demand), share_of(demand, replicas)
    for keeps in (True, False):
        if keeps is (demand.prefix_of == "nobody") or (not keeps and demand.prefix_of == "all"):
            continue
        steady = load.steady(share, keeps)
        if (
            steady.amount >= share * (1 - 1e-3)
            and _SLO.is_met(steady.ttft, steady.tpot)
            and steady.kv_tokens <= times.kv_tokens
            and steady.most_running <= times.max_num_seqs
        ):
            return True
    return False


def _configuration(accelerator, precision, tp, pp, engines):
    return Configuration(accelerator, precision, tp, pp, *engines)


def test_every_option_keeps_the_promise_by_its_own_forecast():
    found = _search(users=200, workload="chat")
    assert found.options
    for option in found.options:
        assert _SLO.is_met(option.steady.ttft, option.steady.tpot)
        assert option.steady.kv_tokens <= option.kv_tokens
        assert option.num_devices <= found.wishes.max_devices
        assert option.tpot_range.low <= option.steady.tpot <= option.tpot_range.high


@pytest.mark.parametrize("way", WAYS)
def test_the_front_has_no_dominated_option_and_has_the_winner(way):
    found = _search(users=200, workload="chat")
    front = found.front(way)
    points = [option.point(way) for option in found.ranked(way)]
    assert not any(dominates(point, option.point(way)) for option in front for point in points)
    assert any(option is found.best(way) for option in front)


@given(
    users=st.integers(1, 400), more=st.integers(0, 400), ttft=st.floats(0.3, 10), tpot=st.floats(0.01, 0.2),
    looser=st.floats(1, 3),
)  # fmt: skip
@settings(max_examples=12, deadline=None)
def test_a_looser_promise_never_costs_more_and_more_users_never_cost_less(users, more, ttft, tpot, looser):
    wishes = Wishes(max_devices=64, kv_format="fp16")
    said = _search(slo=Slo(ttft, tpot), wishes=wishes, users=users, workload="chat")
    easier = _search(slo=Slo(ttft * looser, tpot * looser), wishes=wishes, users=users, workload="chat")
    busier = _search(slo=Slo(ttft, tpot), wishes=wishes, users=users + more, workload="chat")
    for way in WAYS:
        assert _dollars(easier, way) <= _dollars(said, way) <= _dollars(busier, way)


@given(factor=st.floats(0.05, 1.0))
@settings(max_examples=5, deadline=None)
def test_a_cheaper_offer_of_the_same_hardware_is_never_ranked_lower(factor):
    wishes = Wishes(kv_format="fp16", max_devices=8)
    before, after = (_search(targets, wishes=wishes) for targets in (_targets(), _with_rental("l40s", factor)))
    ids = [[option.configuration.accelerator.id for option in found.ranked("rent")] for found in (before, after)]
    assert ids[1].index("l40s") <= ids[0].index("l40s")
    assert _dollars(after, "rent") <= _dollars(before, "rent")


def _with_rental(id, factor):
    part = load_accelerator(id)
    rentals = tuple(replace(price, value=price.value * factor) for price in part.rentals)
    return tuple(
        Target(replace(part, rentals=rentals)) if target.accelerator.id == id else target for target in _targets()
    )


@given(faster=st.floats(1.0, 4.0))
@settings(max_examples=10, deadline=None)
def test_more_bandwidth_never_costs_more(faster):
    part = load_accelerator("l40s")
    quick = replace(part, bandwidth=replace(part.bandwidth, value=part.bandwidth.value * faster))
    wishes, slo = Wishes(kv_format="fp16"), Slo(2.0, 0.03)
    before = _search((Target(part),), slo, wishes, users=80, workload="chat")
    after = _search((Target(quick),), slo, wishes, users=80, workload="chat")
    for way in WAYS:
        assert _dollars(after, way) <= _dollars(before, way)


def test_what_cant_be_had_or_driven_is_proposed_only_with_all():
    targets = _targets("maia-100", "rtx-4090")
    usual = _search(targets)
    assert [one.target.accelerator.id for one in usual.passed] == ["maia-100"]
    demand, _ = demand_of(131_072, users=2, workload="chat")
    everything = search(
        "llama-3.1-8b", _descriptions(), targets, demand, Slo(), Offers(price_book(), include_all=True),
        Wishes(include_all=True),
    )  # fmt: skip
    assert any(option.configuration.accelerator.id == "maia-100" for option in everything.options)
    assert all(
        not o.configuration.runs_with for o in everything.options if o.configuration.accelerator.id == "maia-100"
    )


def test_wishes_narrow_what_is_proposed():
    for option in _search(wishes=Wishes(engine="llama.cpp"), users=2, workload="chat").options:
        assert option.configuration.runs_with == ("llama.cpp",)
    for option in _search(wishes=Wishes(min_quality=0.99)).options:
        assert option.quality.worst is not None and option.quality.worst >= -0.01
    for option in _search(wishes=Wishes(format="fp8", tp=2, pp=1)).options:
        assert (option.configuration.precision.format.name, option.configuration.tp) == ("fp8", 2)
    for option in _search(wishes=Wishes(max_watts=1500.0)).options:
        assert option.watts is not None and option.watts <= 1500
    cheap = _search(wishes=Wishes(max_dollars=600.0))
    assert all(option.dollars(way) <= 600 for way in WAYS for option in cheap.ranked(way))


def test_a_count_is_kept_to():
    found = _search((Target(load_accelerator("rtx-4090"), 4),), users=10, workload="chat")
    assert found.options
    assert {option.num_devices for option in found.options} == {4}


def test_names_of_a_list_are_all_that_they_can_mean():
    assert {target.accelerator.id for target in targets_of("4090,h100")} == {
        "rtx-4090", "h100-nvl", "h100-pcie", "h100-sxm",
    }  # fmt: skip
    assert targets_of("8x4090")[0].count == 8
    assert len(targets_of("any")) > 50
    for wrong in ("4090,nonsense", ",", "4x4090+4x3090,h100"):
        with pytest.raises(UsageError):
            targets_of(wrong)


def test_an_impossible_promise_is_an_answer_that_names_the_nearest_and_what_binds():
    demand, _ = demand_of(131_072, users=5, workload="chat")
    offers = Offers(price_book())
    made = answer("llama-3.1-8b", _descriptions(), _targets(), demand, Slo(1e-4, 1e-4), offers)
    assert not made.found and not made.flips
    assert made.nearest is not None and made.nearest.capacity.binds in ("tpot", "ttft", "bandwidth")
    assert all(reason.text for way in WAYS for reason in made.why_not[way])


@pytest.mark.parametrize(
    "model, id, load, kinds",
    [
        ("llama-3.1-70b", "rtx-4090", {"users": 1, "workload": "chat"}, {"memory"}),
        ("llama-3.1-8b", "rtx-4090", {"users": 8, "workload": "code-agent"}, {"kv", "ttft", "tpot", "link", "load"}),
        ("llama-3.1-70b", "m3-ultra", {"users": 1, "workload": "chat"}, {"bandwidth", "tpot"}),
    ],
)
def test_what_a_cheaper_option_dies_of_is_named(model, id, load, kinds):
    targets = (Target(load_accelerator(id), 1), *_targets("h200-sxm"))
    found = _search(targets, Slo(2.0, 0.04), model=model, **load)
    reasons = all_ways(found, targets, _descriptions(model), Offers(price_book()))
    mine = [reason for way in WAYS for reason in reasons[way] if reason.id == id and reason.dollars is not None]
    assert mine and all(reason.kind in kinds and reason.text for reason in mine)
    for way in WAYS:
        best = found.best(way)
        assert best is None or all(r.dollars is None or r.dollars < best.dollars(way) for r in reasons[way])


def test_the_simulator_confirms_the_winner_or_it_is_another():
    demand, _ = demand_of(131_072, users=40, workload="chat")
    made = answer("llama-3.1-8b", _descriptions(), _targets(), demand, _SLO, Offers(price_book()))
    for way in WAYS:
        best = made.search.best(way)
        assert best is not None
        confirmed = made.confirmed(best)
        assert confirmed is not None and confirmed.is_met(_SLO)


def test_flips_are_where_another_one_is_as_cheap():
    demand, _ = demand_of(131_072, users=40, workload="chat")
    made = answer("llama-3.1-8b", _descriptions(), _targets(), demand, _SLO, Offers(price_book()), simulates=False)
    flip = next(flip for flip in made.flips if flip.what == "price" and flip.way == "rent")
    winner = made.search.best("rent").configuration.accelerator.id
    dearer = _search(_with_rental(winner, flip.factor * 1.01))
    assert dearer.best("rent").name("rent") == flip.winner
    assert {flip.what for flip in made.flips} >= {"price", "electricity", "users", "context"}


def test_another_load_is_searched_among_all_that_was_looked_at():
    targets = _targets(*_SMALL, "rtx-3090", "a100-80-sxm", "h200-sxm", "mi300x", "rtx-5090")
    demand, _ = demand_of(131_072, users=4, workload="chat")
    offers = Offers(price_book())
    made = answer("llama-3.1-8b", _descriptions(), targets, demand, _SLO, offers, simulates=False)
    for flip in (one for one in made.flips if one.what == "users"):
        again = search("llama-3.1-8b", _descriptions(), targets, demand.times(flip.factor), _SLO, offers)
        assert flip.winner == again.best(flip.way).name(flip.way)


def test_the_same_question_has_the_same_answer():
    first, second = _search(), _search()
    assert [o.rank("rent") for o in first.ranked("rent")] == [o.rank("rent") for o in second.ranked("rent")]


def test_an_offer_is_asked_of_the_market():
    assert isinstance(Offers(price_book()).monthly(load_accelerator("rtx-4090d"), 1, "rent"), str)
    chinese = Offers(price_book(PriceAssumptions(market="cn")))
    assert isinstance(chinese.monthly(load_accelerator("rtx-4090d"), 1, "buy"), Monthly)


def test_boards_are_bought_by_the_box():
    offers = Offers(price_book())
    assert offers.monthly(load_accelerator("h100-sxm"), 1, "buy") == offers.monthly(
        load_accelerator("h100-sxm"), 8, "buy"
    )
