"""An accelerator of the catalogue: what it has, does, links and costs, each figure with its source.

One file of hardware/catalog is one accelerator and its name is the id: dropped in, it is there. What is not known is
absent and stays unknown. Format: hardware/catalog/README.md. Knows neither this machine nor its measured limits
(hardware/calibration.py), nor the loose names that people use (hardware/names.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from farthing.errors import UsageError
from farthing.hardware.figure import Figure, Source, TomlTable, read_toml, sources

__all__ = [
    "Accelerator", "Figure", "Link", "Measured", "Price", "Source", "accelerator_ids", "load_accelerator", "sources",
]  # fmt: skip

CATALOG = Path(__file__).with_name("catalog")
KINDS = ("gpu", "asic", "apu", "soc", "cpu", "vm")
SALES = ("sold", "rented", "modified", "not-sold")
MARKETS = ("list", "retail", "new", "used", "marketplace", "cloud", "spot", "estimate", "unknown")
DTYPES = ("fp32", "tf32", "fp16", "fp16_acc16", "bf16", "fp8", "fp8_acc16", "int8", "int4", "fp4")
OWN_ENGINE = "farthing"


@dataclass(frozen=True, slots=True)
class Price:
    """What one device was offered at: to own, or for an hour. `market` is a word of MARKETS; an "estimate" is no offer.

    `date`: a year, a month or a day.
    """

    value: float
    currency: str
    market: str
    date: str
    sources: tuple[str, ...]
    note: str | None = None
    of: str | None = None  # another variant that it is the price of


@dataclass(frozen=True, slots=True)
class Link:
    """A way out of one device; `bytes_per_second` in one direction. `kind` "none": there is no such link."""

    kind: str
    bytes_per_second: Figure[float] | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What somebody measured, and its part of the dense peak or the nominal bandwidth (above 1 where cards boost)."""

    value: float
    fraction_of_peak: float | None
    sources: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """One device. Bytes, bytes/s, dense operations/s (a fused multiply-add is 2), watts; None is "unknown".

    `sale`: "sold", "rented" (only), "modified" (rebuilt by others, no maker's warranty) or "not-sold". `engines`: what
    runs on it. `bandwidth`: of the memory. `flops`: by dtype of DTYPES, sums in fp32 unless `_acc16`; a dtype neither
    there nor in `unsupported_dtypes` is unknown. `prices`: to own; `rentals`: per hour. `unknown`: why a figure is not
    there, where that is said.
    """

    id: str
    name: str
    vendor: str
    kind: str
    sale: str
    engines: tuple[str, ...]
    engines_sources: tuple[str, ...]
    launch_year: Figure[int] | None
    nominal_bytes: Figure[int] | None
    usable_bytes: Figure[int] | None
    memory_type: str | None
    bandwidth: Figure[float] | None
    ecc: Figure[bool] | None
    flops: Mapping[str, Figure[float]] = field(hash=False)
    unsupported_dtypes: frozenset[str]
    l2_bytes: Figure[int] | None
    scale_up: Link
    host: Link
    p2p: Figure[str] | None
    tdp_watts: Figure[float] | None
    export_china: Figure[str] | None
    prices: tuple[Price, ...]
    rentals: tuple[Price, ...]
    measured: Mapping[str, Measured] = field(hash=False)
    vendor_docs: tuple[str, ...]
    notes: tuple[str, ...]
    unknown: Mapping[str, str] = field(hash=False)
    dies: int = 1  # devices that programs see, of which the figures are the sum

    @property
    def plan_only(self) -> bool:
        """Farthing's own engine does not run on it."""
        return OWN_ENGINE not in self.engines

    @property
    def memory_bytes(self) -> int | None:
        """What the driver reports as usable, else the nominal size."""
        figure = self.usable_bytes or self.nominal_bytes
        return None if figure is None else figure.value


def accelerator_ids(folder: Path = CATALOG) -> tuple[str, ...]:
    """Every id, sorted: the names of the files. Opens none of them."""
    return tuple(sorted(path.stem for path in folder.glob("*.toml")))


@cache
def load_accelerator(id: str, folder: Path = CATALOG) -> Accelerator:
    """The accelerator of this id. UsageError if there is none, FarthingError if its file says what can't be."""
    if id not in accelerator_ids(folder):
        raise UsageError(f"the catalogue has no {id!r:.60}", fix="farthing hardware lists it")
    table = read_toml(folder / f"{id}.toml")
    accelerator = Accelerator(
        id=id,
        name=table.text("name"),
        vendor=table.text("vendor"),
        kind=table.text("kind", KINDS),
        sale=table.text("sale", SALES),
        engines=table.texts("engines"),
        engines_sources=table.sources("engines_sources") if "engines_sources" in table else (),
        launch_year=table.whole("launch_year"),
        nominal_bytes=table.whole("nominal_bytes"),
        usable_bytes=table.whole("usable_bytes"),
        memory_type=table.optional_text("memory_type"),
        bandwidth=table.number("bandwidth"),
        ecc=table.flag("ecc"),
        flops=_flops(table),
        unsupported_dtypes=_dtypes(table, "unsupported_dtypes"),
        l2_bytes=table.whole("l2_bytes"),
        scale_up=_link(table, "scale_up"),
        host=_link(table, "host"),
        p2p=table.words("p2p"),
        tdp_watts=table.number("tdp_watts"),
        export_china=table.words("export_china"),
        prices=_prices(table, "prices"),
        rentals=_prices(table, "rentals"),
        measured=_measured(table),
        vendor_docs=table.texts("vendor_docs"),
        notes=table.texts("notes"),
        unknown=_unknown(table),
        dies=table.count("dies"),
    )
    table.close()
    return accelerator


def _flops(table: TomlTable) -> Mapping[str, Figure[float]]:
    rates = table.table("flops")
    figures = {dtype: figure for dtype in DTYPES if (figure := rates.number(dtype)) is not None}
    rates.close()
    return figures


def _dtypes(table: TomlTable, key: str) -> frozenset[str]:
    names = table.texts(key)
    for name in names:
        if name not in DTYPES:
            raise table.mistake(key, f"has {name!r:.30}, not one of {', '.join(DTYPES)}")
    return frozenset(names)


def _link(table: TomlTable, key: str) -> Link:
    entry = table.table(key)
    link = Link(entry.text("kind"), entry.number("bytes_per_second"), entry.optional_text("note"))
    entry.close()
    return link


def _prices(table: TomlTable, key: str) -> tuple[Price, ...]:
    prices = []
    for entry in table.tables(key):
        prices.append(
            Price(
                value=entry.positive("value"),
                currency=entry.text("currency"),
                market=entry.text("market", MARKETS),
                date=entry.date("date"),
                sources=entry.sources(),
                note=entry.optional_text("note"),
                of=entry.optional_text("of"),
            )
        )
        entry.close()
    return tuple(prices)


def _measured(table: TomlTable) -> Mapping[str, Measured]:
    entries = table.table("measured")
    found: dict[str, Measured] = {}
    for key in entries:
        entry = entries.table(key)
        found[key] = Measured(
            value=entry.positive("value"),
            fraction_of_peak=entry.fraction("fraction_of_peak"),
            sources=entry.sources(),
            note=entry.optional_text("note"),
        )
        entry.close()
    return found


def _unknown(table: TomlTable) -> Mapping[str, str]:
    entries = table.table("unknown")
    return {key: entries.text(key) for key in entries}
