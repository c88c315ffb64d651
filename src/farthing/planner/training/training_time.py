"""How long training takes and what it costs: 6 x parameters x tokens against what the devices reach, and what their
links carry meanwhile.

A closed form of one way to divide the model (training_search.py). Collectives of data parallel ranks and sends between
stages overlap with computing, those inside tensor-parallel layers do not. Sources: 6 N D and 20 tokens a parameter,
Hoffmann et al. 2022 (arXiv 2203.15556); MFU, the Llama 3 report (arXiv 2407.21783: 38 to 43 % of 8,000 to 16,000 H100);
tokens of a step, Llama 2 (arXiv 2307.09288); what ZeRO says, Rajbhandari et al. 2020 (arXiv 1910.02054); 1F1B's bubble
and recomputation, Korthikanti et al. 2022 (arXiv 2205.05198). Knows no memory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from farthing.hardware.accelerator import Accelerator
from farthing.models.spec import ModelSpec
from farthing.models.training import TrainingSetup
from farthing.planner.hardware import Hardware
from farthing.planner.timing.links import RankLink, stage_link, tensor_link

MFU = 0.40
TOKENS_PER_PARAMETER = 20
STEP_TOKENS = 4 * 10**6
_WIDTH_BYTES = 2
_PASSES = 6  # forward 2, gradients of inputs 2, of weights 2
_FROZEN_PASSES = 4  # without the gradients of the weights


@dataclass(frozen=True, slots=True)
class TrainingTime:
    """Seconds are those of the whole run on all devices. `bubble`: part of the computing time in which stages wait.

    `passes`: FLOP of a parameter and token, 6, or 4 where only adapters learn. `link_seconds`: what each kind of
    message takes, if nothing else ran; `ways`: the same over the computing, for each way to divide the model over all
    devices. `dollars_per_hour`: of all devices together.
    """

    num_parameters: int
    passes: int
    tokens: int
    flops: float
    peak_flops_per_second: float
    mfu: float
    compute_seconds: float
    bubble: float
    recomputes: bool
    link_seconds: Mapping[str, float]
    seconds: float
    device_hours: float
    dollars_per_hour: float | None
    notes: tuple[str, ...]
    ways: Mapping[str, float] = field(default_factory=dict)

    @property
    def dollars(self) -> float | None:
        return None if self.dollars_per_hour is None else self.dollars_per_hour * self.seconds / 3600

    @property
    def link_to_compute(self) -> float:
        """Above 1 the devices wait for their links, whatever overlaps."""
        return math.fsum(self.link_seconds.values()) / self.compute_seconds


@dataclass(frozen=True, slots=True)
class _Message:
    """`wire_bytes` over the link of every rank for each token of the run."""

    name: str
    wire_bytes: float
    link: RankLink
    overlaps: bool


def training_time(
    spec: ModelSpec,
    setup: TrainingSetup,
    hardware: Hardware,
    *,
    tokens: int | None = None,
    mfu: float | None = None,
    p2p: bool | None = None,
    network: float = 1.25e9,
    dollars_per_hour: float | None = None,
) -> TrainingTime | None:
    """None where a rate in 16 bits is not known. `network`: bytes/s of a node, each way."""
    assert setup.num_devices == len(hardware.devices)
    accelerators = [device.accelerator for device in hardware.devices]
    known = [one for one in accelerators if one is not None]
    rates = [rate for one in known if (rate := _rate(one)) is not None]
    if len(rates) < len(accelerators):
        return None
    num_tokens = tokens or TOKENS_PER_PARAMETER * spec.num_parameters
    passes = _PASSES if setup.lora_rank is None else _FROZEN_PASSES
    flops = passes * spec.num_active_parameters * num_tokens
    peak = min(rates) * len(rates)
    share = mfu or MFU
    recomputes = setup.recompute == "full"
    again = (passes + 2) / passes if recomputes else 1.0
    micro_batches = max(1.0, STEP_TOKENS / (setup.num_tokens * setup.data_parallel))
    bubble = (setup.pp - 1) / (micro_batches + setup.pp - 1)
    compute = flops * again / (peak * share) / (1 - bubble)
    messages = list(_messages(spec, setup, known, hardware.nodes, micro_batches, p2p, network))
    per_rank = num_tokens / setup.data_parallel
    seconds = {message.name: per_rank * message.wire_bytes / message.link.bytes_per_second for message in messages}
    hidden = math.fsum(seconds[message.name] for message in messages if message.overlaps)
    inside = math.fsum(seconds[message.name] for message in messages if not message.overlaps)
    total = max(compute + inside, hidden)
    notes = [
        f"{share:.0%} of the dense 16-bit peak (MFU), as --mfu says"
        if mfu
        else f"{share:.0%} of the dense 16-bit peak (MFU): Llama 3 reached 38 to 43 % on H100 (arXiv 2407.21783)",
        f"{STEP_TOKENS / 1e6:.0f} M tokens a step (Llama 2, arXiv 2307.09288); messages of data parallel ranks overlap "
        "with computing",
    ]
    if tokens is None:
        notes.append(f"{TOKENS_PER_PARAMETER} tokens a parameter (Hoffmann et al. 2022); --tokens says others")
    notes += dict.fromkeys(message.link.note for message in messages)
    return TrainingTime(
        num_parameters=spec.num_active_parameters,
        passes=passes,
        tokens=num_tokens,
        flops=flops,
        peak_flops_per_second=peak,
        mfu=share,
        compute_seconds=compute,
        bubble=bubble,
        recomputes=recomputes,
        link_seconds=seconds,
        seconds=total,
        device_hours=total / 3600 * len(rates),
        dollars_per_hour=dollars_per_hour,
        notes=tuple(notes),
    )


def links_by_way(
    spec: ModelSpec, setup: TrainingSetup, hardware: Hardware, *, p2p: bool | None = None, network: float = 1.25e9
) -> dict[str, float]:
    """Seconds of the links over seconds of computing for the pure ways to use all devices, fit or not."""
    count = len(hardware.devices)
    alone = replace(setup, tp=1, pp=1, data_parallel=1, zero_stage=0)
    ways = {f"ZeRO 3 over {count}": replace(alone, data_parallel=count, zero_stage=3)}
    ways[f"data parallel {count}"] = replace(alone, data_parallel=count)
    if count <= len(spec.layers):
        ways[f"pipeline {count}"] = replace(alone, pp=count)
    if all(layer.attention.num_heads % count == 0 for layer, _ in spec.distinct_layers):
        ways[f"tensor parallel {count}"] = replace(alone, tp=count)
    times = {name: training_time(spec, way, hardware, p2p=p2p, network=network) for name, way in ways.items()}
    return {name: time.link_to_compute for name, time in times.items() if time is not None} if count > 1 else {}


def _rate(accelerator: Accelerator) -> float | None:
    """Dense peak in 16 bits with sums in fp32."""
    figure = accelerator.flops.get("bf16") or accelerator.flops.get("fp16")
    return None if figure is None else figure.value


def _messages(
    spec: ModelSpec,
    setup: TrainingSetup,
    accelerators: Sequence[Accelerator],
    nodes: Sequence[int],
    micro_batches: float,
    p2p: bool | None,
    network: float,
) -> Iterator[_Message]:
    """Of one rank, by what divides the model. Tensor ranks are neighbours, then stages, then data parallel ranks."""
    dp, tp, pp = setup.data_parallel, setup.tp, setup.pp
    hidden_bytes = spec.hidden_size * _WIDTH_BYTES
    if tp > 1:
        ranks = range(tp)
        link = tensor_link(
            [accelerators[rank] for rank in ranks], p2p=p2p, one_node=_one(nodes, ranks), network=network
        )
        times = 4 + (2 if setup.recompute == "full" else 0)  # all-reduces of a layer, there and back
        wire = 2 * (tp - 1) / tp * hidden_bytes * times * len(spec.layers) / pp
        yield _Message("tensor parallel", wire, link, False)
    if pp > 1:
        first, second = 0, tp
        link = stage_link(
            accelerators[first],
            accelerators[second],
            pp * tp,
            p2p=p2p,
            one_node=_one(nodes, (first, second)),
            network=network,
        )
        yield _Message("stages", 2 * hidden_bytes, link, True)
    if dp > 1:
        ranks = range(0, dp * tp * pp, tp * pp)
        one_node = _one(nodes, ranks)
        share = network if one_node else network / min(tp * pp, _per_node(nodes))  # rings that cross a node's network
        link = tensor_link([accelerators[rank] for rank in ranks], p2p=p2p, one_node=one_node, network=share)
        trained = spec.num_parameters if setup.lora_rank is None else 0
        weights = spec.num_parameters * _WIDTH_BYTES * (0.25 if setup.frozen_format else 1.0) / (tp * pp)
        part, gradients = (dp - 1) / dp, trained * _WIDTH_BYTES / (tp * pp)
        tokens_a_pass = float(setup.num_tokens)
        if setup.zero_stage == 3:
            wire = part * (2 * weights + gradients) / tokens_a_pass  # gathered there and back, gradients scattered
            yield _Message("ZeRO 3", wire, link, True)
        else:
            wire = part * 2 * gradients / (tokens_a_pass * micro_batches)
            yield _Message("gradients", wire, link, True)


def _one(nodes: Sequence[int], ranks: Sequence[int]) -> bool:
    return len({nodes[rank] for rank in ranks}) == 1


def _per_node(nodes: Sequence[int]) -> int:
    return max(nodes.count(node) for node in set(nodes))
