"""What would fit where a plan does not: a narrower format, a shorter context, more of the same cards.

Knows memory only; no seconds and no prices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from farthing.errors import FarthingError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.planner.formats import candidate_formats, narrow_kv_format, precision_of
from farthing.planner.layout import Placement, layouts, place
from farthing.planner.request import PlanRequest
from farthing.planner.timing.device import Device

_MAX_CARDS = 64
_CONTEXT_STEP = 256


def what_would_fit(
    config: ConfigReader, devices: Sequence[Device], request: PlanRequest, context: int
) -> tuple[str, ...]:
    """A phrase each, with the flag that does it; empty if nothing of this kind helps. `context`: what did not fit."""
    return tuple(_phrases(config, devices, replace(request, context=context)))


def _phrases(config: ConfigReader, devices: Sequence[Device], request: PlanRequest) -> Iterator[str]:
    free = replace(request, format="auto", tp=None, pp=None, replicas=None)
    narrower = _first_fitting(config, devices, free)
    if narrower is not None:
        layout = narrower.layout
        split = f"tp {layout.tp}, pp {layout.pp}, replicas {layout.replicas}"
        yield f"--format {_format_of(narrower)} ({split}): {_room(narrower)}"
    if request.kv_format == "auto" and narrower is None:
        narrow = narrow_kv_format(devices)
        smaller = _first_fitting(config, devices, replace(free, kv_format=narrow))
        if smaller is not None:
            yield f"--kv-format {narrow} with --format {_format_of(smaller)}: {_room(smaller)}"
    shorter = _longest_context(config, devices, request)
    if shorter is not None:
        yield f"--context {shorter.context} with --format {_format_of(shorter)}"
    accelerator = devices[0].accelerator
    can_be_had = accelerator is None or accelerator.sale != "not-sold"
    if can_be_had and len({device.name for device in devices}) == 1:
        for count in range(len(devices) + 1, _MAX_CARDS + 1):
            more = _first_fitting(config, [devices[0]] * count, replace(request, tp=1, pp=count, replicas=1))
            if more is not None:
                yield f"{count}x {devices[0].name} in a pipeline, --format {_format_of(more)}: {_room(more)}"
                break


def _format_of(placement: Placement) -> str:
    return placement.layout.stages[0].precision.format.name


def _room(placement: Placement) -> str:
    plural = "s" * (placement.num_sequences != 1)
    return f"KV room for {placement.num_sequences:,} sequence{plural} of {placement.context:,} tokens"


def _longest_context(config: ConfigReader, devices: Sequence[Device], request: PlanRequest) -> Placement | None:
    """The longest context, in steps of _CONTEXT_STEP, that fits and holds prompt and answer; None if none does."""
    low = -(-(request.prompt_tokens + request.answer_tokens) // _CONTEXT_STEP)
    high = (request.context or 0) // _CONTEXT_STEP
    found = None
    while low <= high:  # what fits in a context fits in a shorter one
        middle = (low + high) // 2
        placement = _first_fitting(config, devices, replace(request, context=middle * _CONTEXT_STEP))
        if placement is None:
            high = middle - 1
        else:
            found, low = placement, middle + 1
    return found


def _first_fitting(config: ConfigReader, devices: Sequence[Device], request: PlanRequest) -> Placement | None:
    """The first layout that fits in the widest format that the request allows; None if there is none."""
    for weight_format in candidate_formats(request, config, devices):
        spec = describe(config, precision_of(request, weight_format, config, devices))
        try:
            context = request.resolve_context(spec)
            for layout in layouts(spec, len(devices), request):
                placement = place(layout, devices, request, context)
                if placement.fits:
                    return placement
        except FarthingError:  # this layout or context is impossible for the model: no alternative
            continue
    return None
