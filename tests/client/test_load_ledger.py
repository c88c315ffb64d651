"""What changed between two snapshots of a server's ledger: known numbers in, shares and dollars out."""

from typing import Any

import pytest

from farthing.client.load_ledger import between

ZERO = {"steps": 0, "tokens": 0, "seconds": 0.0, "limit_seconds": 0.0, "forecast_seconds": 0.0}
REASON = {"cause": "launch", "speeds": "answers", "share": 0.4, "gain": 1.7, "what": "many calls", "remedy": "none"}


def snapshot(uptime: float, output: int, *, prefill: dict[str, Any] | None = None, decode: dict[str, Any] | None = None,
             price: float | None = None, reasons: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:  # fmt: skip
    return {
        "uptime_seconds": uptime,
        "tokens": {"output": output},
        "total": {"prefill": prefill or ZERO, "decode": decode or ZERO},
        "price_dollars_per_hour": price,
        "price_note": "as said",
        "why_slow": list(reasons),
        "plan_line": "bundled",
    }


def phase(factor: int) -> dict[str, Any]:
    return {
        "steps": 10 * factor,
        "tokens": 40 * factor,
        "seconds": 4.0 * factor,
        "limit_seconds": 1.0 * factor,
        "forecast_seconds": 2.0 * factor,
    }


def test_phases_are_differences_and_shares_of_them():
    delta = between(snapshot(5, 100, decode=phase(1)), snapshot(9, 180, prefill=phase(1), decode=phase(3)), 60)
    assert delta is not None
    assert (delta.prefill.steps, delta.decode.steps, delta.decode.tokens) == (10, 20, 80)
    assert (delta.decode.share_of_limit, delta.decode.speed_to_forecast) == (0.25, 0.5)
    assert delta.decode.forecast_step_seconds == 0.2
    assert delta.share_of_limit == 0.25 and delta.forecast_tokens_per_second == 80 / 6
    assert (delta.output_tokens, delta.other_output_tokens) == (80, 20)


def test_the_largest_reason_and_the_price_are_those_of_the_end():
    delta = between(snapshot(1, 0), snapshot(2, 7, price=3.6, reasons=(REASON, {})), 7)
    assert delta is not None and delta.why_slow == REASON
    assert delta.dollars(100) == pytest.approx(0.1)
    assert delta.dollars_per_million(100, 1000) == pytest.approx(100)
    assert delta.dollars_per_million(100, 0) is None


def test_what_is_not_known_is_left_out():
    delta = between(snapshot(1, 0), snapshot(2, 0), 0)
    assert delta is not None
    assert delta.prefill.share_of_limit is delta.decode.speed_to_forecast is delta.decode.forecast_step_seconds is None
    assert delta.share_of_limit is delta.forecast_tokens_per_second is delta.why_slow is delta.dollars(5) is None


def test_a_server_that_began_anew_tells_nothing():
    assert between(snapshot(100, 5), snapshot(3, 50), 45) is None
    assert between(snapshot(100, 50), snapshot(101, 5), 0) is None
