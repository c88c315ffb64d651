"""How a load looks in a terminal: counts, latencies, rates, and what the server's ledger says of it. Knows no flags."""

from rich.table import Table

from farthing.cli import output
from farthing.client.load_ledger import LedgerDelta, PhaseDelta
from farthing.client.load_report import LoadReport
from farthing.client.load_stats import LoadSummary
from farthing.spread import PERCENTILES, Spread
from farthing.units import format_seconds

_MOST_REASONS = 5


def print_report(report: LoadReport) -> None:
    """To stdout."""
    summary, show = report.summary, output.stdout.print
    show(f"{report.model} at {report.url} · {report.asked.line}", soft_wrap=True)
    cut = f", {summary.cut} cut" if summary.cut else ""
    show(
        f"{summary.sent:,} requests in {format_seconds(summary.seconds)}: {summary.answered:,} answered, "
        f"{summary.refused:,} refused (429), {summary.failed:,} failed{cut}",
        soft_wrap=True,
    )
    for reason in summary.reasons[:_MOST_REASONS]:
        show(f"  {reason.requests:,} x {reason.reason}: {reason.example}".rstrip(": "), soft_wrap=True)
    show()
    show(_latencies(summary, with_lag=report.asked.is_open))
    show()
    show(
        f"{summary.requests_per_second:,.3g} requests/s · {summary.input_tokens_per_second:,.0f} input tokens/s · "
        f"{summary.output_tokens_per_second:,.0f} output tokens/s",
        soft_wrap=True,
    )
    if summary.goodput is not None:
        good = summary.goodput
        bounds = [f"{name} {format_seconds(value)}" for name, value in (("TTFT", good.ttft), ("TPOT", good.tpot))
                  if value is not None]  # fmt: skip
        show(
            f"goodput {good.requests_per_second:,.3g} requests/s, {good.share:.1%} of all sent, within "
            f"{' and '.join(bounds)}",
            soft_wrap=True,
        )
    if report.ledger is not None:
        _print_ledger(report, report.ledger)


def _table() -> Table:
    return Table(box=None, padding=(0, 1), pad_edge=False)


def _latencies(summary: LoadSummary, *, with_lag: bool) -> Table:
    table = _table()
    table.add_column("")
    for heading in ("mean", *(f"p{share}" for share in PERCENTILES)):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [
        ("time to first token", summary.ttft_seconds),
        ("time per output token", summary.tpot_seconds),
        ("between tokens", summary.itl_seconds),
        ("whole request", summary.request_seconds),
    ]
    if with_lag:
        rows.append(("sent late by", summary.lag_seconds))
    for name, spread in rows:
        table.add_row(name, *_figures(spread))
    return table


def _figures(spread: Spread) -> list[str]:
    values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99)
    return ["-" if value is None else format_seconds(value) for value in values]


def _print_ledger(report: LoadReport, ledger: LedgerDelta) -> None:
    show = output.stdout.print
    table = _table()
    table.add_column("ledger", no_wrap=True)
    for heading in ("steps", "measured", "forecast", "of the forecast", "of the measured limit"):
        table.add_column(heading, justify="right")
    for name, phase in (("prefill", ledger.prefill), ("decode", ledger.decode)):
        table.add_row(name, *_phase(phase))
    show()
    show(table)
    if ledger.why_slow is not None:
        reason = ledger.why_slow
        whole = "time" if reason["speeds"] == "answers" else "places"
        cause = f"{reason['cause'].replace('_', ' ')} ({reason['share']:.0%} of the {whole})"
        show(f"why not faster, in the server's last minute: {cause} - {reason['what']}", soft_wrap=True)
        show(f"  {reason['remedy']}", soft_wrap=True)
    dollars = report.dollars_per_million_output_tokens
    if dollars is not None:
        show(
            f"${dollars:,.3g} per million output tokens, at ${ledger.price_dollars_per_hour:,.3g} an hour "
            f"({ledger.price_note})",
            soft_wrap=True,
        )


def _phase(phase: PhaseDelta) -> list[str]:
    forecast = format_seconds(phase.forecast_seconds) if phase.forecast_seconds else "-"
    shares = [f"{share:.0%}" if share is not None else "-" for share in (phase.speed_to_forecast, phase.share_of_limit)]
    return [f"{phase.steps:,}", format_seconds(phase.seconds) if phase.steps else "-", forecast, *shares]
