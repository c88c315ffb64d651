"""One accelerator in full: every figure with its unit, how it is known, its sources and its note, then the sources.

Knows no flag. What is not known says "unknown", and why where the catalogue says so.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from farthing.cli import output
from farthing.cli.hardware_list import UNKNOWN, marks, money
from farthing.hardware.accelerator import DTYPES, Accelerator, Price, sources
from farthing.hardware.figure import Figure
from farthing.units import format_bytes

_KNOWN = (
    "vendor: the maker's document · via: the maker's figure as the source prints it · third: a database · "
    "derived: arithmetic · inferred: likely, check it first · measured: somebody ran it"
)


@dataclass(frozen=True, slots=True)
class _Row:
    label: str
    value: str
    known: str = ""
    sources: tuple[str, ...] = ()
    note: str = ""


def print_card(one: Accelerator) -> None:
    """The whole entry, to stdout."""
    sections = {
        f"{one.id} · {one.name} · {one.vendor} {one.kind} · {marks(one) or one.sale}": list(_what_it_is(one)),
        "memory": list(_memory(one)),
        "dense rates": list(_rates(one)),
        "links, each direction": list(_links(one)),
        "prices to own": list(_prices(one.prices)),
        "rent per hour": list(_prices(one.rentals)),
        "measured": list(_measured(one)),
    }
    rows = [row for section in sections.values() for row in section]
    label_width = max(len(row.label) for row in rows)
    value_width = max(len(row.value) for row in rows)
    for title, section in sections.items():
        _print(title)
        for row in section or [_Row(UNKNOWN, "")]:
            named = f"[{', '.join(row.sources)}]" if row.sources else ""
            cells = (row.label.ljust(label_width), row.value.ljust(value_width), row.known.ljust(8), named, row.note)
            _print("  " + "  ".join(cells).rstrip(), indent=label_width + value_width + 16)
        _print("")
    for text in (*one.notes, *(f"see {address}" for address in one.vendor_docs)):
        _print(f"note: {text}", indent=6)
    _print_sources(dict.fromkeys(key for row in rows for key in row.sources))


def _print(line: str, indent: int = 0) -> None:
    """A line; in a terminal, what does not fit goes on under itself."""
    if output.stdout.is_terminal and len(line) > output.stdout.width:
        room = output.stdout.width
        margin = " " * (indent if indent < room // 2 else 6)
        line = textwrap.fill(line, room, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False)
    output.stdout.print(line, soft_wrap=True)


def _print_sources(keys: Iterable[str]) -> None:
    _print("sources")
    for key in keys:
        source = sources().get(key)
        if source is not None:  # else it is an address itself
            address = source.url or "no address"
            told = " · ".join(text for text in (source.date, f"trust {source.trust}" if source.trust else None) if text)
            _print(f"  {key}  {address}  {source.what} ({told})", indent=4)
    _print(f"\n{_KNOWN}")


def _row(
    one: Accelerator, label: str, field: str, figure: Figure[Any] | None, show: Callable[[Any], str] = str
) -> _Row:
    """`show`: how the value looks; `field`: where the catalogue keeps why it is not known."""
    if figure is None:
        return _Row(label, UNKNOWN, note=one.unknown.get(field, ""))
    note = " · ".join(part for part in (figure.date, figure.note) if part)
    return _Row(label, show(figure.value), figure.known or "", figure.sources, note)


def _what_it_is(one: Accelerator) -> Iterator[_Row]:
    yield _Row("engines", ", ".join(one.engines) or UNKNOWN, "", one.engines_sources)
    yield _row(one, "launched", "launch_year", one.launch_year)
    yield _row(one, "power", "tdp_watts", one.tdp_watts, lambda watts: f"{watts:g} W")
    yield _row(one, "export to China", "export_china", one.export_china)


def _memory(one: Accelerator) -> Iterator[_Row]:
    yield _Row("type", one.memory_type or UNKNOWN)
    yield _row(one, "on the label", "nominal_bytes", one.nominal_bytes, _bytes)
    yield _row(one, "usable", "usable_bytes", one.usable_bytes, _bytes)
    yield _row(one, "bandwidth", "bandwidth", one.bandwidth, _giga)
    yield _row(one, "L2 cache", "l2_bytes", one.l2_bytes, _bytes)
    yield _row(one, "ECC", "ecc", one.ecc, lambda has_it: "yes" if has_it else "no")


def _rates(one: Accelerator) -> Iterator[_Row]:
    for dtype in DTYPES:
        if dtype in one.flops:
            yield _row(one, dtype, dtype, one.flops[dtype], _tera_ops if dtype.startswith("int") else _tera_flops)
        elif dtype in one.unsupported_dtypes:
            yield _Row(dtype, "no fast path")
        else:
            yield _row(one, dtype, dtype, None)


def _links(one: Accelerator) -> Iterator[_Row]:
    for label, field, link in (("between devices", "scale_up", one.scale_up), ("to the host", "host", one.host)):
        rate = link.bytes_per_second
        if rate is None:
            unknown = "" if link.kind == "none" else f" {UNKNOWN} rate"
            yield _Row(label, f"{link.kind}{unknown}", note=link.note or "")
        else:
            yield replace(_row(one, label, field, rate), value=f"{link.kind} {_giga(rate.value)}")
    yield _row(one, "P2P", "p2p", one.p2p)


def _prices(prices: Iterable[Price]) -> Iterator[_Row]:
    for price in sorted(prices, key=lambda price: price.date, reverse=True):
        market = "" if price.market == UNKNOWN else f" {price.market}"
        yield _Row(price.date, f"{money(price)}{market}", "", price.sources, price.note or "")


def _measured(one: Accelerator) -> Iterator[_Row]:
    for key, found in one.measured.items():
        share = "" if found.fraction_of_peak is None else f" = {found.fraction_of_peak:.1%} of nominal"
        yield _Row(key, _measured_value(key, found.value) + share, "", found.sources, found.note or "")
    for key, why in one.unknown.items():
        if key not in DTYPES and not hasattr(one, key):  # no field of an accelerator: looked for among measurements
            yield _Row(key, UNKNOWN, note=why)


def _measured_value(key: str, value: float) -> str:
    """The unit stands in the key, where it is not FLOP/s or bytes/s."""
    if "_us" in key:
        return f"{value:g} us"
    if "_kw_" in key or key.endswith("_w"):
        return f"{value:,g} {'kW' if '_kw_' in key else 'W'}"
    return _tera_flops(value) if key.startswith("matmul") else _giga(value)


def _bytes(value: int) -> str:
    return f"{format_bytes(value)} ({value:,} B)"


def _giga(value: float) -> str:
    return f"{value / 1e9:,.6g} GB/s"


def _tera_flops(value: float) -> str:
    return f"{value / 1e12:,.6g} TFLOP/s"


def _tera_ops(value: float) -> str:
    return f"{value / 1e12:,.6g} TOP/s"
