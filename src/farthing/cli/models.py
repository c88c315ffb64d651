"""`farthing models`: the models known by name, and those that lie in the caches of this machine.

Knows flags and how both look. The table is models/published_models.py's, the caches are hub/cache.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from farthing.cli import output
from farthing.hub.cache import CachedModel, cached_models
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import PublishedModel, find_published, published_models
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import resolve
from farthing.units import format_bytes, format_count

SCHEMA = "farthing.models/1"


@dataclass(frozen=True, slots=True)
class ModelsFlags:
    """What `farthing models` is told."""

    local: Annotated[bool, Parameter(help="Only those on this machine.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


_DEFAULTS = ModelsFlags()


def models(*, flags: Annotated[ModelsFlags, Parameter(name="*")] = _DEFAULTS) -> None:
    """List models by name, and those on this machine."""
    cached = tuple(cached_models())
    published = () if flags.local else tuple(published_models().values())
    if flags.json:
        document: dict[str, Any] = {"schema": SCHEMA, "local": [_cached_to_json(model) for model in cached]}
        if not flags.local:
            document["published"] = [_published_to_json(model) for model in published]
        output.print_json(document)
        return
    for line in (*_published_lines(published), *_cached_lines(cached)):
        output.stdout.print(line, soft_wrap=True)


def _spec(model: PublishedModel) -> ModelSpec:
    return describe(ConfigReader(model.config, model.name), Precision.of(resolve("bf16", "cpu")))


def _published_lines(models: tuple[PublishedModel, ...]) -> Iterator[str]:
    """A line each, so that grep finds a whole model in it."""
    if not models:
        return
    width = max(len(model.name) for model in models)
    yield f"{'name':<{width}}  parameters  context             repository"
    for model in models:
        spec = _spec(model)
        note = "plan only" if spec.plan_only else ""
        yield (
            f"{model.name:<{width}}  {format_count(model.parameters):>10}  {spec.max_positions:>7,}  "
            f"{note:<9}  {model.hub_id}"
        )
    yield ""


def _cached_lines(models: tuple[CachedModel, ...]) -> Iterator[str]:
    if not models:
        yield "no model of a hub is on this machine; farthing pull NAME downloads one"
        return
    width = max(len(model.name) for model in models)
    yield f"{'on this machine':<{width}}        size  runs"
    for model in models:
        yield f"{model.name:<{width}}  {format_bytes(model.num_bytes):>10}  {model.problem or 'yes'}"


def _published_to_json(model: PublishedModel) -> dict[str, Any]:
    spec = _spec(model)
    return {
        "name": model.name,
        "hub_id": model.hub_id,
        "base_hub_id": model.base_hub_id,
        "parameters": model.parameters,
        "context": spec.max_positions,
        "plan_only": spec.plan_only,
        "source": model.source,
    }


def _cached_to_json(model: CachedModel) -> dict[str, Any]:
    known = find_published(model.name)
    return {
        "name": model.name,
        "alias": known.name if known else None,
        "folder": str(model.folder),
        "bytes": model.num_bytes,
        "problem": model.problem,
    }
