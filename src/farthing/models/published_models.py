"""The table of published models: alias -> hub id, dimensions and the published number of parameters, all with source.

Reads the TOML files of models/published; a model is found by alias, by loose spelling ("Llama 3.1 8B", "llama3.1:8b")
or by hub id. Knows no network and no files of the user's.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

_TUNED = ("instruct", "chat", "it", "hf")


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """`hub_id`: the weights that `run` and `serve` take (instruct where there are such; `-base` names the others).

    `config`: the keys of config.json that matter to the description. `parameters`: as published at `source`.
    """

    name: str
    hub_id: str
    base_hub_id: str | None
    config: Mapping[str, object]
    parameters: int
    source: str


@cache
def published_models() -> Mapping[str, PublishedModel]:
    """All of them by alias, in order of files and entries."""
    found: dict[str, PublishedModel] = {}
    folder = files("farthing.models.published")
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
                entry.setdefault("base_hub_id", None)
                assert name not in found, f"{name} stands twice"
                found[name] = PublishedModel(name=name, **entry)
    return found


def find_published(name: str) -> PublishedModel | None:
    """The model of this alias, loose spelling or hub id; with "-base" behind the alias, its base weights."""
    return _by_spelling().get(_spelling(name))


@cache
def _by_spelling() -> Mapping[str, PublishedModel]:
    found: dict[str, PublishedModel] = {}
    for model in published_models().values():
        spellings = {model.name: model, model.hub_id: model}
        spellings |= {f"{model.name}-{suffix}": model for suffix in _TUNED}
        if model.base_hub_id:
            base = replace(model, name=f"{model.name}-base", hub_id=model.base_hub_id, base_hub_id=None)
            spellings |= {base.name: base, base.hub_id: base}
        for spelling, meant in spellings.items():
            found.setdefault(_spelling(spelling), meant)
    return found


def _spelling(name: str) -> str:
    """Case, spaces, dashes, underscores and colons say nothing; a dot and a slash do."""
    return re.sub(r"[\s_:-]+", "", name.strip().lower())
