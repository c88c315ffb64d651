"""`farthing hardware`: the catalogue as a list, filtered, or one accelerator in full, every figure with its source.

Knows flags and which accelerators are asked for; cli/hardware_list.py and hardware_card.py know how they look.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from farthing.cli import output
from farthing.cli.hardware_card import print_card
from farthing.cli.hardware_list import print_list
from farthing.errors import UsageError
from farthing.hardware.accelerator import Accelerator, accelerator_ids, load_accelerator, sources
from farthing.hardware.names import matching_ids
from farthing.units import parse_bytes

SCHEMA = "farthing.hardware/1"
_KINDS = ("gpu", "apu", "soc", "asic", "cpu", "vm")  # the order of the list


@dataclass(frozen=True, slots=True)
class HardwareFlags:
    """Which accelerators are shown."""

    vendor: Annotated[str | None, Parameter(help="Of this maker: nvidia, amd, intel, apple ...")] = None
    kind: Annotated[
        Literal["gpu", "apu", "soc", "asic", "cpu", "vm"] | None, Parameter(help="Of this kind: gpu, asic, cpu ...")
    ] = None
    min_memory: Annotated[str | None, Parameter(help="With at least so much memory: 40GiB.")] = None
    sale: Annotated[
        Literal["sold", "rented", "modified", "not-sold"] | None,
        Parameter(help="How it is to be had; rented: only so; modified: rebuilt, no maker's warranty."),
    ] = None
    engine: Annotated[str | None, Parameter(help="On which this engine runs: farthing, vllm, llama.cpp ...")] = None
    json: Annotated[bool, Parameter(help="Print them in full as one JSON object.")] = False


_DEFAULTS = HardwareFlags()


def hardware(
    *names: Annotated[str, Parameter(name="NAME", help="An id or what people call it; h100 shows all its variants.")],
    flags: Annotated[HardwareFlags, Parameter(name="*")] = _DEFAULTS,
) -> None:
    """List accelerators, or show one in full."""
    ids = dict.fromkeys(id for name in names for id in matching_ids(name)) if names else accelerator_ids()
    found = _select(map(load_accelerator, ids), flags)
    if flags.json:
        output.print_json(to_json_object(found))
    elif not found:
        output.stderr.print("no accelerator of the catalogue is like that")
    elif names and len(found) == 1:
        print_card(found[0])
    else:
        print_list(found)


def _select(accelerators: Iterable[Accelerator], flags: HardwareFlags) -> list[Accelerator]:
    """Those that the flags ask for, by kind and maker."""
    vendor = _known("--vendor", flags.vendor, lambda one: (one.vendor,))
    engine = _known("--engine", flags.engine, lambda one: one.engines)
    least = _size(flags.min_memory)
    found = [
        one
        for one in accelerators
        if vendor in (None, one.vendor)
        and flags.kind in (None, one.kind)
        and flags.sale in (None, one.sale)
        and (engine is None or engine in one.engines)
        and (one.memory_bytes or 0) >= least
    ]
    return sorted(found, key=lambda one: (_KINDS.index(one.kind), one.vendor, one.id))


def _known(flag: str, asked: str | None, words_of: Callable[[Accelerator], Iterable[str]]) -> str | None:
    """What is asked for as the catalogue writes it. UsageError if nothing in the catalogue has it."""
    if asked is None:
        return None
    known = {word for id in accelerator_ids() for word in words_of(load_accelerator(id))}
    if asked.lower() not in known:
        raise UsageError(f"{flag} {asked!r:.40} is not in the catalogue", fix=f"say one of {', '.join(sorted(known))}")
    return asked.lower()


def _size(text: str | None) -> int:
    try:
        return 0 if text is None else parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"--min-memory: {error}", fix="say for example --min-memory 40GiB") from None


def to_json_object(accelerators: Sequence[Accelerator]) -> dict[str, Any]:
    """Everything that the catalogue says of them, and the sources that they name. What is not known is null."""
    entries = [_entry(accelerator) for accelerator in accelerators]
    named = set(_named_sources(entries))
    return {
        "schema": SCHEMA,
        "accelerators": entries,
        "sources": {key: asdict(source) for key, source in sources().items() if key in named},
    }


def _entry(accelerator: Accelerator) -> dict[str, Any]:
    return {
        **asdict(accelerator),
        "unsupported_dtypes": sorted(accelerator.unsupported_dtypes),
        "plan_only": accelerator.plan_only,
        "memory_bytes": accelerator.memory_bytes,
    }


def _named_sources(value: Any) -> list[str]:
    """Every key that stands in some `sources` or `engines_sources`."""
    if isinstance(value, Mapping):
        here = [key for name in ("sources", "engines_sources") for key in value.get(name, ())]
        return here + [key for inner in value.values() for key in _named_sources(inner)]
    if isinstance(value, (list, tuple)):
        return [key for inner in value for key in _named_sources(inner)]
    return []
