"""The config of a model that is to be planned: of this machine, the table or the caches, else of the hub.

Knows no flag of `plan`. Loads no torch.
"""

from pathlib import Path

from farthing import discover
from farthing.hub.cache import MODELSCOPE, find_anywhere, find_snapshot, weights_in
from farthing.models.auto import read_config
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published


def find_config(model: str) -> tuple[str, ConfigReader]:
    """Name and config; a hub sends only the config."""
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
