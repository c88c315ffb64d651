"""What was measured, and what follows: medians, ratios of the pairs that were measured one after the other, verdicts.

Knows no page and no engine.
"""

import statistics
from dataclasses import dataclass, field

from peers.cases import Case, Group
from peers.limits import Limits


@dataclass(slots=True)
class Outcome:
    """A case: seconds by system and round, and the limits and the floor of each round."""

    group: Group
    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    limits: list[Limits] = field(default_factory=list)
    floors: list[float] = field(default_factory=list)

    @property
    def ours(self) -> list[float]:
        return self.seconds.get(self.group.ours.name, [])

    @property
    def shares(self) -> list[float]:
        """Floor / measured, round by round; [] where there is no floor."""
        if not self.floors or not self.ours:
            return []
        return [floor / own for floor, own in zip(self.floors, self.ours, strict=True)]

    def tokens_per_second(self, system: str) -> float:
        return self.case.tokens / statistics.median(self.seconds[system])

    def comparisons(self) -> list["Comparison"]:
        return [
            Comparison(self, peer.name, self.case.peers[peer.engine])
            for peer in self.group.peers
            if peer.engine in self.case.peers and self.ours and self.seconds.get(peer.name)
        ]

    def share_met(self) -> bool:
        return self.case.share is not None and bool(self.shares) and statistics.median(self.shares) >= self.case.share


@dataclass(frozen=True, slots=True)
class Comparison:
    """Farthing beside one peer in one case. `wanted`: the ratio."""

    outcome: Outcome
    peer: str
    wanted: float | None

    @property
    def ratios(self) -> list[float]:
        """Of the rounds."""
        return [peer / own for own, peer in zip(self.outcome.ours, self.outcome.seconds[self.peer], strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        """None: nothing is wanted."""
        case = self.outcome.case
        if self.wanted is None:
            return None
        if not case.either:
            return self.ratio >= self.wanted
        return self.ratio >= self.wanted or (self.outcome.share_met() and self.ratio >= (case.ratio_anyway or 0.0))

    @property
    def wanted_text(self) -> str:
        case = self.outcome.case
        if self.wanted is None:
            return ""
        text = f"{self.wanted:g}x"
        if case.either:
            text += f", or {case.share:.0%} of the floor"
            text += f" and {case.ratio_anyway:g}x" if case.ratio_anyway else ""
        return text
