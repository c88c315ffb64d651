"""How a running server looks in a terminal: a snapshot of its ledger as lines of text.

A pure function of the snapshot (GET /farthing/ledger) and the size of the terminal. Knows no server and no flag.
"""

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from farthing.cli.amounts import dollars, duration, percent
from farthing.cli.snapshot import Snapshot
from farthing.units import format_bytes, format_count, format_seconds

_STATE_STYLES = {"ok": "bold green", "failed": "bold red", "stalled": "bold red"}
_SPARKS = "▁▂▃▄▅▆▇█"
_GLYPHS = "█▓▒"
_IDLE_GLYPH = "░"
_SLOW = 0.8  # of the forecast speed
_LABEL = 11  # columns of the first word of a row
# Parts of the time in the order of the bar: (name in the snapshot, what people read, colour).
_PARTS = (
    ("weights", "weights", "blue"),
    ("kv_cache", "KV cache", "cyan"),
    ("activations", "activations", "green"),
    ("compute", "arithmetic", "bright_green"),
    ("communication", "links", "magenta"),
    ("launch", "launches", "yellow"),
    ("host", "host", "bright_yellow"),
    ("threads", "threads", "bright_magenta"),
    ("throttled", "throttled", "red"),
    ("idle", "idle", "bright_black"),
)
_LATENCIES = (
    ("ttft_seconds", "first token"),
    ("tpot_seconds", "per token"),
    ("itl_seconds", "token gap"),
    ("request_seconds", "request"),
)


@dataclass(frozen=True, slots=True)
class _Section:
    """`rank`: where the terminal is too low for all, the highest goes first."""

    rank: int
    lines: tuple[Text, ...]


def draw(snapshot: Snapshot, *, width: int, height: int | None = None, note: str = "") -> Text:
    """The whole view, at most `width` columns and, unless None, `height` lines. `note` stands out at the top.

    Where it is too high, first only the largest finding stays, then the empty lines go, then the least sections.
    """
    for num_findings, gap in ((3, 1), (1, 1), (1, 0)):
        sections = _sections(snapshot, width, note, num_findings)
        if height is None or _height(sections, gap) <= height:
            break
    while height is not None and len(sections) > 1 and _height(sections, gap) > height:
        sections.remove(max(sections, key=lambda section: section.rank))
    lines: list[Text] = []
    for section in sections:
        lines += [*([Text("")] * gap if lines else []), *section.lines]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n", no_wrap=True).join(lines[:height])


def _sections(snapshot: Snapshot, width: int, note: str, num_findings: int) -> list[_Section]:
    notes = [Text(line, "bold red") for line in textwrap.wrap(note, width)]
    sections = (
        _Section(0, (*_head(snapshot, width), *notes)),
        _Section(1, tuple(_speed(snapshot, width))),
        _Section(4, tuple(_cards(snapshot))),
        _Section(3, tuple(_latency(snapshot))),
        _Section(6, tuple(_time(snapshot, width))),
        _Section(5, tuple(_why_slow(snapshot, width, num_findings))),
        _Section(2, tuple(_money(snapshot, width))),
        _Section(7, tuple(_history(snapshot, width))),
    )
    return [section for section in sections if section.lines]


def _height(sections: Sequence[_Section], gap: int) -> int:
    return sum(len(section.lines) + gap for section in sections) - gap


def status_line(snapshot: Snapshot) -> str:
    """The same in one line, for a pipe or a log."""
    dear = snapshot.number("dollars", "per_million_output_tokens")
    parts = [
        _state(snapshot),
        f"{_rate(snapshot.number('rates', 'output_tokens_per_second'))} tok/s",
        f"decode {percent(snapshot.number('recent', 'decode', 'share_of_limit'))} of the limit",
        f"{_count(snapshot.number('requests', 'running'))} running",
        f"{_count(snapshot.number('requests', 'waiting'))} waiting",
        f"KV {percent(snapshot.number('kv', 'usage_ratio'))}",
        f"first token {_seconds(snapshot.number('latency', 'ttft_seconds', 'p50'))}",
        *([] if dear is None else [f"{dollars(dear)} per million tokens"]),
    ]
    return " · ".join(parts)


def _state(snapshot: Snapshot) -> str:
    return "stalled" if snapshot.is_true("stalled") else snapshot.text("state")[:20] or "unknown"


def _head(snapshot: Snapshot, width: int) -> Iterator[Text]:
    state, up, restarts = _state(snapshot), snapshot.number("uptime_seconds"), snapshot.number("num_restarts")
    right = Text(state, _STATE_STYLES.get(state, "bold yellow"))
    if up is not None:
        right.append(f" · up {duration(up)}", "default")
    if restarts:
        right.append(f" · {_count(restarts)} restart{'s' * (restarts != 1)}", "yellow")
    left = Text(snapshot.text("plan_line") or snapshot.text("model") or "a server", "bold")
    room = width - right.cell_len - 2
    if room < 20:
        yield left
        yield right
    else:
        left.truncate(room, overflow="ellipsis", pad=True)
        yield Text.assemble(left, "  ", right)
    counts = [(snapshot.number("requests", name), name) for name in ("running", "waiting", "queued", "refused")]
    ended = snapshot.numbers("requests", "ended")
    answered = sum(count for name, count in ended.items() if name not in ("cancelled", "failed"))
    counts += [(answered, "answered"), *((ended.get(name), name) for name in ("cancelled", "failed"))]
    said = [Text(f"{_rate(snapshot.number('rates', 'output_tokens_per_second'))} tokens/s")]
    for count, name in counts:
        if count or name in ("running", "waiting", "answered"):
            said.append(Text(f"{_count(count)} {name}", "red" if name in ("failed", "refused") else ""))
    yield from _flow(said, " · ", width)


def _speed(snapshot: Snapshot, width: int) -> Iterator[Text]:
    """Of the last minute: tokens per second while steps run, and against what."""
    size = max(8, min(40, width - 60))
    yield Text(f"{'':{_LABEL}}{'tokens/s':>9}   {'share of the limit':<{size + 7}}{'of the forecast':>22}", "dim")
    for phase in ("decode", "prefill"):
        recent = snapshot.at("recent", phase)
        share, forecast = recent.number("share_of_limit"), recent.number("speed_to_forecast")
        yield Text.assemble(
            f"{phase:<{_LABEL}}{_rate(recent.number('tokens_per_second')):>9}   ",
            *_bar(share, size),
            f"{percent(share):>7}",
            (f"{percent(forecast):>22}", "yellow" if forecast is not None and forecast < _SLOW else ""),
        )
    kv = snapshot.at("kv")
    usage, blocks, used, block_size = map(kv.number, ("usage_ratio", "blocks", "used_blocks", "block_size"))
    room = ""
    if blocks is not None and used is not None and block_size is not None:
        room = f"{_whole(used * block_size)} of {_whole(blocks * block_size)} tokens"
    label = f"{'KV cache':<{_LABEL + 12}}"
    yield Text.assemble(label, *_bar(usage, size, "cyan"), f"{percent(usage):>7}{room:>22}".rstrip())
    hits, preemptions = kv.number("cache_hit_ratio"), kv.number("preemptions")
    said = [] if hits is None else [f"{percent(hits)} of prompt tokens found in it"]
    said += [f"{_count(preemptions)} preemptions"] if preemptions else []
    if said:
        yield Text(f"{'':{_LABEL + 12}}{' · '.join(said)}", "dim")


def _cards(snapshot: Snapshot) -> Iterator[Text]:
    """A line for each GPU: what holds it back stands out."""
    for place, card in enumerate(snapshot.entries("gpus")):
        index, heat = card.number("index"), card.number("temperature_celsius")
        label = f"GPU {_count(place if index is None else index)}"
        watts, limit = card.number("power_watts"), card.number("power_limit_watts")
        used, memory = card.number("used_bytes"), card.number("total_bytes")
        lanes, most = card.number("link_width"), card.number("link_width_max")
        narrow = lanes is not None and most is not None and lanes < most
        reasons = ", ".join(reason.text() for reason in card.entries("throttle_reasons") if reason.text())
        said = [
            Text(card.text("name")[:30]),
            Text("lost" if card.is_true("is_lost") else "", "bold red"),
            Text(f"throttled: {reasons}" if reasons else "", "bold red"),
            Text(f"PCIe x{_count(lanes)} of x{_count(most)}" if narrow else "", "bold red"),
            Text("" if watts is None else f"{watts:.0f} W" if limit is None else f"{watts:.0f} of {limit:.0f} W"),
            Text("" if heat is None else f"{heat:.0f} °C"),
            Text("" if used is None or memory is None else f"{format_bytes(used)} of {format_bytes(memory)}"),
        ]
        yield Text.assemble(f"{label:<{_LABEL}}", Text(" · ").join(text for text in said if text))


def _latency(snapshot: Snapshot) -> Iterator[Text]:
    rows = [
        (name, [snapshot.number("latency", key, quantile) for quantile in ("p50", "p90", "p99")])
        for key, name in _LATENCIES
    ]
    if all(value is None for _, values in rows for value in values):
        return
    yield Text(f"{'latency':<{_LABEL}}" + "".join(f"{name:>10}" for name in ("p50", "p90", "p99")), "dim")
    for name, values in rows:
        yield Text(f"{name:<{_LABEL}}" + "".join(f"{_seconds(value):>10}" for value in values))


def _time(snapshot: Snapshot, width: int) -> Iterator[Text]:
    """A bar of what the seconds of the window went to, and its legend."""
    found = snapshot.numbers("parts")
    seconds = [(max(0.0, found.get(key, 0.0)), name, colour) for key, name, colour in _PARTS]
    whole = sum(value for value, *_ in seconds)
    if not whole:
        return
    yield Text(f"where the time went, the last {duration(whole)}", "dim")
    shown = [(value / whole, name, colour) for value, name, colour in seconds if value]
    bar, legend, names = Text(), [], [name for _, name, _ in _PARTS]
    for (share, name, colour), cells in zip(shown, _cells([share for share, *_ in shown], width), strict=True):
        glyph = _IDLE_GLYPH if name == "idle" else _GLYPHS[names.index(name) % len(_GLYPHS)]
        bar.append(glyph * cells, colour)
        if share >= 0.001:
            legend.append(Text.assemble((glyph, colour), f" {name} {percent(share)}"))
    yield bar
    yield from _flow(legend, "  ", width)


def _why_slow(snapshot: Snapshot, width: int, most: int) -> Iterator[Text]:
    findings = [one for one in snapshot.entries("why_slow") if one.number("gain") is not None and one.text("what")]
    if findings:
        yield Text("why it is no faster, and what a remedy would gain", "dim")
    for finding in findings[:most]:
        share, speeds = finding.number("share"), finding.text("speeds")[:12]
        whole = "of the time" if speeds == "answers" else "of the places"
        of = "" if share is None else f", {percent(share)} {whole}"
        head = f"{finding.number('gain'):>6.3g}x "
        yield Text.assemble((head, "bold"), f"{speeds}: {finding.text('what')}{of}")
        indent = " " * len(head)
        for line in textwrap.wrap(finding.text("remedy"), width, initial_indent=indent, subsequent_indent=indent):
            yield Text(line, "green")


def _money(snapshot: Snapshot, width: int) -> Iterator[Text]:
    price, spent = snapshot.number("price_dollars_per_hour"), snapshot.at("dollars")
    if price is None:
        note = snapshot.text("price_note") or "no price per hour is known"
        indent = " " * _LABEL
        lines = textwrap.wrap(note, width, initial_indent=f"{'dollars':<{_LABEL}}", subsequent_indent=indent)
        yield from (Text(line, "dim") for line in lines)
        return
    dear = spent.number("per_million_output_tokens")
    at_present = "" if dear is None else f" · {dollars(dear)} per million output tokens at present"
    yield Text(f"{'dollars':<{_LABEL}}{dollars(price)} an hour{at_present}")
    if (total := spent.number("total")) is not None:
        parts = f"{dollars(spent.number('requests'))} requests, {dollars(spent.number('idle'))} idle"
        yield Text(f"{'':<{_LABEL}}{dollars(total)} since the start: {parts}")


def _history(snapshot: Snapshot, width: int) -> Iterator[Text]:
    """Each letter the mean of as many entries as it takes to show them all."""
    entries = list(snapshot.entries("history"))
    speeds = [max(0.0, entry.number("output_tokens_per_second") or 0.0) for entry in entries]
    group = max(1, math.ceil(len(speeds) / max(10, width - _LABEL - 16)))
    means = [sum(part) / len(part) for part in (speeds[at : at + group] for at in range(0, len(speeds), group))]
    peak = max(means, default=0.0)
    if len(means) > 1 and peak > 0:
        first, last = entries[0].number("time"), entries[-1].number("time")
        span = "" if first is None or last is None else f", the last {duration(last - first)}"
        yield Text(f"output tokens/s{span}", "dim")
        yield Text(f"{'':<{_LABEL}}{_sparkline(means, peak)} up to {_rate(peak)}")


def _flow(parts: Iterable[Text], gap: str, width: int) -> Iterator[Text]:
    """In as few lines as they fit."""
    line = Text()
    for part in parts:
        if line and line.cell_len + len(gap) + part.cell_len > width:
            yield line
            line = Text()
        line = Text.assemble(line, gap if line else "", part)
    yield line


def _sparkline(values: Iterable[float], peak: float) -> str:
    """A letter each; only nothing is the lowest."""
    steps = len(_SPARKS) - 1
    return "".join(_SPARKS[min(steps, max(value > 0, round(steps * value / peak)))] for value in values)


def _bar(ratio: float | None, size: int, colour: str = "green") -> Iterator[tuple[str, str]]:
    filled = 0 if ratio is None else min(size, max(0, round(size * ratio)))
    yield "█" * filled, colour
    yield "░" * (size - filled), "bright_black"


def _cells(shares: Sequence[float], width: int) -> list[int]:
    """`width` cells divided by the largest remainders, so that the bar is always full."""
    exact = [share * width for share in shares]
    cells = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: cells[place] - exact[place])
    for place in by_remainder[: width - sum(cells)]:
        cells[place] += 1
    return cells


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}" if value < 1e6 else format_count(value)


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value < 1e5 else format_count(value)


def _seconds(value: float | None) -> str:
    return "-" if value is None or value < 0 else format_seconds(value)
