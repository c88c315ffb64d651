"""What prices rest on, resolved: the user's flags, then the file that --prices names, then dated defaults.

`PriceBook` has a number for everything and a note on where it is from. Knows no offer and no machine: owning.py and
price.py put the two together.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from farthing.errors import UsageError
from farthing.hardware.accelerator import accelerator_ids
from farthing.planner.money.api_price import ApiPrice, parse_api_price
from farthing.planner.money.currency import Currency, find_currency
from farthing.planner.money.market import Market, find_market
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_data import owning_figures
from farthing.planner.money.tariff import Tariff, parse_tariff

_MAX_BYTES = 2**20
_MAX_DOLLARS = 1e7
_DEVICE_KEYS = ("price", "rental", "watts")
_FIX = "see the example in docs/prices.md"


@dataclass(frozen=True, slots=True)
class DevicePrices:
    """What the user says of one accelerator: dollars to buy one, dollars per hour to rent one, watts at the wall."""

    price: float | None = None
    rental: float | None = None
    watts: float | None = None


@dataclass(frozen=True, slots=True)
class PriceBook:
    """`said`: what the user said, flags and file together; `devices`: the user's own prices by accelerator id.

    `space`: dollars per kW and month. `notes`: where each number that nobody said is from, by name.
    """

    said: PriceAssumptions
    devices: Mapping[str, DevicePrices]
    market: Market
    currency: Currency
    years: float
    pue: float
    utilisation: float
    idle_power: float
    tariff: Tariff
    space: float
    api: ApiPrice | None
    notes: Mapping[str, str]

    @property
    def way(self) -> str:
        return self.said.way


def price_book(assumptions: PriceAssumptions | None = None) -> PriceBook:
    """UsageError for a file that can't be read or says what can't be."""
    asked = assumptions or PriceAssumptions()
    devices: Mapping[str, DevicePrices] = {}
    if asked.prices is not None:
        asked, devices = _with_file(asked, asked.prices)
    figures, market = owning_figures(), find_market(asked.market or "us")
    notes: dict[str, str] = {}

    def number(name: str, value: float | None) -> float:
        if value is None:
            value = figures[name].value
            notes[name] = f"--{name} {value:g} ({figures[name].origin})"
        return value

    if asked.electricity is not None:
        tariff = parse_tariff(asked.electricity)
    else:
        tariff = Tariff.flat(market.electricity_dollars)
        notes["electricity"] = f"electricity in {market.name} {tariff.text} ({market.electricity.origin})"
    return PriceBook(
        said=asked,
        devices=MappingProxyType(dict(devices)),
        market=market,
        currency=find_currency(asked.currency or "USD", asked.exchange_rate),
        years=number("years", asked.years),
        pue=number("pue", asked.pue),
        utilisation=number("utilisation", asked.utilisation),
        idle_power=figures["idle_power"].value,
        tariff=tariff,
        space=asked.space or 0.0,
        api=None if asked.against is None else parse_api_price(asked.against),
        notes=MappingProxyType(notes),
    )


def _with_file(asked: PriceAssumptions, name: str) -> tuple[PriceAssumptions, Mapping[str, DevicePrices]]:
    """Flags go before the file."""
    content = _read(name)
    devices = _devices(name, content.pop("devices", {}))
    default = PriceAssumptions()
    kept = {field.name: field for field in fields(PriceAssumptions) if field.name != "prices"}
    found: dict[str, Any] = {}
    for key, value in content.items():
        if key not in kept:
            raise UsageError(f"{name} has the unknown key {key!r:.60}", fix=f"known: {', '.join(kept)}, devices")
        found[key] = _electricity(name, value) if key == "electricity" else value
        if key != "electricity" and not _fits(value, kept[key].type):
            raise UsageError(f"{name} has {key} = {value!r:.60}, which is of the wrong kind", fix=_FIX)
    said = {key: getattr(asked, key) for key in kept if getattr(asked, key) != getattr(default, key)}
    if "buy" in said or "rent" in said:
        found |= {"buy": False, "rent": False}
    try:
        return replace(asked, **{**found, **said}), devices
    except UsageError as error:
        raise UsageError(f"{name}: {error.what}", fix=error.fix) from None


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of the file is of a field's type; whole numbers are numbers, true is none."""
    if kind == (float | None):
        return type(value) in (int, float)
    return value is not None and isinstance(value, kind)


def _read(name: str) -> dict[str, Any]:
    try:
        with Path(name).expanduser().open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise UsageError(f"{name} has over {_MAX_BYTES:,} bytes", fix="name a file of prices")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise UsageError(f"--prices {name} can't be read: {error.strerror}", fix="name a TOML file") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"--prices {name} is no TOML: {error}", fix="correct the line") from None


def _electricity(name: str, value: Any) -> str:
    """A number, a text as of the flag, or a table "0-7" = 0.05."""
    if isinstance(value, dict):
        return ",".join(f"{span}:{price}" for span, price in value.items())
    if type(value) in (int, float, str):
        return str(value)
    raise UsageError(f"{name} has electricity = {value!r:.60}", fix='write electricity = 0.12, or { "0-24" = 0.12 }')


def _devices(name: str, table: Any) -> Mapping[str, DevicePrices]:
    if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
        raise UsageError(f"{name}: devices is not a table of tables", fix="write [devices.rtx-4090]")
    for id, entry in table.items():
        if id not in accelerator_ids():
            raise UsageError(f"{name} prices {id!r:.60}, which is not in the catalogue", fix="farthing hardware")
        for key, value in entry.items():
            if key not in _DEVICE_KEYS:
                raise UsageError(f"{name} has the unknown key {id}.{key!s:.40}", fix=f"use {', '.join(_DEVICE_KEYS)}")
            if type(value) not in (int, float) or not (math.isfinite(value) and 0 <= value <= _MAX_DOLLARS):
                raise UsageError(f"{name} has {id}.{key} = {value!r:.40}", fix="a number from 0 up")
    return {id: DevicePrices(**entry) for id, entry in table.items()}
