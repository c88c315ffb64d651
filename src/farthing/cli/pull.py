"""`farthing pull`: what a model is, whether it fits and how much it takes, before its weights are downloaded.

Knows flags and what is printed where: the plan to stderr, the folder to stdout; with --dry-run or --json the plan is
the answer. hub/download.py, which needs the extra `hub`, is loaded when it is needed.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from farthing import discover
from farthing.cli import output
from farthing.engine.config import EngineConfig
from farthing.engine.fit import Fit, fit_here
from farthing.errors import ModelNotFoundError, UsageError
from farthing.hub.cache import HubModel, cached_weights, existing_parent, find_anywhere, is_offline
from farthing.models.checkpoint_files import find_weights
from farthing.units import format_bytes, format_count

SCHEMA = "farthing.pull/1"


@dataclass(frozen=True, slots=True)
class PullFlags:
    """What `farthing pull` is told beside the model."""

    dry_run: Annotated[bool, Parameter(help="Show the plan and download nothing.")] = False
    offline: Annotated[bool, Parameter(help="Use no network: only say where the model lies.")] = False
    file: Annotated[str | None, Parameter(help="Which GGUF file: its name, or the end of it such as Q4_K_M.")] = None
    format: Annotated[str, Parameter(help="Weight format that the plan is for, as of farthing run.")] = "auto"
    context: Annotated[int | None, Parameter(help="Tokens of a sequence that the plan is for.")] = None
    yes: Annotated[bool, Parameter(alias="-y", help="Download without asking.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object with plan and folder.")] = False


_DEFAULTS = PullFlags()


def pull(
    model: Annotated[str, Parameter(help="Alias, org/name, modelscope:org/name; @revision and :Q4_K_M behind it.")],
    /,
    *,
    flags: Annotated[PullFlags, Parameter(name="*")] = _DEFAULTS,
) -> None:
    """Download a model after showing its plan."""
    config = EngineConfig(format=flags.format, context=flags.context)
    found = find_anywhere(model, file=flags.file)
    if isinstance(found, Path) or flags.offline or is_offline(os.environ):
        folder = found if isinstance(found, Path) else _cached(found)
        find_weights(folder)
        output.stderr.print(f"{model} is on this machine already", soft_wrap=True)
        _answer({"model": model, "folder": str(folder), "downloaded_bytes": 0}, str(folder), flags.json)
        return
    plan = OfferPlan.of(found, config)
    if flags.dry_run:
        _answer({**plan.to_json(), "downloaded_bytes": 0}, plan.text(), flags.json)
        return
    folder = obtain(plan, ask=not flags.yes and is_terminal())
    document = {**plan.to_json(), "folder": str(folder), "downloaded_bytes": plan.missing_bytes}
    _answer(document, str(folder), flags.json)


def _cached(model: HubModel) -> Path:
    """The weights on this machine. Without a network, pulling them is no help."""
    try:
        return cached_weights(model)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            error.what, fix="pull it where there is a network: without --offline, HF_HUB_OFFLINE unset"
        ) from None


def obtain(plan: "OfferPlan", *, ask: bool) -> Path:
    """Show the plan and download what is missing; what to load. UsageError if the user, asked, says no."""
    output.stderr.print(plan.text(), soft_wrap=True)
    if ask and plan.missing_bytes and not _confirm(f"download {format_bytes(plan.missing_bytes)}?"):
        name = plan.offer.hub.model.name
        raise UsageError("nothing was downloaded", fix=f"farthing pull {name} --yes does not ask")
    return _fetch(plan.offer, plan.missing_bytes)


@dataclass(frozen=True, slots=True)
class OfferPlan:
    """What a hub offers, seen from this machine."""

    offer: Any  # farthing.hub.download.Offer, which this file may not import
    fit: Fit
    missing_bytes: int
    free_bytes: int

    @classmethod
    def of(cls, model: HubModel, config: EngineConfig) -> "OfferPlan":
        """Ask the hub. UnsupportedError for a model that Farthing does not run."""
        offer = discover.load("farthing.hub", "download").inspect(model)
        fit = fit_here(model.name, offer.config, config)
        free_bytes = shutil.disk_usage(existing_parent(offer.hub.folder)).free
        return cls(offer, fit, offer.num_bytes - offer.present_bytes, free_bytes)

    def text(self) -> str:
        """The plan for people, a line for each thing."""
        offer, spec = self.offer, self.fit.spec
        rest = ""
        if self.missing_bytes < offer.num_bytes:
            rest = f", {format_bytes(self.missing_bytes)} to download" if self.missing_bytes else ", all here already"
        files = ", ".join(file.name for file in offer.weights[:3]) + (" ..." if len(offer.weights) > 3 else "")
        return "\n".join(
            (
                f"{offer.hub.model.name}: {spec.family}, {format_count(spec.num_parameters)} parameters, "
                f"context {spec.max_positions:,}",
                f"  from   {offer.hub.source}",
                f"  files  {format_bytes(offer.num_bytes)} in {len(offer.small) + len(offer.weights)} files "
                f"({files}){rest}",
                f"  to     {offer.hub.folder} ({format_bytes(self.free_bytes)} free)",
                f"  here   {self.fit.text()}",
            )
        )

    def to_json(self) -> dict[str, Any]:
        """Keys of farthing.pull/1. Sizes are bytes; `memory` is null where the model does not fit."""
        offer, fit = self.offer, self.fit
        memory = fit.memory
        return {
            "model": offer.hub.model.name,
            "repository": offer.hub.model.repository,
            "revision": offer.hub.folder.name if not offer.hub.model.on_modelscope else offer.hub.model.revision,
            "source": offer.hub.source,
            "folder": str(offer.hub.folder),
            "family": fit.spec.family,
            "parameters": fit.spec.num_parameters,
            "context": fit.context,
            "files": [{"name": file.name, "bytes": file.num_bytes} for file in (*offer.small, *offer.weights)],
            "bytes": offer.num_bytes,
            "missing_bytes": self.missing_bytes,
            "free_disk_bytes": self.free_bytes,
            "device": fit.device,
            "format": fit.spec.precision.format.name,
            "fits": memory is not None,
            "problem": fit.problem,
            "available_memory_bytes": fit.available_bytes,
            "memory": memory
            and {
                "weights_bytes": memory.weights_bytes,
                "kv_bytes_per_token": memory.kv_bytes_per_token,
                "kv_tokens": memory.kv_tokens,
                "activation_bytes": memory.activation_bytes,
                "reserve_bytes": memory.reserve_bytes + memory.graph_bytes,
            },
        }


def _fetch(offer: Any, missing_bytes: int) -> Path:
    """Download what is missing, with a bar in a terminal. The folder or .gguf file to load."""
    columns = (TextColumn("downloading"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    hidden = not output.stderr.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=output.stderr, transient=True, disable=hidden) as bar:
        task = bar.add_task("files", total=missing_bytes)
        try:
            folder: Path = discover.load("farthing.hub", "download").download(offer, partial(bar.advance, task))
        except KeyboardInterrupt:
            output.stderr.print("stopped; the same command goes on from here", soft_wrap=True)
            raise
    return folder


def _confirm(question: str) -> bool:
    """Ask on stderr; anything that does not begin with n, and the bare return key, is yes."""
    output.stderr.print(f"{question} [Y/n] ", end="")
    try:
        return not input().strip().lower().startswith("n")
    except EOFError:
        output.stderr.print()
        return False


def is_terminal() -> bool:
    """Is there somebody to ask?"""
    return sys.stdin.isatty() and output.stderr.is_terminal


def _answer(document: dict[str, Any], text: str, json: bool) -> None:
    if json:
        output.print_json({"schema": SCHEMA, **document})
    else:
        output.stdout.print(text, soft_wrap=True)
