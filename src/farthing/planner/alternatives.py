"""What would fit where a plan does not: a narrower format, a shorter context, more of the same cards.

Knows memory only; no seconds and no prices.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from farthing.errors import FarthingError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.planner.device import Device
from farthing.planner.formats import candidate_formats, precision_of
from farthing.planner.layout import Placement, layouts, place
from farthing.planner.request import PlanRequest

_MAX_CARDS = 64


def what_would_fit(config: ConfigReader, devices: Sequence[Device], request: PlanRequest) -> tuple[str, ...]:
    """A phrase each, with the flag that does it; empty if nothing of this kind helps."""
    return tuple(_phrases(config, devices, request))


def _phrases(config: ConfigReader, devices: Sequence[Device], request: PlanRequest) -> Iterator[str]:
    tried = replace(request, format="auto", tp=None, pp=None, replicas=None)
    for narrower in candidate_formats(tried, config, devices):
        placement = _first_fitting(config, devices, replace(tried, format=narrower.name))
        if placement is not None:
            layout = placement.layout
            yield (
                f"--format {narrower.name} (tp {layout.tp}, pp {layout.pp}, replicas {layout.replicas}): KV room for "
                f"{placement.num_sequences} sequences of {placement.context:,} tokens"
            )
            break
    floor = request.input_tokens + request.output_tokens
    for context in (2048, 1024, 512, 256):
        if (request.context is None or context < request.context) and context >= floor:
            placement = _first_fitting(config, devices, replace(request, context=context))
            if placement is not None:
                yield f"--context {context}"
                break
    accelerator = devices[0].accelerator
    can_be_had = accelerator is None or accelerator.sale != "not-sold"
    if can_be_had and len({device.name for device in devices}) == 1:
        for count in range(len(devices) + 1, _MAX_CARDS + 1):
            more = replace(request, tp=1, pp=count, replicas=1)
            placement = _first_fitting(config, [devices[0]] * count, more)
            if placement is not None:
                yield (
                    f"{count}x {devices[0].name} in a pipeline: KV room for {placement.num_sequences} sequences of "
                    f"{placement.context:,} tokens"
                )
                break


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
