"""`farthing plan`: does a model fit hardware, how fast is it there, what does it cost; or which hardware does it.

Knows flags and which question they ask: one box (here), a search (cli/search.py), training, two plan files beside each
other (cli/plan_diff.py). Loads no torch, and what only one question needs only for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from farthing import discover
from farthing.cli import output, report_flags
from farthing.cli.planned_model import asked_of, config_of
from farthing.cli.report_flags import ReportFlags
from farthing.cli.said import may_be_unsaid, said
from farthing.cli.search_flags import ANY, SearchFlags, is_search
from farthing.errors import UsageError
from farthing.hub.cache import find_anywhere
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import BUNDLED
from farthing.planner import explain_report
from farthing.planner.explain import explain
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.plan import Plan, make_plan
from farthing.planner.plan_file import is_plan_file, save_plan
from farthing.planner.report import to_json_object
from farthing.planner.request import PlanRequest
from farthing.planner.training.training_request import TrainingRequest, answer_training


@dataclass(frozen=True, slots=True)
class PlanFlags:
    """What to do with the plan."""

    save: Annotated[Path | None, Parameter(help="Write the plan to FILE.toml, for run, serve and plan.")] = None
    training: Annotated[
        bool, Parameter(name=("--training", "--train"), help="Answer for training: memory, time, links, money.")
    ] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


SaidRequest = may_be_unsaid(PlanRequest, __name__)
SaidPrices = may_be_unsaid(PriceAssumptions, __name__)
SaidSearch = may_be_unsaid(SearchFlags, __name__)
SaidTraining = may_be_unsaid(TrainingRequest, __name__)
_REQUEST, _PRICES, _SEARCH, _TRAINING = SaidRequest(), SaidPrices(), SaidSearch(), SaidTraining()
_REPORT, _FLAGS = ReportFlags(), PlanFlags()
_OF_TRAINING = frozenset(("on", "memory", "p2p", "network", "price_per_hour"))
_OF_ONE_BOX = frozenset(("batch", "memory", "p2p", "max_num_seqs", "max_batch_tokens", "block_size"))
_BESIDE_PRICES = frozenset(("currency", "exchange_rate", "against", "utilisation"))  # change no price of an hour

app = App(
    name="plan",
    help_epilogue="""Examples:
  farthing plan llama-3.1-8b --on rtx-4090       memory, speed, dollars of one box
  farthing plan llama-3.1-70b --on 4x4090        split over four cards
  farthing plan llama-3.1-70b --on 4x4090 --html report.html
  farthing plan qwen2.5-32b --on any --users 30 --workload code-agent
  farthing plan --on 2x3090                      which models keep up there
  farthing plan llama-2-70b --on 8x4090 --training
  farthing plan diff a.toml b.toml               two plan files side by side""",
)
app.command(
    "farthing.cli.plan_diff:diff",
    name="diff",
    help="Two plan files side by side: fit, speed, dollars, energy.",
    help_epilogue="""Examples:
  farthing plan diff before.toml after.toml
  farthing plan diff 4090.toml h100.toml --json""",
)


@app.default
def plan(
    model: Annotated[
        str | None,
        Parameter(help="Alias, folder, config.json, .gguf, org/name or plan file. Without: the models that fit --on."),
    ] = None,
    /,
    *,
    request: Annotated[SaidRequest, Parameter(name="*")] = _REQUEST,
    flags: Annotated[PlanFlags, Parameter(name="*")] = _FLAGS,
    report: Annotated[ReportFlags, Parameter(name="*")] = _REPORT,
    search: Annotated[SaidSearch, Parameter(name="*", group=Group("Search over hardware", sort_key=1))] = _SEARCH,
    prices: Annotated[SaidPrices, Parameter(name="*", group=Group("Prices", sort_key=2))] = _PRICES,
    training: Annotated[SaidTraining, Parameter(name="*", group=Group("Training", sort_key=3))] = _TRAINING,
) -> None:
    """Does it fit, how fast is it, what does it cost; or which hardware does it."""
    _check_saved(flags)
    report_flags.check(report)
    searched, assumed = SearchFlags(**said(search)), PriceAssumptions(**said(prices))
    if flags.training:
        _refuse_beside_training({**said(request), **said(search)}, said(prices), flags, report)
        _answer_training(model, said(request), said(training), said(prices), json=flags.json)
    elif said(training):
        raise UsageError(f"{_spelled(said(training))} is about training", fix="add --training")
    elif model is None:
        _refuse_saving(flags)
        _refuse_beside_search(said(request), said(prices))
        if searched.simulate and "simulate" in said(search):
            raise UsageError("--simulate confirms a winner, and these are models", fix="name one, or leave it out")
        if report.wanted:
            raise UsageError("--html and --plot are of one plan", fix="name a model of those found, or leave them out")
        discover.load("farthing.cli", "search").answer_models(
            request=PlanRequest(**said(request)), flags=searched, prices=assumed, json=flags.json
        )
    else:
        anywhere = {"on": ANY} if searched.is_said and "on" not in said(request) else {}
        known, asked = asked_of(model, {**said(request), **anywhere})
        if is_search(asked.on, searched):
            _refuse_saving(flags)
            _refuse_beside_search(said(request), said(prices))
            name, config = config_of(known)
            discover.load("farthing.cli", "search").answer_search(
                name, config, request=asked, flags=searched, prices=assumed, json=flags.json, report=report
            )
        else:
            if said(search):
                raise UsageError(f"{_spelled(said(search))} is for a search", fix="say --on any, --users or --rate")
            _answer_plan(model, known, asked, said(prices), flags, report)


def _answer_plan(
    model: str, known: str, asked: PlanRequest, priced: dict[str, Any], flags: PlanFlags, report: ReportFlags
) -> None:
    """Of one box. What the flags of prices say goes before the median of rental offers."""
    name, config = config_of(known)
    hardware = find_hardware(asked)
    book = price = None
    if priced or not flags.json or report.wanted:  # prices are read where they are shown
        book = discover.load("farthing.planner.money", "price_book").price_book(PriceAssumptions(**priced))
    if priced:
        box = _box_price(hardware, asked, book, priced)
        price = box.hourly if set(priced) - _BESIDE_PRICES else None
    made = make_plan(name, config, hardware, asked, price=price)
    if flags.save is not None and made.choices:
        save_plan(made, _findable(known), flags.save)
        again = f"; the file does not keep {_spelled(priced)}: say it again" if priced else ""
        output.stderr.print(f"saved to {flags.save}{again}", soft_wrap=True)
    if flags.json:
        output.print_json(_json_object(made, config, hardware, book))
    else:
        discover.load("farthing.cli", "plan_view").print_plan(made, config, hardware, book)
    if flags.save is not None and not made.choices:
        raise UsageError(f"{flags.save} was not written: {made.untimed or 'the plan does not fit'}", fix="see above")
    report_flags.write_reports(made, report, config, hardware, book=book)


def _answer_training(
    model: str | None,
    requested: dict[str, Any],
    said_training: dict[str, Any],
    priced: dict[str, Any],
    *,
    json: bool,
) -> None:
    if model is None:
        raise UsageError("--training is about a model", fix="name one: farthing plan llama-2-70b --training")
    known, asked = asked_of(model, requested)
    name, config = config_of(known)
    hardware = find_hardware(asked)
    book = discover.load("farthing.planner.money", "price_book").price_book(PriceAssumptions(**priced))
    box = _box_price(hardware, asked, book, priced)
    answer = answer_training(
        name,
        config,
        hardware,
        TrainingRequest(**said_training),
        p2p=asked.p2p,
        network=asked.network_bytes_per_second(),
        dollars_per_hour=None if box is None else box.hourly.dollars_per_hour,
        price_note=None if box is None else box.hourly.note,
    )
    training = discover.load("farthing.planner.training", "training")
    if json:
        output.print_json(training.to_json_object(answer))
    else:
        for line in training.to_lines(answer):
            output.stdout.print(line, soft_wrap=True)


def _json_object(made: Plan, config: ConfigReader, hardware: Hardware, book: Any) -> dict[str, Any]:
    """The plan; what bounds it and would help; what it costs where something was said of prices; and what law says
    where a market was."""
    document = to_json_object(made)
    if made.choices:
        explanation = explain(made, config, hardware)
        document["explain"] = explain_report.to_json_object(explanation)
    if book is not None and made.choices:
        costs = discover.load("farthing.planner", "plan_cost").costs_of_plan(made, hardware, book)
        document["costs"] = [discover.load("farthing.planner.money", "cost").to_json_object(cost) for cost in costs]
    if book is not None and book.said.market is not None:
        document["law"] = list(discover.load("farthing.planner", "plan_cost").law_lines(made, book.market.code))
    return document


def _box_price(hardware: Hardware, asked: PlanRequest, book: Any, priced: dict[str, Any]) -> Any:
    """None where nobody knows a price, and nothing was said of prices; else UsageError."""
    box = discover.load("farthing.planner", "plan_cost").price_of_plan(hardware, book, asked.price_per_hour)
    if box is None and priced:
        raise UsageError(
            f"{hardware.name} is not in the catalogue, so it has no prices: {_spelled(priced)} says nothing of it",
            fix="name hardware that is, as in --on rtx-4090, or say --price-per-hour",
        )
    return box


def _check_saved(flags: PlanFlags) -> None:
    if flags.save is not None and not is_plan_file(flags.save.name):
        raise UsageError(f"--save {flags.save} is no .toml file", fix=f"name it {flags.save}.toml")


def _refuse_saving(flags: PlanFlags) -> None:
    if flags.save is not None:
        raise UsageError("a search has no one plan to save", fix="plan the option that you choose, with --save")


def _refuse_beside_search(asked: dict[str, Any], priced: dict[str, Any]) -> None:
    """What a plan file says of one box is not meant for the search; what the command line says is."""
    ignored = [name for name in asked if name in _OF_ONE_BOX] + [name for name in priced if name == "against"]
    if ignored:
        raise UsageError(
            f"a search does not take {_spelled(ignored)}",
            fix="leave it out, or plan one box without a load",
        )


def _refuse_beside_training(
    asked: dict[str, Any], priced: dict[str, Any], flags: PlanFlags, report: ReportFlags
) -> None:
    if flags.save is not None:
        raise UsageError(
            "--training answers a question, there is no plan to save", fix="leave out --save or --training"
        )
    if report.wanted:
        raise UsageError("--training has no report", fix="leave out --html and --plot")
    ignored = [name for name in asked if name not in _OF_TRAINING] + [name for name in priced if name in _BESIDE_PRICES]
    if ignored:
        raise UsageError(
            f"--training does not take {_spelled(ignored)}",
            fix="it takes --on, --memory and prices, and tries every division",
        )


def _spelled(flags: Iterable[str]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(flags))


def _findable(model: str) -> str:
    """The model as it is found from any folder."""
    found = find_anywhere(model)
    return str(Path(model).expanduser().resolve()) if isinstance(found, Path) and model != BUNDLED else model
