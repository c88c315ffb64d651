"""The laws that a claim is held against, each with its arithmetic line by line: size, card, memory, bandwidth, compute.

Every law answers with findings, or with the reason why it can't be applied. Knows no text and no terminal;
planner/claims/factcheck.py gathers the answers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from farthing.planner.claims.claim import Claim
from farthing.planner.claims.claim_limits import BOOST, Limits
from farthing.units import format_bytes, format_count, format_seconds

Outcome = Literal["possible", "suspicious", "impossible"]

# The best published single stream reads at 0.91 of the nominal bandwidth (llama.cpp F16 on an RTX 4080).
NEAR = 0.95
# Published streams that read so many bytes in each step from one GDDR card reach 0.44 of their ceiling and more. HBM
# parts and smaller models, where other times than the reading count, go down to 0.14.
SLOW = 1 / 3
SLOW_FROM_BYTES = 3e9
# Tokens of a step, with a draft: published speculation accepts 2 to 6.
SPECULATED_TOKENS = 8
# A CUDA context takes 0.51 GiB (vLLM 0.19 on H100): weights that leave less have no room to compute in.
LEAST_CONTEXT_BYTES = 2**29
# "24 GiB" of a card with 23.99 is rounded, not wrong.
ROUNDING = 1.001

_WIDTHS = (16, 8, 6, 5, 4, 3, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One law, applied: what is claimed and its limit, both in `unit` ("tokens/s", "s" or "B"), and the arithmetic.

    `at_most`: whether the limit is the most that is possible (of speeds, of weights in a memory) or the least.
    """

    law: str
    outcome: Outcome
    claimed: float
    limit: float
    unit: str
    says: str
    arithmetic: tuple[str, ...]
    remedies: tuple[str, ...] = ()
    at_most: bool = True

    @property
    def closeness(self) -> float:
        """1 at the limit, more beyond it."""
        return self.claimed / self.limit if self.at_most else self.limit / self.claimed


Answer = Finding | str


def size(claim: Claim, limits: Limits) -> Iterator[Answer]:
    """The weights take at least their bits: a smaller size is not that model in that format."""
    if claim.size is None:
        return
    bits, model = limits.weights, limits.model
    arithmetic = [f"{_values(model.num_parameters)} weights x {bits.least:g} bits / 8 = {_gb(limits.held_bytes)}"]
    usual = model.num_parameters * bits.usual / 8
    if bits.plain_ends and model.end_parameters:
        usual += model.end_parameters * (16 - bits.usual) / 8
        arithmetic.append(f"published files, with embedding and head in 16 bits, come to about {_gb(usual)}")
    elif usual > limits.held_bytes:
        arithmetic.append(f"published files have about {bits.usual:g} bits per weight, {_gb(usual)}")
    outcome: Outcome = "possible"
    says = f"{claim.size.text} hold the weights"
    if claim.size.most_bytes < limits.held_bytes and claim.offload:
        outcome, says = "suspicious", f"only a part of the {_gb(limits.held_bytes)} of weights is in {claim.size.text}"
    elif claim.size.most_bytes < limits.held_bytes:
        outcome, says = "impossible", f"the weights take {_gb(limits.held_bytes)}, not {claim.size.text}"
    elif claim.size.rounded_bytes < usual:
        outcome, says = "suspicious", f"{claim.size.text} is below the {_gb(usual)} of published files"
    remedies = _narrower(claim.size.most_bytes * 8 / model.num_parameters) if outcome == "impossible" else ()
    face, least = claim.size.face_bytes, limits.held_bytes
    yield Finding("size", outcome, face, least, "B", says, tuple(arithmetic), remedies, at_most=False)


def card(claim: Claim, limits: Limits) -> Iterator[Answer]:
    """A card that is sold with another memory than the claim says."""
    if claim.card_size is None or not claim.devices or claim.card_size.labels(claim.devices[0]):
        return
    device = claim.devices[0]
    if device.nominal_bytes is None:
        yield f"the memory of {device.id} is unknown"
        return
    nominal = device.nominal_bytes.value
    says = f"the catalogue's {device.id} has {format_bytes(nominal)}, not {claim.card_size.text}"
    yield Finding("card", "suspicious", claim.card_size.face_bytes, nominal, "B", says, ())


def usable_memory(claim: Claim) -> Iterator[Answer]:
    """Of a claim about a device alone: what programs can use is what the driver reports."""
    device, said = claim.devices[0], claim.size or claim.card_size
    assert said is not None
    if device.usable_bytes is None:
        yield f"the usable memory of {device.id} is unknown"
        return
    usable = device.usable_bytes.value
    outcome: Outcome = "impossible" if said.face_bytes > usable * ROUNDING else "possible"
    says = f"of {device.id} programs can use {format_bytes(usable)}"
    says += f", not {said.text}" if outcome == "impossible" else f", which is {said.text} or more"
    arithmetic = (f"{said.text} = {said.face_bytes:,.0f} bytes; the driver reports {usable:,} bytes",)
    yield Finding("card", outcome, said.face_bytes, usable, "B", says, arithmetic)


def memory(claim: Claim, limits: Limits) -> Iterator[Answer]:
    """The weights, and the keys and values of a stated context, fit the devices - or a part lies in host memory."""
    if not claim.devices:
        return
    if limits.memory_bytes is None:
        yield "the memory of the hardware is unknown"
        return
    bits, model, room = limits.weights, limits.model, limits.memory_bytes
    needed = limits.held_bytes
    arithmetic = [f"{_values(model.num_parameters)} weights x {bits.least:g} bits / 8 = {format_bytes(needed)}"]
    if claim.input_tokens and not claim.states_speed:
        count = claim.num_sequences or 1
        keys = limits.kv_bytes(count, claim.input_tokens)
        needed += keys
        arithmetic.append(f"{count} x {claim.input_tokens:,} tokens of KV in 4 bits = {format_bytes(keys)}")
    arithmetic.append(f"{_hardware(claim)} has {format_bytes(room)}")
    remedies: list[str] = []
    outcome: Outcome = "possible"
    says = f"{format_bytes(needed)} fit {format_bytes(room)}"
    if needed > room:
        outcome = "possible" if claim.offload else "suspicious" if claim.states_speed else "impossible"
        says = f"{format_bytes(needed)} do not fit {format_bytes(room)}"
        says += ": a part must lie in host memory" if outcome != "impossible" else ""
        remedies += _narrower(room * 8 / model.num_parameters)
        remedies.append(f"at least {math.ceil(needed / room * len(claim.devices))} such devices")
        if not claim.offload:
            remedies.append("a part of the weights in host memory, if the claim says so")
    elif needed > room - LEAST_CONTEXT_BYTES * len(claim.devices):
        outcome = "suspicious"
        says += f", and leave {format_bytes(room - needed)} for the driver's context, KV and activations"
    yield Finding("memory", outcome, needed, room, "B", says, tuple(arithmetic), tuple(remedies))


def decode(claim: Claim, limits: Limits) -> Iterator[Answer]:
    """Every step reads the weights once and gives each sequence a token."""
    context = (claim.input_tokens or 0) + (claim.output_tokens or 0) / 2
    many = claim.batched and claim.num_sequences is None
    if claim.decode_tokens_per_second is not None:
        count = limits.room_for_sequences(context) if many else claim.num_sequences or 1
        yield from _bandwidth(claim, limits, claim.decode_tokens_per_second, count, context)
        yield from _compute(claim, limits, "compute", claim.decode_tokens_per_second, limits.model.decode_parameters)
    if claim.tpot_seconds is not None:
        count = claim.num_sequences or 1
        rate = count / claim.tpot_seconds
        yield from _bandwidth(claim, limits, rate, count, context)
        yield from _compute(claim, limits, "compute", rate, limits.model.decode_parameters)


def _bandwidth(claim: Claim, limits: Limits, rate: float, count: int | None, context: float) -> Iterator[Answer]:
    if limits.bandwidth is None:
        yield "the memory bandwidth of the hardware is unknown"
        return
    if count is None:
        yield "a throughput of unknown batch and context is bounded by compute alone"
        return
    num_bytes = limits.step_bytes(count, context)
    seconds = limits.read_seconds(num_bytes)
    if not seconds:
        yield "the weights fit in caches, whose bandwidth the catalogue does not have"
        return
    ceiling = count / seconds
    ratio = rate / ceiling
    weights = f"{_values(limits.model.decode_parameters)} weights x {limits.weights.least:g} bits / 8"
    arithmetic = [f"a step reads {weights} = {_gb(limits.step_weight_bytes)}"]
    if keys := limits.kv_bytes(count, context):
        arithmetic.append(f"and {count} x {context:,.0f} tokens of KV, in 4 bits at least: {_gb(keys)}")
    if limits.cache_bytes:
        arithmetic.append(f"less {_gb(limits.cache_bytes)} that caches may keep: {_gb(num_bytes)}")
    if limits.spilled_share:
        host = format_count(limits.host_bytes_per_second, "B/s")
        inside = _tps(count * limits.bandwidth / num_bytes)
        arithmetic.append(f"{limits.spilled_share:.0%} of it does not fit the devices and comes at {host}")
        arithmetic.append(f"({inside} if it did fit)")
    arithmetic.append(
        f"at {format_count(limits.bandwidth, 'B/s')} nominal: {format_seconds(seconds)} a step of {count} "
        f"token{'s' * (count > 1)} = {_tps(ceiling)}"
    )
    says = _against(rate, ceiling)
    outcome: Outcome = "possible"
    if claim.speculation:
        outcome = "suspicious" if ratio > SPECULATED_TOKENS else "possible"
        says += f"; speculation would have to keep {max(ratio, 1.0):.1f} tokens of a step"
    elif ratio > 1:
        outcome = "impossible"
    elif ratio > NEAR:
        outcome = "suspicious"
        says += "; published engines reach at most 0.91 of the nominal bandwidth"
    elif ratio < SLOW and count == 1 and num_bytes >= SLOW_FROM_BYTES and _is_plain_stream(claim, limits):
        outcome = "suspicious"
        says += "; lower than what published engines reach on such a card, 0.44 and more"
    remedies = _faster(claim, limits, rate, count, ratio) if outcome == "impossible" else ()
    yield Finding("bandwidth", outcome, rate, ceiling, "tokens/s", says, tuple(arithmetic), remedies)


def _is_plain_stream(claim: Claim, limits: Limits) -> bool:
    """One stream of one card with GDDR memory that holds the weights, and no server under load."""
    held = not limits.spilled_share and not claim.offload
    unloaded = claim.tpot_seconds is None or claim.num_sequences == 1
    return held and unloaded and len(claim.devices) == 1 and "GDDR" in (claim.devices[0].memory_type or "")


def _faster(claim: Claim, limits: Limits, rate: float, count: int, ratio: float) -> tuple[str, ...]:
    """What would lift the ceiling to the claimed rate."""
    remedies = []
    if claim.tpot_seconds is None:
        at_once = math.ceil(rate * (limits.read_seconds(limits.step_bytes(1)) or 0))
        if at_once > count:
            remedies.append(f"a batch of at least {at_once} sequences, if the claim is a throughput and says so")
    if ratio <= SPECULATED_TOKENS:
        remedies.append(f"speculation that keeps {ratio:.1f} tokens of a step, if the claim names it")
    remedies += _narrower(limits.weights.least / ratio)
    if not limits.spilled_share:
        devices = len(claim.devices)
        remedies.append(f"tensor parallelism over at least {math.ceil(ratio * devices)} such devices")
    return tuple(remedies)


def prefill(claim: Claim, limits: Limits) -> Iterator[Answer]:
    """Every token of a prompt is multiplied by the weights of the layers."""
    if claim.prefill_tokens_per_second is not None:
        rate = claim.prefill_tokens_per_second
        yield from _compute(claim, limits, "prefill compute", rate, limits.model.prefill_parameters)


def _compute(claim: Claim, limits: Limits, law: str, rate: float, parameters: float) -> Iterator[Answer]:
    if limits.peak_flops is None:
        yield "the FLOP/s of the hardware in this math are unknown"
        return
    flops = 2 * parameters
    ceiling = limits.peak_flops * BOOST / flops
    outcome: Outcome = "impossible" if rate > ceiling else "suspicious" if rate > ceiling / BOOST else "possible"
    arithmetic = (
        f"a token takes 2 x {_values(parameters)} weights = {format_count(flops, 'FLOP')}",
        f"{format_count(limits.peak_flops, 'FLOP/s')} rated x {BOOST:g} for clocks above it = {_tps(ceiling)}",
    )
    says = _against(rate, ceiling)
    says += "; above the rated peak" if outcome == "suspicious" else ""
    remedy = f"at least {math.ceil(rate / ceiling * len(claim.devices))} such devices"
    remedies = (remedy,) if outcome == "impossible" else ()
    yield Finding(law, outcome, rate, ceiling, "tokens/s", says, arithmetic, remedies)


def first_token(claim: Claim, limits: Limits) -> Iterator[Answer]:
    """The first token comes after the weights were read once, and after the prompt was computed or found in a cache."""
    if claim.ttft_seconds is None:
        return
    seconds = limits.read_seconds(limits.step_bytes())
    if not seconds:
        yield "the memory bandwidth of the hardware is unknown, or its caches hold the weights"
        return
    arithmetic = [f"the weights are read once: {_gb(limits.step_bytes())} in {format_seconds(seconds)}"]
    outcome: Outcome = "impossible" if claim.ttft_seconds < seconds else "possible"
    says = f"{format_seconds(claim.ttft_seconds)} against at least {format_seconds(seconds)}"
    if claim.input_tokens and limits.peak_flops:
        computing = 2 * limits.model.prefill_parameters * claim.input_tokens / (limits.peak_flops * BOOST)
        arithmetic.append(f"{claim.input_tokens:,} tokens take {format_seconds(computing)} at peak, unless cached")
        if outcome == "possible" and claim.ttft_seconds < computing:
            outcome, says = "suspicious", f"{says}; {format_seconds(computing)} unless the prompt was cached"
    yield Finding("first token", outcome, claim.ttft_seconds, seconds, "s", says, tuple(arithmetic), at_most=False)


def _narrower(bits: float) -> tuple[str, ...]:
    """The widest usual format of at most so many bits, if there is one."""
    usual = next((width for width in _WIDTHS if width <= bits), None)
    return () if usual is None else (f"weights of {usual} bits or fewer",)


def _against(rate: float, ceiling: float) -> str:
    ratio = rate / ceiling
    times = f"{ratio:.2f}x" if ratio >= 0.1 else f"{100 * ratio:.2g} % of"
    return f"{_tps(rate)} is {times} the ceiling of {_tps(ceiling)}"


def _tps(rate: float) -> str:
    return f"{rate:,.0f} tokens/s" if rate >= 100 else f"{rate:.3g} tokens/s"


def _values(count: float) -> str:
    return format_count(count)


def _gb(num_bytes: float) -> str:
    return format_count(num_bytes, "B")


def _hardware(claim: Claim) -> str:
    assert claim.cluster is not None
    return claim.cluster.name
