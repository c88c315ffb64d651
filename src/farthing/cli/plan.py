"""`farthing plan`: does a model fit a piece of hardware, how fast is it there, what does it cost.

Knows flags and how a plan looks in a terminal; planner/plan.py makes it. Loads no torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farthing import discover
from farthing.cli import output
from farthing.cli.said import may_be_unsaid, said
from farthing.errors import UsageError
from farthing.hub.cache import MODELSCOPE, find_anywhere, find_snapshot, weights_in
from farthing.models.auto import read_config
from farthing.models.config_reader import ConfigReader
from farthing.models.published_models import find_published
from farthing.models.reference import BUNDLED
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

    save: Annotated[Path | None, Parameter(help="Write the plan to FILE.toml, for run and plan.")] = None
    train: Annotated[bool, Parameter(help="Answer for full training instead: weights, gradients, optimizer.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


SaidRequest = may_be_unsaid(PlanRequest, __name__)
_REQUEST, _FLAGS = SaidRequest(), PlanFlags()


def plan(
    model: Annotated[str, Parameter(help="Alias, folder, config.json, .gguf, org/name or plan file.")],
    /,
    *,
    request: Annotated[SaidRequest, Parameter(name="*")] = _REQUEST,
    flags: Annotated[PlanFlags, Parameter(name="*")] = _FLAGS,
) -> None:
    """Does it fit, how fast is it, what does it cost."""
    flagged = said(request)
    if flags.save is not None and not is_plan_file(flags.save.name):
        raise UsageError(f"--save {flags.save} is no .toml file", fix=f"name it {flags.save}.toml")
    if flags.save is not None and flags.train:
        raise UsageError("--train answers a question, there is no plan to save", fix="leave out --save or --train")
    ignored = set(flagged) - {"on", "memory"}
    if flags.train and ignored:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(ignored))
        raise UsageError(f"--train does not take {names}", fix="it takes --on and --memory, and tries every division")
    if is_plan_file(model):
        kept = load_plan_file(model)
        model, asked = kept.model, replace(kept.for_other_hardware() if "on" in flagged else kept.request, **flagged)
    else:
        asked = PlanRequest(**flagged)
    name, config = _find(model)
    hardware = find_hardware(asked)
    if flags.train:
        _answer_training(train(name, config, hardware), json=flags.json)
        return
    made = make_plan(name, config, hardware, asked)
    if flags.save is not None and made.choices:
        save_plan(made, _findable(model), flags.save)
        output.stderr.print(f"saved to {flags.save}", soft_wrap=True)
    if flags.json:
        output.print_json(to_json_object(made))
    else:
        discover.load("farthing.cli", "plan_view").print_plan(made)
    if flags.save is not None and not made.choices:
        raise UsageError(f"{flags.save} was not written: {made.untimed or 'the plan does not fit'}", fix="see above")


def _findable(model: str) -> str:
    """The model as it is found from any folder."""
    found = find_anywhere(model)
    return str(Path(model).expanduser().resolve()) if isinstance(found, Path) and model != BUNDLED else model


def _find(model: str) -> tuple[str, ConfigReader]:
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


def _answer_training(answer: TrainingAnswer, *, json: bool) -> None:
    if json:
        output.print_json(training_json(answer))
    else:
        for line in to_lines(answer):
            output.stdout.print(line, soft_wrap=True)
