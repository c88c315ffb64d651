"""MODEL of the commands that plan: a name, a path or a plan file, made into a name, a config and what the file says.

Nothing is downloaded but a config. Loads no torch. Knows no flags of any command.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from farthing import discover
from farthing.hub.cache import MODELSCOPE, find_anywhere, find_snapshot, weights_in
from farthing.models.auto import read_config
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.planner.plan_file import is_plan_file, load_plan_file
from farthing.planner.request import PlanRequest


def asked_of(model: str, flagged: dict[str, Any]) -> tuple[str, PlanRequest]:
    """The model's own name, and the request: flags go before what a plan file says."""
    if not is_plan_file(model):
        return model, PlanRequest(**flagged)
    kept = load_plan_file(model)
    return kept.model, replace(kept.for_other_hardware() if "on" in flagged else kept.request, **flagged)


def config_of(model: str) -> tuple[str, ConfigReader]:
    """Name and config: of this machine, the table or the caches, else of the hub, which sends only the config."""
    found = find_anywhere(model)
    if isinstance(found, Path):
        return model, read_config(found)
    published = find_published(model.removeprefix(MODELSCOPE))
    if published is not None:
        return published.name, ConfigReader(published.config, published.name)
    snapshot = find_snapshot(found)
    if snapshot is not None:
        return found.name, read_config(weights_in(snapshot, found))
    config: ConfigReader = discover.load("farthing.hub", "download").remote_config(found)
    return found.name, config
