"""Engines as data: what each schedules, keeps for itself and reaches of the hardware. A file of planner/engines is one.

The file's name is its registration. Facts (limits, memory) stand in `<engine>.toml`; constants that
scripts/fit_forecasts.py fitted to published measurements stand in `fitted.toml`, as a base for each engine and factors
for the classes of devices and of formats. What an engine was never measured on is taken from the generic profile.
Knows no model and no seconds.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from farthing.errors import UsageError
from farthing.planner.engines.engine_memory import MemoryRule
from farthing.planner.timing.efficiency import Efficiency, LinkEfficiency

GENERIC = "generic"
LONG_CONTEXT = 32_768
_FOLDER = Path(__file__).parent
_FITTED = _FOLDER / "fitted.toml"
_MOST_SHARE = 0.98
_SHARES = ("weights", "kv", "gemm", "attention")
_VERSION = re.compile(r"(?<![\d.])(\d)\.(\d+)")
_DATE = re.compile(r"20\d\d(?:-\d\d)?")

Factors = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """Of ten measurements, eight lie between `low` and `high` times the forecast."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class EngineProfile:
    """`max_num_seqs`: of one replica; `max_batch_tokens`: of one step, in whose chunks prompts are computed.

    `mixes_phases`: whether prompts are computed in the steps of others' answers. `long_context_batch_tokens`: tokens of
    one step, prompts and answers mixed, of models of more than LONG_CONTEXT positions, where that is another number.
    `lockstep`: of the other requests of a closed loop, the share whose prompts come before one's own first token.
    `prompt_share`: of the prompt tokens of a load, those that no prefix cache held where the engine was measured.
    `stage_overlap`: how much of a prompt's chunks follow each other through the stages of a pipeline, 0 to 1.
    `like`: the profile whose constants stand where this one was never measured.
    `accumulates_in_16`: whether 16-bit products sum in 16 bits where that is faster.
    """

    name: str
    names: tuple[str, ...]
    what: str
    max_num_seqs: int
    max_batch_tokens: int
    mixes_phases: bool
    stage_overlap: float
    accumulates_in_16: bool
    lockstep: float
    prompt_share: float
    reserved_answer: float
    memory: MemoryRule
    base: Factors
    by_class: Mapping[str, Factors]
    by_format: Mapping[str, Factors]
    links: Mapping[str, LinkEfficiency]
    intervals: Mapping[str, Interval]
    caches_prefixes: bool = False
    like: str = GENERIC
    long_context_batch_tokens: int | None = None
    before_version: tuple[int, int] | None = None
    before_date: str | None = None

    def efficiency(self, device_class: str, format_class: str) -> Efficiency:
        """On this class of devices, with weights in this class of formats."""
        factors = (self.by_class.get(device_class, {}), self.by_format.get(format_class, {}))
        values = {}
        for field in fields(Efficiency):
            value = self.base[field.name]
            for factor in factors:
                value *= factor.get(field.name, 1.0)
            values[field.name] = min(value, _MOST_SHARE) if field.name in _SHARES else value
        return Efficiency(**values)

    def link(self, link_class: str) -> LinkEfficiency:
        return self.links[link_class]

    def interval(self, metric: str) -> Interval:
        return self.intervals.get(metric) or self.intervals["any"]


@cache
def engine_names() -> tuple[str, ...]:
    """Every profile: the names of the files. Opens none of them."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml") if path != _FITTED))


@cache
def find_engine(name: str) -> EngineProfile:
    """The profile of this name. UsageError names the nearest."""
    wanted = name.strip().lower()
    if wanted in engine_names():
        return _profile(wanted, _fitted())
    near = difflib.get_close_matches(wanted, engine_names(), n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise UsageError(f"there is no engine profile {name!r:.40}", fix=f"{hint}there are {', '.join(engine_names())}")


@cache
def engine_of(name: str, version: str = "") -> tuple[EngineProfile, bool]:
    """The profile of what a table calls an engine, and whether it has one of its own; else the generic one."""
    wanted = name.strip().lower()
    for profile in _with_limits_first():
        if wanted in profile.names and _is_before(version, profile):
            return profile, True
    return find_engine(GENERIC), False


def _with_limits_first() -> list[EngineProfile]:
    """Profiles of old versions go before those of any."""
    profiles = [find_engine(name) for name in engine_names()]
    return sorted(profiles, key=lambda one: one.before_version is None)


def _is_before(version: str, profile: EngineProfile) -> bool:
    """Whether a version is one that a profile is for; a version that says nothing is the newest."""
    if profile.before_version is None:
        return True
    if number := _VERSION.search(version):
        return (int(number[1]), int(number[2])) < profile.before_version
    date = _DATE.search(version)
    return date is not None and profile.before_date is not None and date[0] < profile.before_date


@cache
def _fitted() -> Mapping[str, Any]:
    return tomllib.loads(_FITTED.read_text(encoding="utf-8"))


def profile_of(name: str, fitted: Mapping[str, Any]) -> EngineProfile:
    """The profile with other fitted constants than those of the package: what a fit tries."""
    return _profile(name, fitted)


def _profile(name: str, fitted: Mapping[str, Any]) -> EngineProfile:
    facts = tomllib.loads((_FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    engines = fitted["engines"]
    parents = [engines[GENERIC], engines.get(facts.get("like", GENERIC), {}), engines.get(name, {})]

    def merged(key: str) -> dict[str, Any]:
        return {inner: value for parent in parents for inner, value in parent.get(key, {}).items()}

    before = facts.get("before_version")
    return EngineProfile(
        name=name,
        names=tuple(facts["names"]),
        what=facts["what"],
        max_num_seqs=facts["max_num_seqs"],
        max_batch_tokens=facts["max_batch_tokens"],
        mixes_phases=facts["mixes_phases"],
        stage_overlap=facts["stage_overlap"],
        accumulates_in_16=facts["accumulates_in_16"],
        lockstep=next(one["lockstep"] for one in reversed(parents) if "lockstep" in one),
        prompt_share=next((one["prompt_share"] for one in reversed(parents) if "prompt_share" in one), 1.0),
        reserved_answer=facts["reserved_answer"],
        memory=MemoryRule(**facts["memory"]),
        base=merged("base"),
        by_class=merged("classes"),
        by_format=merged("formats"),
        links={key: LinkEfficiency(**value) for key, value in merged("links").items()},
        intervals={key: Interval(*value) for key, value in merged("intervals").items()},
        caches_prefixes=facts["caches_prefixes"],
        like=facts.get("like", GENERIC),
        long_context_batch_tokens=facts.get("long_context_batch_tokens"),
        before_version=(before[0], before[1]) if before else None,
        before_date=facts.get("before_date"),
    )
