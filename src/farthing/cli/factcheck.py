"""`farthing factcheck`: is a claimed speed or size possible? The verdict, the ceiling and the arithmetic.

Knows flags and how an answer looks; planner/ reads the text and applies the laws. Every verdict is an answer (exit 0).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from farthing.cli import output
from farthing.errors import UsageError
from farthing.hardware.names import parse_hardware
from farthing.planner.claims.claim import FORM, Claim, Size
from farthing.planner.claims.claim_laws import Finding
from farthing.planner.claims.claim_text import parse_claim
from farthing.planner.claims.claimed_model import model_by_name
from farthing.planner.claims.factcheck import Verdict
from farthing.planner.claims.factcheck import factcheck as check
from farthing.planner.claims.weight_bits import parse_bits
from farthing.units import format_seconds


@dataclass(frozen=True, slots=True)
class FactcheckFlags:
    """What `farthing factcheck` is told beside, or instead of, the text; a flag goes before the text."""

    on: Annotated[str | None, Parameter(help="Hardware: rtx-4090, 8x4090, 2x8xh100-sxm.")] = None
    model: Annotated[str | None, Parameter(help="An alias (farthing models), a folder or a file.")] = None
    format: Annotated[str | None, Parameter(help="Of the weights: fp16, fp8, int8, awq, q4_k_m, 4.5bpw.")] = None
    decode: Annotated[float | None, Parameter(help="Output tokens/s, of all sequences together.")] = None
    prefill: Annotated[float | None, Parameter(help="Prompt tokens/s.")] = None
    tpot: Annotated[float | None, Parameter(help="Seconds between the tokens of one sequence.")] = None
    ttft: Annotated[float | None, Parameter(help="Seconds to the first token.")] = None
    batch: Annotated[int | None, Parameter(help="Sequences decoded at once; unsaid means one.")] = None
    throughput: Annotated[bool, Parameter(help="--decode is of as many sequences as the memory holds.")] = False
    memory: Annotated[str | None, Parameter(help="What the weights are said to take: 17GB.")] = None
    input_tokens: Annotated[int | None, Parameter(help="Tokens of each prompt.")] = None
    output_tokens: Annotated[int | None, Parameter(help="Tokens of each answer.")] = None
    speculative: Annotated[bool, Parameter(help="A draft lets a step give several tokens.")] = False
    offload: Annotated[bool, Parameter(help="A part of the weights lies in host memory.")] = False
    json: Annotated[bool, Parameter(help="Print the answer as one JSON object.")] = False


_DEFAULTS = FactcheckFlags()


def factcheck(text: str | None = None, /, *, flags: Annotated[FactcheckFlags, Parameter(name="*")] = _DEFAULTS) -> None:
    """Check the claim of a text, of flags, or of both.

    Parameters
    ----------
    text
        The claim in words: "RTX 4090, llama-3.1-8b fp8, 195 tok/s".
    """
    said = _claim_of(flags)
    if not (text or "").strip() and said == Claim():
        raise UsageError("nothing is claimed", fix=FORM)
    claim = parse_claim(text or "").merged(said).checked()
    verdict = check(claim)
    if flags.json:
        output.print_json(to_json_object(claim, verdict))
    else:
        output.stdout.print("\n".join(_lines(claim, verdict)), soft_wrap=True)


def _claim_of(flags: FactcheckFlags) -> Claim:
    return Claim(
        cluster=parse_hardware(flags.on) if flags.on is not None else None,
        model=model_by_name(flags.model) if flags.model is not None else None,
        weights=parse_bits(flags.format) if flags.format is not None else None,
        decode_tokens_per_second=flags.decode,
        tpot_seconds=flags.tpot,
        prefill_tokens_per_second=flags.prefill,
        ttft_seconds=flags.ttft,
        num_sequences=flags.batch,
        batched=flags.throughput,
        size=Size.parse(flags.memory) if flags.memory is not None else None,
        input_tokens=flags.input_tokens,
        output_tokens=flags.output_tokens,
        speculation=flags.speculative,
        offload=flags.offload,
    )


def _lines(claim: Claim, verdict: Verdict) -> Iterator[str]:
    """The verdict, how the claim was read, then law by law."""
    decisive = verdict.decisive
    yield f"{verdict.outcome}: {decisive.says if decisive else 'no law could be applied'}"
    yield f"  read as  {' · '.join(_reading(claim))}"
    for finding in verdict.findings:
        yield ""
        yield f"  {finding.law}: {finding.outcome} - {finding.says}"
        yield from (f"    {line}" for line in finding.arithmetic)
        if finding.outcome != "possible" and finding.remedies:
            yield "    possible with"
            yield from (f"      {remedy}" for remedy in finding.remedies)
    yield ""
    yield from (f"  assumed  {assumption}" for assumption in verdict.assumptions)
    yield from (f"  not checked  {reason}" for reason in verdict.unchecked)


def _reading(claim: Claim) -> Iterator[str]:
    if claim.cluster:
        yield claim.cluster.name
    if claim.model:
        yield claim.model.name
    if claim.weights:
        yield claim.weights.name
    if claim.decode_tokens_per_second is not None:
        yield f"{claim.decode_tokens_per_second:,g} tokens/s"
    if claim.tpot_seconds is not None:
        yield f"{format_seconds(claim.tpot_seconds)} per token"
    if claim.prefill_tokens_per_second is not None:
        yield f"prefill {claim.prefill_tokens_per_second:,g} tokens/s"
    if claim.ttft_seconds is not None:
        yield f"first token after {format_seconds(claim.ttft_seconds)}"
    if claim.num_sequences is not None:
        yield f"batch {claim.num_sequences}"
    if claim.input_tokens is not None:
        yield f"{claim.input_tokens:,} input tokens"
    if claim.output_tokens is not None:
        yield f"{claim.output_tokens:,} output tokens"
    if claim.size:
        yield f"takes {claim.size.text}"
    if claim.card_size:
        yield f"a card of {claim.card_size.text}"
    if claim.speculation:
        yield "speculation"
    if claim.offload:
        yield "host memory"


def to_json_object(claim: Claim, verdict: Verdict) -> dict[str, Any]:
    """`ceiling`: of the law that decides; null where none could be applied. `claim`: as it was read, null is unsaid."""
    decisive = verdict.decisive
    return {
        "schema": "farthing.factcheck/1",
        "verdict": verdict.outcome,
        "claim": {
            "hardware": claim.cluster.name if claim.cluster else None,
            "model": claim.model.name if claim.model else None,
            "num_parameters": claim.model.num_parameters if claim.model else None,
            "format": claim.weights.name if claim.weights else None,
            "bits_per_weight": claim.weights.least if claim.weights else None,
            "decode_tokens_per_second": claim.decode_tokens_per_second,
            "tpot_seconds": claim.tpot_seconds,
            "prefill_tokens_per_second": claim.prefill_tokens_per_second,
            "ttft_seconds": claim.ttft_seconds,
            "num_sequences": claim.num_sequences,
            "batched": claim.batched,
            "weights_bytes": claim.size.face_bytes if claim.size else None,
            "card_bytes": claim.card_size.face_bytes if claim.card_size else None,
            "input_tokens": claim.input_tokens,
            "output_tokens": claim.output_tokens,
            "speculation": claim.speculation,
            "offload": claim.offload,
        },
        "ceiling": _ceiling(decisive) if decisive else None,
        "findings": [
            {
                **_ceiling(finding),
                "outcome": finding.outcome,
                "says": finding.says,
                "arithmetic": list(finding.arithmetic),
                "remedies": list(finding.remedies),
            }
            for finding in verdict.findings
        ],
        "assumptions": list(verdict.assumptions),
        "unchecked": list(verdict.unchecked),
    }


def _ceiling(finding: Finding) -> dict[str, Any]:
    return {"law": finding.law, "claimed": finding.claimed, "limit": finding.limit, "unit": finding.unit}
