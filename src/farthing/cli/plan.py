"""`farthing plan`: does a model fit a piece of hardware, how fast is it there, what does it cost.

Knows flags and how a plan looks in a terminal; planner/plan.py makes it. Loads no torch.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from farthing import discover
from farthing.cli import output
from farthing.errors import UsageError
from farthing.models.auto import config_of
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import find_model
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import make_plan, train
from farthing.planner.plan_file import is_plan_file, load_plan_file, save_plan
from farthing.planner.report import to_json_object
from farthing.planner.request import PlanRequest
from farthing.planner.training import TrainingAnswer, to_lines
from farthing.planner.training import to_json_object as training_json


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """What to do with the plan."""

    save: Annotated[Path | None, Parameter(help="Write the plan to FILE.toml, for run and serve.")] = None
    train: Annotated[bool, Parameter(help="Answer for full training instead: weights, gradients, optimizer.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


def _said_fields() -> Iterator[tuple[str, Any, None]]:
    """Every field of PlanRequest as a flag that may be left unsaid, so that a plan file can say it."""
    for field in fields(PlanRequest):
        shown = Parameter(show_default=False if field.default is None else lambda _, text=str(field.default): text)
        yield field.name, Annotated[field.type | None, shown], None


_NAMESPACE = {"__doc__": PlanRequest.__doc__, "__module__": __name__}  # cyclopts reads both
SaidRequest = make_dataclass("SaidRequest", _said_fields(), frozen=True, namespace=_NAMESPACE)
_SAID, _FLAGS = SaidRequest(), PlanFlags()


def plan(
    model: Annotated[str, Parameter(help="Alias, folder, config.json, .gguf, org/name or plan file.")],
    /,
    *,
    said: Annotated[SaidRequest, Parameter(name="*")] = _SAID,
    flags: Annotated[PlanFlags, Parameter(name="*")] = _FLAGS,
) -> None:
    """Does it fit, how fast is it, what does it cost."""
    flagged = {name: value for name, value in asdict(said).items() if value is not None}
    if flags.save is not None and not is_plan_file(flags.save.name):
        raise UsageError(f"--save {flags.save} is no .toml file", fix=f"name it {flags.save}.toml")
    if flags.save is not None and flags.train:
        raise UsageError("--train answers a question, there is no plan to save", fix="leave out --save or --train")
    if is_plan_file(model):
        kept = load_plan_file(model)
        if "on" in flagged:  # other hardware is divided anew
            flagged = {"tp": None, "pp": None, "replicas": None, **flagged}
        model, request = kept.model, replace(kept.request, **flagged)
    else:
        request = PlanRequest(**flagged)
    name, config = _find(model)
    hardware = find_hardware(request)
    if flags.train:
        _answer_training(train(name, config, hardware), json=flags.json)
        return
    made = make_plan(name, config, hardware, request)
    if flags.json:
        output.print_json(to_json_object(made))
    else:
        discover.load("farthing.cli", "plan_view").print_plan(made)
    if flags.save is not None:
        save_plan(made, model, flags.save)
        output.stderr.print(f"saved to {flags.save}", soft_wrap=True)


def _find(model: str) -> tuple[str, ConfigReader]:
    """Name and config: of this machine or of the table, else of the hub, which sends no more than the config."""
    reference = find_model(model)
    if reference.path is None and reference.published is None:
        config: ConfigReader = discover.load("farthing.engine", "hub").remote_config(reference.repository)
        return reference.name, config
    return reference.name, config_of(reference)


def _answer_training(answer: TrainingAnswer, *, json: bool) -> None:
    if json:
        output.print_json(training_json(answer))
    else:
        for line in to_lines(answer):
            output.stdout.print(line, soft_wrap=True)
