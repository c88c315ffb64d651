"""What the pages ask the planner: models, boxes and loads, each plan made once.

Every figure of speed, memory or money on the pages comes through here. Knows no words.
"""

from dataclasses import dataclass, fields, replace
from functools import cache

from farthing.hardware.accelerator import Accelerator, load_accelerator
from farthing.models.auto import config_of, describe
from farthing.models.config_reader import ConfigReader
from farthing.models.reference import find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.planner.hardware import Hardware, find_hardware
from farthing.planner.money.price import hourly_price
from farthing.planner.plan import Choice, Plan, make_plan
from farthing.planner.request import PlanRequest
from farthing.planner.training.training_answer import Method, TrainingAnswer
from farthing.planner.training.training_request import TrainingRequest, answer_training
from farthing.quantization.base import resolve

MODEL = "llama-2-70b"
LONG_MODEL = "llama-3.1-70b"  # the same layers, for contexts beyond LLaMA-2's
LIMITS = (64, 128, 256, 512, 1024, 2048)  # of sequences at a time: memory ends the batch; more take room for logits


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one length, as many at a time as memory holds."""

    model: str
    input_tokens: int
    output_tokens: int

    @property
    def context(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Box:
    """Hardware as the planner's --on names it. `p2p`: None as shipped, True with a patched driver."""

    on: str
    p2p: bool | None = None
    network: str = "1.25GB"


SHORT, ARTICLE = Load(MODEL, 384, 128), Load(MODEL, 3584, 512)
LONG, LONGEST = Load(LONG_MODEL, 15872, 512), Load(LONG_MODEL, 32256, 512)
LOADS = (SHORT, ARTICLE, LONG, LONGEST)
STOCK, PATCHED, H100 = Box("8x rtx-4090"), Box("8x rtx-4090", p2p=True), Box("8x h100-sxm")


@cache
def spec_of(model: str, weight_format: str = "fp16", num_key_value_heads: int | None = None) -> ModelSpec:
    """The description of a published model, by default with the KV heads that it has."""
    values = dict(config_of(find_model(model)).values)
    if num_key_value_heads is not None:
        values["num_key_value_heads"] = num_key_value_heads
    return describe(ConfigReader(values, model), Precision.of(resolve(weight_format, "cuda"), "fp16"))


@cache
def _request_plan(model: str, request: PlanRequest) -> Plan:
    return make_plan(model, config_of(find_model(model)), hardware_of(request.on), request)


@cache
def hardware_of(on: str) -> Hardware:
    return find_hardware(PlanRequest(on=on))


def plan_of(model: str, on: str, **options: object) -> Plan:
    return _request_plan(model, replace(PlanRequest(on=on), **options))  # type: ignore[arg-type]


@cache
def box_plan(load: Load, box: Box, weight_format: str = "fp16") -> Plan:
    """Every layout of a box under a load; `full` of each has as many sequences as memory holds."""
    return _request_plan(load.model, _request_of(load, box, weight_format, _limit(load, box, weight_format)))


def _limit(load: Load, box: Box, weight_format: str) -> int:
    """The smallest that memory can't reach, if all that the weights leave held KV."""
    spec = spec_of(load.model, "fp16" if weight_format == "bf16" else weight_format)  # the same bytes
    room = sum(device.memory_bytes - device.reserve_bytes for device in hardware_of(box.on).devices)
    held = (room - spec.weight_bytes) / (spec.kv_bytes_per_token * load.context)
    return next((limit for limit in LIMITS if limit > held), LIMITS[-1])


def command_of_box(load: Load, box: Box, weight_format: str = "fp16") -> str:
    """The command that prints what box_plan() gives."""
    return command_of(load.model, replace(box_plan(load, box, weight_format).request, on=box.on))


def _request_of(load: Load, box: Box, weight_format: str, max_num_seqs: int) -> PlanRequest:
    return PlanRequest(
        on=box.on,
        format=weight_format,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        max_num_seqs=max_num_seqs,
        p2p=box.p2p,
        network=box.network,
    )


def command_of(model: str, request: PlanRequest) -> str:
    """The command that prints this plan."""
    default, words = PlanRequest(), ["farthing plan", model, "--on", request.on.replace(" ", "")]
    for field in fields(PlanRequest):
        value = getattr(request, field.name)
        if field.name == "on" or value == getattr(default, field.name):
            continue
        flag = field.name.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return " ".join(words)


def tokens_per_second(plan: Plan) -> float:
    """Of the answers, all sequences together, in the layout that gives most; 0 where none fits or none has a time."""
    return plan.most_tokens.full.output_tokens_per_second if plan.choices else 0.0


def one_stream(plan: Plan) -> float:
    """Tokens per second of one answer alone, in the layout that is fastest; 0 as above."""
    return max((1 / choice.speed.decode.seconds for choice in plan.choices), default=0.0)


def choice_of(plan: Plan, tp: int, pp: int) -> Choice | None:
    """One replica over all devices, divided like that; None where it does not fit."""
    for choice in plan.choices:
        layout = choice.placement.layout
        if (layout.tp, layout.pp, layout.replicas) == (tp, pp, 1):
            return choice
    return None


def room_for_tokens(plan: Plan) -> int:
    """Of KV in one replica, in the layout that has most."""
    rooms = [max(choice.placement.kv_tokens_per_replica) for choice in plan.choices]
    return max(rooms, default=max(plan.placement.kv_tokens_per_replica))


@cache
def training_of(model: str, on: str, method: Method = "full", tokens: str | None = None) -> TrainingAnswer:
    """At the rent of the hardware. `tokens`: by default what full training takes."""
    hardware, request = hardware_of(on), TrainingRequest(tokens=tokens, method=method)
    hourly = hourly_price(hardware.devices, None).dollars_per_hour
    return answer_training(model, config_of(find_model(model)), hardware, request, dollars_per_hour=hourly)


def card(id: str) -> Accelerator:
    return load_accelerator(id)
