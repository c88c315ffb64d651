"""The table of published models: alias -> hub id, dimensions and the published number of parameters, all with source.

Reads the TOML files of models/published; a model is found by alias, by loose spelling ("Llama 3.1 8B", "llama3.1:8b")
or by the name of its repository. Knows no network and no files of the user's.

A file is a series: `config` has the keys of config.json that its models share, `models` what each adds or changes, and
`released` or `licence` above them holds for all. `base_config` and `base_parameters` say how the base weights differ.
TOML has no null, so the string "null" stands for it.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain

_TUNED = ("instruct", "chat", "it")


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """`hub_id`: the weights that `run` takes: the instruct ones where there are such.

    `base`: the weights before instruction tuning (of the same `hub_id` where no others are; None: unpublished).
    `config`: the keys of config.json that matter to the description. `parameters`: as published, each trained weight
    once; `parameters_note` says where `source` counts otherwise. `source`: the model card, with the count, the licence
    and config.json among its files. `released`: year and month. `also`: other aliases of it. `former_hub_id`: what the
    repository was called before.
    """

    name: str
    hub_id: str
    config: Mapping[str, object]
    parameters: int
    source: str
    released: str
    licence: str
    base: "PublishedModel | None" = None
    parameters_note: str | None = None
    also: tuple[str, ...] = ()
    former_hub_id: str | None = None

    @property
    def base_hub_id(self) -> str | None:
        return self.base.hub_id if self.base else None


@cache
def published_models() -> Mapping[str, PublishedModel]:
    """All of them by alias, in order of files and entries."""
    found: dict[str, PublishedModel] = {}
    for file in sorted(files("farthing.models.published").iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".toml"):
            for model in _series(file):
                assert model.name not in found, f"{model.name} stands twice"
                found[model.name] = model
    return found


def find_published(name: str) -> PublishedModel | None:
    """The model of this alias, loose spelling or repository; with "-base" behind the alias, its base weights."""
    return _by_spelling().get(_spelling(name))


def _series(file: Traversable) -> Iterator[PublishedModel]:
    series = tomllib.loads(file.read_text(encoding="utf-8"))
    for name, entry in series["models"].items():
        config = {**series["config"], **entry["config"]}
        model = PublishedModel(
            name=name,
            hub_id=entry["hub_id"],
            config=_with_nulls(config),
            parameters=entry["parameters"],
            source=_card(entry["hub_id"]),
            released=entry.get("released") or series["released"],
            licence=entry.get("licence") or series["licence"],
            parameters_note=entry.get("parameters_note"),
            also=tuple(entry.get("also", ())),
            former_hub_id=entry.get("former_hub_id"),
        )
        base_hub_id = entry.get("base_hub_id")
        base = base_hub_id and replace(
            model,
            name=f"{name}-base",
            hub_id=base_hub_id,
            config=_with_nulls({**config, **entry.get("base_config", {})}),
            parameters=entry.get("base_parameters", model.parameters),
            source=_card(base_hub_id),
            also=(),
            former_hub_id=entry.get("former_base_hub_id"),
        )
        yield replace(model, base=base)


def _with_nulls(config: Mapping[str, object]) -> Mapping[str, object]:
    return {key: None if value == "null" else value for key, value in config.items()}


def _card(hub_id: str) -> str:
    return f"https://huggingface.co/{hub_id}"


@cache
def _by_spelling() -> Mapping[str, PublishedModel]:
    """Aliases go before names of repositories: "Qwen2.5-7B" without "Qwen/" is the alias, not the base weights."""
    models = published_models().values()
    found: dict[str, PublishedModel] = {}
    for alias, meant in chain.from_iterable(map(_aliases, models)):
        claimed = found.setdefault(_spelling(alias), meant)
        assert claimed is meant, f"{alias} is ambiguous"
    for weights in chain(models, (model.base for model in models if model.base)):
        for hub_id in filter(None, (weights.hub_id, weights.former_hub_id)):
            found.setdefault(_spelling(hub_id), weights)
            found.setdefault(_spelling(hub_id.partition("/")[2]), weights)
    return found


def _aliases(model: PublishedModel) -> Iterator[tuple[str, PublishedModel]]:
    for alias in (model.name, *model.also):
        yield alias, model
        if model.base is not None:
            yield f"{alias}-base", model.base
        if model.base_hub_id != model.hub_id:  # else nobody tuned these weights
            yield from ((f"{alias}-{tuned}", model) for tuned in _TUNED)


def _spelling(name: str) -> str:
    """Case, spaces, dashes, underscores and colons say nothing, but for a gap between two digits: 3-8B is not 38B."""
    return re.sub(r"(?<!\d)-|-(?!\d)", "", re.sub(r"[\s_:-]+", "-", name.strip().lower()))
