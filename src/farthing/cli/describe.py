"""`farthing describe`: what a model computes - its ops with parameters, FLOPs and bytes, for a prompt and for a token.

Knows flags and how the rows look; models/op_table.py makes them. No hardware, no seconds: that is `farthing plan`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.measure import Measurement
from rich.table import Table

from farthing.cli import output
from farthing.errors import UsageError
from farthing.models.auto import config_of, stored_dtype
from farthing.models.auto import describe as describe_model
from farthing.models.config_reader import ConfigReader
from farthing.models.op_table import OpRow, op_rows
from farthing.models.parallel import parallelize
from farthing.models.reference import ModelReference, find_model
from farthing.models.spec import ModelSpec, Precision
from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.quantization.base import resolve
from farthing.units import format_bytes, format_count

SCHEMA = "farthing.describe/1"
DEFAULT_INPUT_TOKENS, DEFAULT_CONTEXT = 512, 4096
_MAX_BATCH = 1_000_000
_ANY_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class DescribeFlags:
    """In which formats, and for what work."""

    format: Annotated[str, Parameter(help="Of the weights: bf16, int8, w4a8, ...; auto: the checkpoint's.")] = "auto"
    kv_format: Annotated[str, Parameter(help="Of the KV cache; auto: as the activations.")] = "auto"
    input_tokens: Annotated[
        int | None, Parameter(help="Tokens of the prompt that is prefilled. Default: min(512, the model's).")
    ] = None
    context: Annotated[
        int | None, Parameter(help="Tokens that a decoded one attends to. Default: min(4096, the model's).")
    ] = None
    batch: Annotated[int, Parameter(help="Sequences at a time.")] = 1
    tp: Annotated[int, Parameter(help="Tensor-parallel ranks: the rows are those of one.")] = 1
    pp: Annotated[int, Parameter(help="Pipeline stages: the rows are all of them together.")] = 1
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False

    def __post_init__(self) -> None:
        for name in ("input_tokens", "context", "batch", "tp", "pp"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {value}", fix="it must be at least 1")
        if self.batch > _MAX_BATCH:
            raise UsageError(f"--batch is {self.batch}", fix=f"it must be at most {_MAX_BATCH}")


@dataclass(frozen=True, slots=True)
class _Described:
    """The answer: `spec` is the whole model, `rows` are those of one tensor-parallel rank of all `stages`."""

    reference: ModelReference
    flags: DescribeFlags
    spec: ModelSpec
    stages: tuple[ModelSpec, ...]
    phases: dict[str, BatchShape]
    rows: tuple[OpRow, ...]


_DEFAULTS = DescribeFlags()


def describe(
    model: Annotated[str, Parameter(help="Alias, folder, config.json or .gguf file.")],
    /,
    *,
    flags: Annotated[DescribeFlags, Parameter(name="*")] = _DEFAULTS,
) -> None:
    """What a model computes."""
    reference = find_model(model)
    config = config_of(reference)
    spec = describe_model(config, _precision(flags, config))
    phases = _phases(flags, spec)
    stages = parallelize(spec, flags.tp, flags.pp)
    rows = op_rows(stages, tuple(phases.values()))
    described = _Described(reference, flags, spec, stages, phases, rows)
    if flags.json:
        output.print_json(_to_json_object(described))
    else:
        _print(described)


def _precision(flags: DescribeFlags, config: ConfigReader) -> Precision:
    """int8 and int4 are those of GPUs here, weights only; activations stay in the checkpoint's 16 bits."""
    stored = stored_dtype(config)
    weight_format = resolve(stored if flags.format == "auto" else flags.format, "cuda")
    activations = stored if weight_format.quantized and stored != "fp32" else None
    return Precision.of(weight_format, activations).with_kv_format(flags.kv_format)


def _phases(flags: DescribeFlags, spec: ModelSpec) -> dict[str, BatchShape]:
    """UsageError if the model does not compute as many tokens."""
    input_tokens = flags.input_tokens or min(DEFAULT_INPUT_TOKENS, spec.max_positions)
    context = flags.context or min(DEFAULT_CONTEXT, spec.max_positions)
    for flag, value in (("--input-tokens", input_tokens), ("--context", context)):
        if value > spec.max_positions:
            raise UsageError(
                f"{flag} {value} is above {spec.max_positions} ({spec.max_positions_reason})",
                fix=f"stay within {spec.max_positions} tokens",
            )
    return {
        "prefill": BatchShape.prefill(input_tokens, flags.batch),
        "decode": BatchShape.decode(context - 1, flags.batch),
    }


def _print(described: _Described) -> None:
    flags, spec, phases, stages = described.flags, described.spec, described.phases, described.stages
    show = output.stdout.print
    show(_headline(described.reference, spec), soft_wrap=True)
    if spec.plan_only:
        show("plan only: Farthing plans models with experts, its engine does not run them", soft_wrap=True)
    prompts, tokens = _number(flags.batch, "prompt"), _number(flags.batch, "token")
    input_tokens, context = phases["prefill"].sequences[0][0], phases["decode"].sequences[0][1] + 1
    show(
        f"prefill: {prompts} of {_number(input_tokens, 'token')} · decode: {tokens} in a context of {context:,}",
        soft_wrap=True,
    )
    if len(stages) > 1 or flags.tp > 1:
        part = f"1 of {flags.tp} tensor-parallel ranks" if flags.tp > 1 else "the whole model"
        weights = ", ".join(format_bytes(stage.weight_bytes) for stage in stages)
        show(f"rows: {part}, {_number(flags.pp, 'pipeline stage')} with weights of {weights}", soft_wrap=True)
    show()
    table = _table(described.rows)
    unlimited = output.stdout.options.update(width=_ANY_WIDTH)
    table.width = Measurement.get(output.stdout, unlimited, table).maximum  # a line goes on rather than lose its end
    show(table, crop=False)
    for experts, _ in spec.experts:
        touched = ", ".join(f"{experts.num_touched(batch.num_tokens):.1f} in {name}" for name, batch in phases.items())
        show(
            f"\nof its {experts.num_experts} experts a layer reads {touched}: each token is taken to choose "
            f"{experts.experts_per_token} of them at random",
            soft_wrap=True,
        )


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count > 1)}"


def _headline(reference: ModelReference, spec: ModelSpec) -> str:
    parameters, weights = f"{format_count(spec.num_parameters)} parameters", format_bytes(spec.weight_bytes)
    if spec.experts:
        parameters += f" ({format_count(spec.num_active_parameters)} active)"
        weights += f" ({format_bytes(spec.active_weight_bytes)} active)"
    parts = [
        reference.name,
        spec.family,
        f"{len(spec.layers)} layers",
        parameters,
        f"weights {weights} in {spec.precision.format.name}",
        f"KV {format_bytes(spec.kv_bytes_per_token)} a token in {spec.precision.kv_dtype}",
        f"context up to {spec.max_positions:,}",
    ]
    return " · ".join([*parts, f"hub {reference.repository}"] if reference.repository else parts)


def _table(rows: Sequence[OpRow]) -> Table:
    """A row per kind of op, the sum below; bytes are those read and written."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_footer=True)
    sums = [sum((row.costs[phase] for row in rows), Cost()) for phase in range(2)]
    communicates = any(cost.comm_bytes for cost in sums)
    table.add_column("op", footer="total", no_wrap=True)
    table.add_column("size", no_wrap=True)
    table.add_column("parameters", footer=format_count(sum(row.num_parameters for row in rows)), justify="right")
    for phase, cost in zip(("prefill", "decode"), sums, strict=True):
        for heading, footer in zip(("FLOP", "moved", "sent"), _cells(cost, communicates), strict=False):
            table.add_column(f"{phase} {heading}", footer=footer, justify="right", no_wrap=True)
    for row in rows:
        cells = [cell for cost in row.costs for cell in _cells(cost, communicates)]
        name = f"{row.name} x {row.count}" if row.count > 1 else row.name
        table.add_row(name, row.size, format_count(row.num_parameters) if row.num_parameters else "", *cells)
    return table


def _cells(cost: Cost, communicates: bool) -> tuple[str, ...]:
    """FLOPs, bytes read and written and, where ranks communicate, bytes sent; nothing in place of a zero."""
    flops = format_count(cost.total_flops) if cost.total_flops else ""
    moved = format_bytes(cost.moved_bytes) if cost.moved_bytes else ""
    sent = format_bytes(cost.comm_bytes) if cost.comm_bytes else ""
    return (flops, moved, sent) if communicates else (flops, moved)


def _to_json_object(described: _Described) -> dict[str, Any]:
    """Of the whole model; `ops`, `stages` and the phases' costs are those of one tensor-parallel rank."""
    spec, phases, rows = described.spec, described.phases, described.rows
    return {
        "schema": SCHEMA,
        "model": described.reference.name,
        "hub_id": described.reference.repository,
        "family": spec.family,
        "plan_only": spec.plan_only,
        "format": spec.precision.format.name,
        "activation_dtype": spec.precision.activation_dtype,
        "kv_format": spec.precision.kv_dtype,
        "num_layers": len(spec.layers),
        "num_parameters": spec.num_parameters,
        "num_active_parameters": spec.num_active_parameters,
        "weights_bytes": spec.weight_bytes,
        "active_weights_bytes": spec.active_weight_bytes,
        "kv_bytes_per_token": spec.kv_bytes_per_token,
        "max_context": spec.max_positions,
        "max_context_reason": spec.max_positions_reason,
        "tp": described.flags.tp,
        "pp": described.flags.pp,
        "stages": [
            {
                "first_layer": stage.first_layer,
                "num_layers": len(stage.layers),
                "num_parameters": stage.num_parameters,
                "weights_bytes": stage.weight_bytes,
                "kv_bytes_per_token": stage.kv_bytes_per_token,
            }
            for stage in described.stages
        ],
        "phases": {
            name: {
                "num_sequences": batch.num_sequences,
                "new_tokens": batch.sequences[0][0],
                "context_tokens": batch.sequences[0][1],
                **_cost_object(sum((row.costs[index] for row in rows), Cost())),
            }
            for index, (name, batch) in enumerate(phases.items())
        },
        "ops": [
            {
                "name": row.name,
                "kind": row.kind,
                "count": row.count,
                "size": row.size,
                "num_parameters": row.num_parameters,
                "weights_bytes": row.weight_bytes,
                **{name: _cost_object(cost) for name, cost in zip(phases, row.costs, strict=True)},
            }
            for row in rows
        ],
    }


def _cost_object(cost: Cost) -> dict[str, Any]:
    return {
        "flops": cost.total_flops,
        "flops_by_math": dict(cost.flops),
        "read_bytes": cost.read_bytes,
        "write_bytes": cost.write_bytes,
        "comm_bytes": cost.comm_bytes,
    }
