"""`farthing plan MODEL --on any`: which hardware carries a load, what is cheapest, how sure, why not less.

Called by cli/plan.py with what the flags say. Loads no torch; tables only where a person reads.
"""

from dataclasses import replace

from farthing import discover
from farthing.cli import output
from farthing.cli.report_flags import ReportFlags, write_reports
from farthing.cli.search_flags import SearchFlags
from farthing.errors import UsageError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.planner.hardware import find_hardware
from farthing.planner.money.offers import Offers
from farthing.planner.money.price_assumptions import PriceAssumptions
from farthing.planner.money.price_book import PriceBook, price_book
from farthing.planner.plan import make_plan
from farthing.planner.plan_cost import price_of_plan
from farthing.planner.request import PlanRequest
from farthing.planner.search.candidates import Descriptions, Wishes, targets_of
from farthing.planner.search.loads import Demand, demand_of
from farthing.planner.search.model_search import models_for
from farthing.planner.search.model_search import to_json_object as models_json
from farthing.planner.search.runs_with import check_engine
from farthing.planner.search.search_answer import Answer, answer
from farthing.planner.search.search_report import to_json_object
from farthing.planner.search.slo import Slo
from farthing.quantization.base import resolve


def answer_search(
    model: str,
    config: ConfigReader,
    *,
    request: PlanRequest,
    flags: SearchFlags,
    prices: PriceAssumptions | None = None,
    json: bool = False,
    report: ReportFlags | None = None,
) -> None:
    """Prints the answer; that nothing does it is one, too. `report`: of the best option, with the search beside it."""
    descriptions = Descriptions(config)
    offers = Offers(price_book(prices), legal_only=flags.legal_only, include_all=flags.all)
    targets = targets_of(request.on)
    demand, slo = demand_and_slo(config, request, flags)
    made = answer(
        model, descriptions, targets, demand, slo, offers, wishes_of(request, flags), simulates=flags.simulate
    )
    if json:
        output.print_json(to_json_object(made, offers, descriptions))
    else:
        _view(made, offers, descriptions)
    if report is not None and report.wanted:
        _write_report(made, model, config, request, report, price_book(prices))


def _write_report(
    made: Answer, model: str, config: ConfigReader, request: PlanRequest, report: ReportFlags, book: PriceBook
) -> None:
    sources = discover.load("farthing.planner.page", "report_sources")
    way = sources.way_of(made.search)
    if way is None:
        raise UsageError("there is no option to report on", fix="see above for the nearest one")
    asked = sources.request_of(made.search.best(way), made.search.demand, request)
    hardware = find_hardware(asked)
    box = price_of_plan(hardware, book, None)
    plan = make_plan(model, config, hardware, asked, price=None if box is None else box.hourly)
    write_reports(plan, report, config, hardware, search=made.search, book=book)


def answer_models(
    *, request: PlanRequest, flags: SearchFlags, prices: PriceAssumptions | None = None, json: bool = False
) -> None:
    """`farthing plan --on HW` without a model: the published models that keep the promise there."""
    targets = targets_of(request.on)
    if len(targets) != 1:
        raise UsageError(
            f"--on {request.on!r:.60} without a model is for one piece of hardware", fix="name a model, or one"
        )
    offers = Offers(price_book(prices), legal_only=flags.legal_only, include_all=flags.all)
    said = {
        "users": flags.users,
        "rate": flags.rate,
        "workload": flags.workload,
        "input_tokens": request.input_tokens,
        "output_tokens": request.output_tokens,
        "context": request.context,
        "think_seconds": flags.think,
    }
    slo = None if flags.ttft is None and flags.tpot is None else Slo(flags.ttft, flags.tpot)
    found = models_for(targets[0], said, slo, offers, wishes_of(request, flags))
    if json:
        output.print_json(models_json(found, targets[0], offers))
    else:
        discover.load("farthing.cli", "model_search_view").print_models(found, targets[0], offers)


def _view(made: Answer, offers: Offers, descriptions: Descriptions) -> None:
    discover.load("farthing.cli", "search_view").print_search(made, offers, descriptions)


def demand_and_slo(config: ConfigReader, request: PlanRequest, flags: SearchFlags) -> tuple[Demand, Slo]:
    """The load that flags say; where no promise is said, what is usual for its kind."""
    spec = describe(config, Precision.of(resolve("bf16", "cuda")))
    demand, usual = demand_of(
        spec.max_positions,
        users=flags.users,
        rate=flags.rate,
        workload=flags.workload,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        context=request.context,
        think_seconds=flags.think,
    )
    if flags.ttft is None and flags.tpot is None:
        return demand, usual
    notes = tuple(note for note in demand.notes if not note.startswith(("ttft_seconds", "tpot_seconds")))
    return replace(demand, notes=notes), Slo(flags.ttft, flags.tpot)


def wishes_of(request: PlanRequest, flags: SearchFlags) -> Wishes:
    if request.price_per_hour is not None:
        raise UsageError("--price-per-hour is that of one box", fix="say prices by part in a file: --prices FILE.toml")
    if request.replicas is not None:
        raise UsageError("--replicas is what a search looks for", fix="leave it out")
    return Wishes(
        format=request.format,
        kv_format=request.kv_format,
        tp=request.tp,
        pp=request.pp,
        engine=None if request.engine is None else check_engine(request.engine),
        min_quality=flags.quality_share(),
        max_devices=flags.max_devices,
        max_dollars=flags.budget,
        max_watts=flags.max_watts,
        network=request.network_bytes_per_second(),
        include_all=flags.all,
    )
