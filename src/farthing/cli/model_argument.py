"""MODEL of the commands that run one: a name, a path or a plan file, made into a model on this machine and its options;
and the two flags that say whether it may be downloaded.

A model that is not here is downloaded where somebody can be asked, or --yes says so. Loads no torch.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from farthing import discover
from farthing.cli.said import said
from farthing.engine.config import EngineConfig
from farthing.engine.model_files import model_files
from farthing.errors import ModelNotFoundError
from farthing.hub.cache import HubModel, find_anywhere, is_offline
from farthing.planner.plan_file import is_plan_file, load_plan_file


@dataclass(frozen=True, slots=True)
class DownloadFlags:
    """Of a model that is not on this machine."""

    yes: Annotated[bool, Parameter(alias="-y", help="Download a model that is missing without asking.")] = False
    offline: Annotated[bool, Parameter(help="Download nothing.")] = False


def model_and_config(model: str, engine_flags: Any) -> tuple[str, EngineConfig]:
    """The model's name and the engine's options; of a plan file what it says, where no flag says otherwise."""
    planned: dict[str, Any] = {}
    if is_plan_file(model):
        kept = load_plan_file(model)
        model, planned = kept.model, kept.engine_options()
    return model, EngineConfig(**{**planned, **said(engine_flags)})


def obtain(model: str, config: EngineConfig, download: DownloadFlags) -> None:
    """FarthingError if the model is not known, or not here and not to be downloaded."""
    found = find_anywhere(model)
    if not isinstance(found, HubModel):
        return
    pull = discover.load("farthing.cli", "pull")
    try:
        model_files(found, needs_weights=config.weights != "random")
    except ModelNotFoundError:
        if download.offline or is_offline(os.environ) or not (download.yes or pull.is_terminal()):
            raise
        pull.obtain(pull.OfferPlan.of(found, config), ask=not download.yes)
