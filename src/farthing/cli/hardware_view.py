"""How accelerators look in a terminal: a line each, in as many columns as fit, or one in full with every source.

Knows no flag. What is not known says "unknown".
"""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from farthing.cli import output
from farthing.hardware.accelerator import DTYPES, Accelerator, Link, Price, sources
from farthing.hardware.figure import Figure
from farthing.units import format_bytes, format_count

_UNKNOWN = "unknown"
_GAP = "  "
_CURRENCIES = {"USD": "$", "CNY": "¥"}
_KNOWN = (
    "known: vendor the maker's document · via the maker's figure as the source prints it · third a database · "
    "derived arithmetic · inferred likely, check it · measured somebody ran it"
)


@dataclass(frozen=True, slots=True)
class _Column:
    """`rank`: the narrower the terminal, the lower it must be for the column to stay."""

    title: str
    texts: tuple[str, ...]
    rank: int

    @property
    def width(self) -> int:
        return max(len(text) for text in (self.title, *self.texts))


def print_list(accelerators: Sequence[Accelerator]) -> None:
    """A line each. A column that does not fit the terminal is left out, the least important first."""
    columns = [
        _column("id", 0, (one.id for one in accelerators)),
        _column("memory", 1, (_memory(one) for one in accelerators)),
        _column("bandwidth", 2, (_rate(one.bandwidth, "B/s") for one in accelerators)),
        _column("bf16/fp16", 3, (_rate(one.flops.get("bf16") or one.flops.get("fp16")) for one in accelerators)),
        _column("fp8", 8, (_dtype_rate(one, "fp8") for one in accelerators)),
        _column("power", 7, (_watts(one) for one in accelerators)),
        _column("link", 9, (_short_link(one) for one in accelerators)),
        _column("to own", 6, (_newest(one.prices) for one in accelerators)),
        _column("per hour", 5, (_range(one.rentals) for one in accelerators)),
        _column("", 4, (_marks(one) for one in accelerators)),
    ]
    width = _terminal_width()
    while len(columns) > 1 and width is not None and sum(column.width + len(_GAP) for column in columns) > width:
        columns.remove(max(columns, key=lambda column: column.rank))
    for cells in zip(*((column.title, *column.texts) for column in columns), strict=True):
        line = _GAP.join(cell.ljust(column.width) for cell, column in zip(cells, columns, strict=True))
        output.stdout.print(line.rstrip(), soft_wrap=True)
    output.stderr.print("dense rates; to own: the newest price; one in full, with sources: farthing hardware NAME")


def print_in_full(one: Accelerator) -> None:
    """Every figure with its unit, how it is known, its sources and its note, then the sources themselves."""
    engines = ", ".join(one.engines) or "no engine that is known"
    _line(f"{one.id} · {one.name} · {one.vendor} {one.kind} · {_marks(one) or one.sale}")
    _line(f"runs on it: {engines}{_bracketed(one.engines_sources)}")
    _line(f"launched: {one.launch_year.value if one.launch_year else _UNKNOWN}")
    _title("memory")
    _figure("on the label", one.nominal_bytes, one.unknown.get("nominal_bytes"), "B")
    _figure("usable", one.usable_bytes, one.unknown.get("usable_bytes"), "B")
    _figure("type", Figure(one.memory_type, ()) if one.memory_type else None, None)
    _figure("bandwidth", one.bandwidth, one.unknown.get("bandwidth"), "B/s")
    _figure("L2 cache", one.l2_bytes, one.unknown.get("l2_bytes"), "B")
    _figure("ECC", one.ecc, one.unknown.get("ecc"))
    _title("dense rates")
    for dtype in DTYPES:
        if dtype in one.unsupported_dtypes:
            _row(dtype, "no fast path", "", (), None)
        else:
            _figure(dtype, one.flops.get(dtype), one.unknown.get(dtype), "OP/s" if "int" in dtype else "FLOP/s")
    _title("links, each direction")
    for label, link in (("between devices", one.scale_up), ("to the host", one.host)):
        _link(label, link)
    _figure("P2P", one.p2p, one.unknown.get("p2p"))
    _title("power and export")
    _figure("power", one.tdp_watts, one.unknown.get("tdp_watts"), "W")
    _figure("export to China", one.export_china, None)
    _prices("prices to own", one.prices)
    _prices("rent per hour", one.rentals)
    _measured(one)
    _title("notes", one.notes + one.vendor_docs)
    for text in (*one.notes, *one.vendor_docs):
        _line(f"  {text}", indent=4)
    _sources(one)
