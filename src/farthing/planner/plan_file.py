"""The plan file: what a plan was asked and what it answered, as TOML that run and plan take in place of MODEL.

Formats and layout stand in it resolved, so that what was planned is what runs. An edited file is checked like flags.
Knows no terminal.
"""

import json
import os
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from farthing.errors import FarthingError, UnsupportedError, UsageError
from farthing.planner.plan import Plan
from farthing.planner.request import PlanRequest

SCHEMA = "farthing.plan-file/1"
_MAX_BYTES = 2**20
_ENGINE_OPTIONS = ("format", "kv_format", "context", "memory", "max_num_seqs", "max_batch_tokens", "block_size")


@dataclass(frozen=True, slots=True)
class PlanFile:
    """`model` as the user named it, and the request, with formats, layout, lengths and context resolved."""

    model: str
    request: PlanRequest

    def for_other_hardware(self) -> PlanRequest:
        """The request without what was resolved for, or said of, the old hardware."""
        return replace(
            self.request,
            format="auto",
            kv_format="auto",
            tp=None,
            pp=None,
            replicas=None,
            memory="auto",
            p2p=None,
            price_per_hour=None,
        )

    def engine_options(self) -> dict[str, Any]:
        """What the engine takes of the plan. UnsupportedError if it is for more than one device."""
        request = self.request
        if (request.tp or 1) * (request.pp or 1) * (request.replicas or 1) > 1:
            raise UnsupportedError(
                f"the plan is for tp {request.tp}, pp {request.pp}, replicas {request.replicas}; "
                "the engine runs on one device yet",
                fix="plan for one device: --on with a count of 1",
            )
        return {name: getattr(request, name) for name in _ENGINE_OPTIONS}


def is_plan_file(name: str) -> bool:
    return name.endswith(".toml")


def save_plan(plan: Plan, model: str, path: Path) -> None:
    """Written whole or not at all. Only of a plan that has choices."""
    assert plan.choices
    layout, precision, speed = plan.placement.layout, plan.spec.precision, plan.best.speed
    kv_format = {"fp8_e4m3": "fp8"}.get(precision.kv_dtype, precision.kv_dtype)
    resolved = replace(
        plan.request,
        format=precision.format.name,
        kv_format=kv_format,
        tp=layout.tp,
        pp=layout.pp,
        replicas=layout.replicas,
        context=plan.placement.context,
    )
    forecast = {
        "prefill_seconds": speed.prefill.seconds,
        "tpot_seconds": speed.decode.seconds,
        "output_tokens_per_second": speed.output_tokens_per_second,
        "kv_tokens": plan.placement.kv_tokens,
        "dollars_per_hour": plan.price.dollars_per_hour,
        "dollars_per_million_output_tokens": plan.price.per_million_tokens(speed.output_tokens_per_second),
    }
    lines = [
        "# A plan of Farthing, for farthing run FILE and farthing plan FILE. Flags go before what stands here.",
        f"schema = {_toml(SCHEMA)}",
        f"model = {_toml(model)}",
        "",
        "[request]",
        *_toml_lines(asdict(resolved)),
        "",
        "# What was expected when this was planned.",
        "[forecast]",
        *_toml_lines(forecast),
    ]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except (OSError, UnicodeEncodeError) as error:
        unfinished.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else "the path of the model is no Unicode"
        raise FarthingError(f"{path} can't be written: {reason}", fix="name a file in a writable folder") from None


def _toml_lines(table: dict[str, Any]) -> list[str]:
    """Text, numbers and switches as TOML; what is not known or not said is left out."""
    return [f"{key} = {_toml(value)}" for key, value in table.items() if value is not None]


def _toml(value: object) -> str:
    """JSON, but for the one control character that JSON writes as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def load_plan_file(name: str) -> PlanFile:
    """FarthingError, naming file and key, for anything that is not what `save_plan` writes."""
    path = Path(os.path.expanduser(name))
    fix = "write it anew: farthing plan MODEL --on HW --save FILE.toml"
    try:
        with path.open("rb") as file:
            content = tomllib.loads(file.read(_MAX_BYTES).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"the plan file {name} can't be read: {error.strerror}", fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the plan file {name} is no TOML: {error}", fix=fix) from None
    if content.get("schema") != SCHEMA:
        raise UsageError(f"{name} has schema {content.get('schema')!r:.60}, not {SCHEMA!r}", fix=fix)
    unknown = set(content) - {"schema", "model", "request", "forecast"}
    model, request = content.get("model"), content.get("request")
    if unknown or not isinstance(model, str) or not model or not isinstance(request, dict):
        what = f"has the unknown key {min(unknown)!r:.60}" if unknown else "lacks a model or a [request]"
        raise UsageError(f"the plan file {name} {what}", fix=fix)
    return PlanFile(model, _request(name, request, fix))


def _request(name: str, table: dict[str, Any], fix: str) -> PlanRequest:
    kinds = {field.name: field.type for field in fields(PlanRequest)}
    for key, value in table.items():
        if key not in kinds:
            raise UsageError(f"the plan file {name} has the unknown key {key!r:.60} in [request]", fix=fix)
        if type(value) is int and kinds[key] == (float | None):
            continue
        if not (isinstance(value, kinds[key]) and (type(value) is not bool or kinds[key] == (bool | None))):  # type: ignore[arg-type]
            raise UsageError(f"the plan file {name} has {key} = {value!r:.60}, which is of the wrong kind", fix=fix)
    try:
        return PlanRequest(**table)
    except UsageError as error:
        raise UsageError(f"the plan file {name}: {error.what}", fix=error.fix) from None
