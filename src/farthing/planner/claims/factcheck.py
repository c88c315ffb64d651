"""Is a claim possible, suspicious or impossible? Holds it against every law and says how open parts were read.

A ceiling must never call a true thing impossible, so planner/claims/claim_limits.py takes nominal figures at 100 % and
reads generously what a claim leaves open. Below a ceiling, `suspicious` says that nothing published comes so close to
it, or stays so far from it. Knows no text (planner/claims/claim_text.py) and no terminal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from farthing.planner.claims import claim_laws
from farthing.planner.claims.claim import Claim
from farthing.planner.claims.claim_laws import Finding, Outcome
from farthing.planner.claims.claim_limits import Limits, limits_of
from farthing.units import format_count

WORSE: tuple[Outcome, ...] = ("possible", "suspicious", "impossible")
_LAWS = (
    claim_laws.size, claim_laws.card, claim_laws.memory, claim_laws.decode, claim_laws.prefill, claim_laws.first_token,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """`findings` in order of the laws; `assumptions`: how open parts were read; `unchecked`: what could not be."""

    outcome: Outcome
    findings: tuple[Finding, ...]
    assumptions: tuple[str, ...]
    unchecked: tuple[str, ...]

    @property
    def decisive(self) -> Finding | None:
        """Of the findings with the verdict's outcome, the one that goes furthest. Of a claim that holds and states a
        speed, one about speed: that the weights fit was not the question."""
        deciding = [finding for finding in self.findings if finding.outcome == self.outcome]
        speeds = [finding for finding in deciding if finding.law != "memory"]
        if self.outcome == "possible" and speeds:
            deciding = speeds
        return max(deciding, key=lambda finding: finding.closeness, default=None)


def factcheck(claim: Claim) -> Verdict:
    """The verdict on a claim. UsageError if a part is missing without which there is nothing to check."""
    claim = claim.checked()
    if claim.model is None:
        answers = list(claim_laws.usable_memory(claim))
        readings: tuple[str, ...] = ("the size is read as the memory that programs can use",)
    else:
        limits = limits_of(claim, claim.model)
        answers = [answer for law in _LAWS for answer in law(claim, limits)]
        readings = tuple(_readings(claim, limits))
    findings = tuple(answer for answer in answers if isinstance(answer, Finding))
    unchecked = tuple(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
    outcome = max((finding.outcome for finding in findings), key=WORSE.index, default=WORSE[0])
    return Verdict(outcome, findings, (*claim.assumptions, *readings), unchecked)


def _readings(claim: Claim, limits: Limits) -> Iterator[str]:
    """How the parts that the claim leaves open were read."""
    if limits.model.assumption:
        yield limits.model.assumption
    if claim.weights is None:
        yield f"no weight format is named: {limits.weights.least:g} bits are taken, about the smallest that people use"
    decodes = claim.decode_tokens_per_second is not None or claim.tpot_seconds is not None
    if decodes and claim.num_sequences is None:
        if claim.batched and claim.tpot_seconds is None:
            yield "many sequences at once: as many as the memory holds"
        else:
            yield "nothing is said of a batch or of many users: read as one stream"
    if decodes and not claim.speculation:
        yield "no speculation is named: a step gives each sequence one token"
    if decodes and not claim.input_tokens:
        yield "no context is stated: keys and values are left out"
    if limits.spilled_share and not claim.offload and claim.states_speed:
        speed = format_count(limits.host_bytes_per_second, "B/s")
        yield f"no host memory is named: what does not fit is taken to come at {speed}, as on a desktop"
