"""A search as its user meets it: tables at two widths, JSON, mistakes."""

import io
import json

import pytest
from rich.console import Console

from farthing.cli import output
from farthing.cli.search import answer_models, answer_search
from farthing.cli.search_flags import SearchFlags, is_search
from farthing.errors import UsageError
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.request import PlanRequest

_ON = "rtx-4090,l40s,h100"


def _config(model="llama-3.1-8b"):
    published = find_published(model)
    return ConfigReader(published.config, published.name)


@pytest.fixture
def printed(monkeypatch):
    """A terminal of some width, and what was printed to it."""

    def run(width=100, *, on=_ON, model="llama-3.1-8b", prices=None, request=None, **flags):
        out = io.StringIO()
        console = Console(file=out, width=width, highlight=False, markup=False, emoji=False)
        monkeypatch.setattr(output, "stdout", console)
        asked = PlanRequest(on=on, **(request or {}))
        answer_search(model, _config(model), request=asked, flags=SearchFlags(**flags), prices=prices)
        return out.getvalue()

    return run


def _json(capsys, **flags):
    answer_search(
        "llama-3.1-8b", _config(), request=PlanRequest(on=_ON), flags=SearchFlags(**flags), json=True
    )  # fmt: skip
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("width", [80, 120])
def test_a_buyer_sees_what_to_rent_what_to_own_why_how_sure_and_where_it_flips(printed, width):
    text = printed(width, users=40, workload="chat", ttft=2.0, tpot=0.05)
    for part in ("cheapest to rent: ", "cheapest to own: ", "why ", "sure ", "runs on", "where it flips", "assumed:"):
        assert part in text
    answer = text[: text.index("assumed:")].splitlines()
    assert all(len(line) <= width for line in answer)
    assert not any("…" in line for line in answer)


def test_amounts_are_in_the_currency_that_is_asked_for(printed):
    text = printed(users=4, workload="chat", prices=PriceAssumptions(market="cn", currency="CNY"))
    assert "¥" in text and "prices of China" in text


def test_who_only_rents_is_shown_what_to_rent(printed):
    text = printed(users=4, workload="chat", prices=PriceAssumptions(rent=True))
    assert "cheapest to rent" in text and "cheapest to own" not in text


def test_json_says_what_the_table_says_and_more(capsys):
    made = _json(capsys, users=40, workload="chat")
    assert made["schema"] == "farthing.search/1"
    assert made["found"]
    for way in ("rent", "buy"):
        best, options = made["best"][way], made["options"][way]
        assert best == options[0]
        assert [one["dollars_per_month"] for one in options] == sorted(one["dollars_per_month"] for one in options)
        assert best["simulated"]["meets"] and not best["is_dominated"]
        assert best["ttft_range"][0] <= best["ttft_seconds"] <= best["ttft_range"][1]
    assert made["demand"]["users"] == 40
    assert made["flips"] and made["assumptions"] and made["law"]


def test_an_impossible_promise_is_an_answer(capsys, printed):
    made = _json(capsys, users=4, ttft=1e-5, tpot=1e-5)
    assert not made["found"] and made["best"] == {"rent": None, "buy": None}
    assert made["nearest"]["kind"] and made["nearest"]["text"]
    text = printed(users=4, ttft=1e-5, tpot=1e-5)
    assert "nothing meets this" in text and "the nearest is" in text and "what binds is" in text


def test_too_many_users_are_told_how_many_devices_it_takes(printed):
    assert "would carry all, --max-devices allows 64" in printed(users=100_000, workload="chat")


def test_a_budget_that_buys_nothing_says_so(printed):
    text = printed(users=40, workload="chat", budget=1.0)
    assert "nothing that keeps the promise has a price within the limits" in text


def test_without_the_simulator_nothing_is_said_of_it(printed):
    assert "simulator" not in printed(users=4, simulate=False)


@pytest.mark.parametrize(
    "said",
    [
        {"budget": 0.0},
        {"budget": -5.0},
        {"max_watts": -1.0},
        {"max_devices": 0},
        {"min_quality": "lots"},
        {"min_quality": "150%"},
    ],
)
def test_flags_that_make_no_sense_are_refused(said):
    with pytest.raises(UsageError):
        SearchFlags(**said)


@pytest.mark.parametrize(
    "flags, on",
    [
        ({"rate": 0.0}, _ON),
        ({"users": 3, "rate": 1.0}, _ON),
        ({"users": 3, "workload": "no-such-workload"}, _ON),
        ({"users": 3, "ttft": -1.0}, _ON),
        ({"users": 3}, "no-such-card,rtx-4090"),
    ],
)
def test_questions_that_make_no_sense_are_refused(flags, on):
    with pytest.raises(UsageError) as raised:
        answer_search("llama-3.1-8b", _config(), request=PlanRequest(on=on), flags=SearchFlags(**flags))
    assert raised.value.fix


def test_an_engine_that_nobody_knows_is_refused():
    request = PlanRequest(on=_ON, engine="no-such-engine")
    with pytest.raises(UsageError, match="no-such-engine"):
        answer_search("llama-3.1-8b", _config(), request=request, flags=SearchFlags(users=3))


def test_a_negative_price_is_refused():
    with pytest.raises(UsageError):
        PriceAssumptions(device_price=-1.0)
    with pytest.raises(UsageError):
        answer_search(
            "llama-3.1-8b", _config(), request=PlanRequest(on=_ON, price_per_hour=1.0), flags=SearchFlags(users=1)
        )


def test_any_a_list_or_a_load_makes_a_plan_a_search():
    assert is_search("any", SearchFlags()) and is_search("4090,l40s", SearchFlags())
    assert is_search("4090", SearchFlags(users=3)) and not is_search("8x4090", SearchFlags())


def test_hardware_without_a_model_is_answered_by_models(capsys):
    answer_models(request=PlanRequest(on="rtx-4090"), flags=SearchFlags(users=2, workload="chat"), json=True)
    made = json.loads(capsys.readouterr().out)
    fits = {one["model"]: one for one in made["models"] if one["fits"]}
    assert "llama-3.1-8b" in fits and "llama-3.1-70b" not in fits
    assert all(one["kind"] and one["why"] for one in made["models"] if not one["fits"])


def test_models_for_hardware_fit_a_narrow_terminal(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(output, "stdout", Console(file=out, width=80, highlight=False, markup=False, emoji=False))
    answer_models(request=PlanRequest(on="rtx-4090"), flags=SearchFlags(users=2))
    assert "keeps the promise" in out.getvalue() and "…" not in out.getvalue()
    assert all(len(line) <= 80 for line in out.getvalue().splitlines())


def test_models_are_for_one_piece_of_hardware():
    with pytest.raises(UsageError):
        answer_models(request=PlanRequest(on="any"), flags=SearchFlags())
