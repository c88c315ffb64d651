"""`farthing simulate`: a load on a piece of hardware that nobody needs to have, second by second.

Knows flags and the order of things; planner/simulation/simulator.py simulates, simulate_view.py shows. Loads no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from farthing import discover
from farthing.cli import output
from farthing.cli.planned_model import asked_of, config_of
from farthing.cli.said import may_be_unsaid, said
from farthing.client.load_trace import read_trace
from farthing.errors import DoesNotFitError, UnsupportedError, UsageError
from farthing.models.config_reader import ConfigReader
from farthing.planner.engines.engine_pricer import engine_deployment
from farthing.planner.engines.engine_profile import EngineProfile, find_engine
from farthing.planner.engines.operator_profile import by_operators
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.simulation.deployment import Deployment, deployment_of
from farthing.planner.simulation.lengths import Lengths
from farthing.planner.simulation.simulation import Objective, summarize
from farthing.planner.simulation.simulation_report import SimulatedLoad, to_json_object
from farthing.planner.simulation.simulator import simulate as run_load
from farthing.planner.simulation.workload import Prefixes, Workload, by_rate, by_users, recorded

_REQUESTS = 1000
_REQUESTS_PER_USER = 4
_NOT_HERE = ("batch", "input_tokens", "output_tokens", "engine")  # of a plan; a load has its own


@dataclass(frozen=True, slots=True)
class LoadFlags:
    """The load, and what is promised."""

    rate: Annotated[float | None, Parameter(help="Requests a second, arriving at random (Poisson).")] = None
    users: Annotated[int | None, Parameter(help="So many users instead, each asking again when answered.")] = None
    think: Annotated[float, Parameter(help="Seconds a user thinks between answer and next request, on average.")] = 0.0
    trace: Annotated[
        Path | None, Parameter(help="Arrivals from a file: JSONL or CSV of arrival in s, input and output tokens.")
    ] = None
    requests: Annotated[
        int | None, Parameter(help="So many requests. Default: 1000, or 4 a user, or the whole trace.")
    ] = None
    input_tokens: Annotated[
        str | None, Parameter(help="Tokens of a prompt: 512, 'U(32,512)', 'lognormal(800,1.0)'. Default: 512.")
    ] = None
    output_tokens: Annotated[str | None, Parameter(help="Tokens of an answer, likewise. Default: 256.")] = None
    prefix_tokens: Annotated[int, Parameter(help="The first so many tokens of a prompt are those of its kind.")] = 0
    prefixes: Annotated[int, Parameter(help="Kinds of prompts (system prompts).")] = 1
    ttft: Annotated[float | None, Parameter(help="Objective, in seconds, for the time to the first token.")] = None
    tpot: Annotated[float | None, Parameter(help="Objective, in seconds, for each further token.")] = None
    dealing: Annotated[Literal["least-loaded", "round-robin"], Parameter(help="Which replica gets a request.")] = (
        "least-loaded"
    )
    seed: Annotated[int, Parameter(help="The same seed makes the same load, here and in bench serve.")] = 0

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.rate, self.users, self.trace)) != 1:
            raise UsageError(
                "--rate, --users and --trace are three kinds of load",
                fix="say one of them: --rate 2 is two requests a second",
            )
        if self.think and self.users is None:
            raise UsageError("--think is what users do between requests", fix="say --users N, or leave it out")
        if self.prefixes > 1 and not self.prefix_tokens:
            raise UsageError(
                "--prefixes is how many kinds of beginnings there are, of no tokens", fix="say --prefix-tokens 500, too"
            )
        if self.trace is not None and (self.input_tokens, self.output_tokens) != (None, None):
            raise UsageError("a trace has its own lengths", fix="leave out --input-tokens and --output-tokens")


@dataclass(frozen=True, slots=True)
class AnswerFlags:
    """As which engine, and how the answer is told."""

    engine: Annotated[
        str | None, Parameter(help="As another engine would: its limits, memory and speed (vllm, sglang, ...).")
    ] = None
    by_operators: Annotated[
        bool, Parameter(help="Price that engine's steps by single kernels that were timed, not by whole engines.")
    ] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


def _plan_flags() -> Any:
    kept = [one for one in fields(PlanRequest) if one.name not in _NOT_HERE]
    columns = [(one.name, one.type, field(default=one.default)) for one in kept]
    about = {"__doc__": PlanRequest.__doc__, "__module__": __name__}
    return may_be_unsaid(make_dataclass("DeploymentFlags", columns, frozen=True, namespace=about), __name__)


SaidLoad, SaidDeployment = may_be_unsaid(LoadFlags, __name__), _plan_flags()
_LOAD, _DEPLOYMENT, _ANSWER = SaidLoad(), SaidDeployment(), AnswerFlags()


def simulate(
    model: Annotated[str, Parameter(help="Alias, folder, config.json, .gguf, org/name or plan file.")],
    /,
    *,
    load: Annotated[SaidLoad, Parameter(name="*")] = _LOAD,
    deployment: Annotated[SaidDeployment, Parameter(name="*")] = _DEPLOYMENT,
    answer: Annotated[AnswerFlags, Parameter(name="*")] = _ANSWER,
) -> None:
    """What users of a deployment would wait, and what it would cost."""
    asked, flagged = LoadFlags(**said(load)), said(deployment)
    objective = Objective(asked.ttft, asked.tpot)
    model, request = asked_of(model, flagged)
    engine = _engine(answer, request.engine)  # of a plan file, if no flag says another
    request = replace(request, engine=None)
    name, config = config_of(model)
    hardware = find_hardware(request)
    workload, plan = _planned(name, config, hardware, request, asked)
    choice = plan.best
    if engine is None:
        deployed = deployment_of(choice.placement, hardware, plan.request, dealing=asked.dealing)
    else:
        deployed = _under(engine, plan, hardware, asked, flagged)
    view = discover.load("farthing.cli", "simulate_view")
    with view.telling() as tell:
        run = run_load(workload, deployed, tell)
    done = SimulatedLoad(plan, choice, workload, deployed, summarize(run, deployed, objective), engine)
    if answer.json:
        output.print_json(to_json_object(done))
    else:
        view.print_load(done)


def _engine(answer: AnswerFlags, planned: str | None) -> EngineProfile | None:
    name = answer.engine or planned
    if name is None:
        if answer.by_operators:
            raise UsageError("--by-operators is a way to price an --engine", fix="say --engine vllm, or leave it out")
        return None
    engine = find_engine(name)
    return by_operators(engine) if answer.by_operators else engine


def _under(
    engine: EngineProfile, plan: Plan, hardware: Hardware, load: LoadFlags, flagged: Mapping[str, Any]
) -> Deployment:
    """The plan's layout and format under an engine's profile; limits are the engine's where no flag says others."""
    accelerators = [device.accelerator for device in hardware.devices]
    if any(one is None for one in accelerators) or any(device.is_here for device in hardware.devices):
        raise UsageError("--engine is a profile for hardware of the catalogue", fix="name it: --on rtx-4090")
    ignored = [f"--{name}" for name in ("memory", "p2p", "network") if name in flagged]
    if ignored:
        raise UsageError(
            f"{', '.join(ignored)} changes nothing under --engine: memory and links are {engine.name}'s own",
            fix="leave it out, or leave out --engine",
        )
    layout = plan.best.placement.layout
    return engine_deployment(
        plan.spec,
        [one for one in accelerators if one is not None][: layout.num_devices],
        engine,
        tp=layout.tp,
        pp=layout.pp,
        context=plan.best.placement.context,
        max_num_seqs=flagged.get("max_num_seqs"),
        max_batch_tokens=flagged.get("max_batch_tokens"),
        block_size=plan.request.block_size,
        dealing=load.dealing,
    )


def _planned(
    name: str, config: ConfigReader, hardware: Hardware, request: PlanRequest, load: LoadFlags
) -> tuple[Workload, Plan]:
    """The load and the plan for it: its mean lengths, and a context that holds its longest request if none is said."""
    if load.trace is None and load.input_tokens is None and load.output_tokens is None:
        plan = make_plan(name, config, hardware, request)  # default lengths, shorter where the model's context is
        lengths = str(plan.request.prompt_tokens), str(plan.request.answer_tokens)
        workload = _workload(load, *lengths)
    else:
        workload = _workload(load, load.input_tokens or "512", load.output_tokens or "256")
        mean_input, mean_output = workload.mean_lengths()
        request = replace(request, input_tokens=mean_input, output_tokens=mean_output)
        plan = make_plan(name, config, hardware, request)
    if request.context is None and workload.longest > plan.placement.context < plan.spec.max_positions:
        longest = min(workload.longest, plan.spec.max_positions)
        plan = make_plan(name, config, hardware, replace(request, context=longest))
    if not plan.fits:
        fix = plan.would_fit[0] if plan.would_fit else "name hardware with more memory"
        raise DoesNotFitError(f"{name} does not fit {plan.hardware}", fix=f"what would fit: {fix}")
    if not plan.choices:
        raise UnsupportedError(f"there is no forecast of {name} on {plan.hardware}: {plan.untimed}")
    return workload, plan


def _workload(load: LoadFlags, input_tokens: str, output_tokens: str) -> Workload:
    prefixes = Prefixes(load.prefix_tokens, load.prefixes)
    if load.trace is not None:
        lines = [(line.arrival, line.input_tokens, line.output_tokens) for line in read_trace(load.trace)]
        if load.requests is not None and load.requests < 1:
            raise UsageError(f"--requests is {load.requests}", fix="it must be above 0")
        return recorded(lines[: load.requests], f"the trace {load.trace.name}", prefixes=prefixes, seed=load.seed)
    inputs = Lengths.parse(input_tokens, "--input-tokens")
    outputs = Lengths.parse(output_tokens, "--output-tokens")
    if load.rate is not None:
        requests = _REQUESTS if load.requests is None else load.requests
        return by_rate(load.rate, requests, inputs, outputs, prefixes=prefixes, seed=load.seed)
    assert load.users is not None
    requests = max(_REQUESTS, _REQUESTS_PER_USER * load.users) if load.requests is None else load.requests
    return by_users(load.users, load.think, requests, inputs, outputs, prefixes=prefixes, seed=load.seed)
