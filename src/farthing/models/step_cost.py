"""The cost of a step from the sums of its batch alone: a handful of products, where ModelSpec.cost asks every op.

Every cost of the description is a constant (weights are read once) plus so much for each token, row of logits, attended
position and causal pair. These five numbers are found once by asking the description; then a step is priced in
microseconds, which is what accounting for every step and simulating millions of them need. Knows no hardware.
"""

from dataclasses import dataclass

from farthing.models.spec import ModelSpec
from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost


@dataclass(frozen=True, slots=True)
class Sums:
    """What a step costs depends on: new tokens, rows of logits, attended positions and causal pairs, all sequences."""

    tokens: int
    logits: int
    attended: int
    pairs: int


@dataclass(frozen=True, slots=True)
class Line:
    """constant + token * tokens + logit * logits + attended * attended + pair * pairs."""

    constant: int
    token: int
    logit: int
    attended: int
    pair: int

    def at(self, sums: Sums) -> int:
        return self.constant + self.varying(sums)

    def varying(self, sums: Sums) -> int:
        """Without the constant: what adds up over the sequences of a batch."""
        return (
            self.token * sums.tokens + self.logit * sums.logits + self.attended * sums.attended + self.pair * sums.pairs
        )


@dataclass(frozen=True, slots=True)
class StepCost:
    """`read`, `write` and `comm` in bytes, `flops` by math; `kv_bytes_per_token`: K and V of one position, read or
    written. `window`: positions that a query attends to at most."""

    read: Line
    write: Line
    comm: Line
    flops: tuple[tuple[str, Line], ...]
    kv_bytes_per_token: int
    window: int | None

    @classmethod
    def of(cls, spec: ModelSpec) -> "StepCost | None":
        """None for a description whose steps are no such sum: layers of different windows, or experts."""
        windows = {layer.attention.window for layer in spec.layers}
        if len(windows) > 1 or 1 in windows or spec.plan_only:
            return None

        def ask(sequences: list[tuple[int, int]], num_logits: int = 0) -> Cost:
            return spec.cost(BatchShape.of(sequences, num_logits))

        costs = ask([]), ask([], 1), ask([(1, 0)]), ask([(2, 0)]), ask([(1, 1)])
        maths = sorted({math for cost in costs for math in cost.flops})
        return cls(
            _fit(*(cost.read_bytes for cost in costs)),
            _fit(*(cost.write_bytes for cost in costs)),
            _fit(*(cost.comm_bytes for cost in costs)),
            tuple((math, _fit(*(cost.flops.get(math, 0) for cost in costs))) for math in maths),
            spec.kv_bytes_per_token,
            windows.pop() if windows else None,
        )

    def sums(self, batch: BatchShape) -> Sums:
        return Sums(
            batch.num_tokens, batch.num_logits, batch.attended_tokens(self.window), batch.attended_pairs(self.window)
        )

    def moved_bytes(self, sums: Sums) -> int:
        return self.read.at(sums) + self.write.at(sums)

    def kv_bytes(self, sums: Sums) -> int:
        """Of K and V: every attended position read, every new one written."""
        return self.kv_bytes_per_token * (sums.attended + sums.tokens)

    def cost(self, batch: BatchShape) -> Cost:
        """Equal to ModelSpec.cost."""
        sums = self.sums(batch)
        flops = {math: count for math, line in self.flops if (count := line.at(sums))}
        return Cost(flops, self.read.at(sums), self.write.at(sums), self.comm.at(sums))


def _fit(nothing: int, one_logit: int, one_token: int, two_tokens: int, one_more_behind: int) -> Line:
    """From the values for no token; one row of logits; one token; two of one sequence; one behind another."""
    pair = two_tokens - 2 * one_token + nothing
    attended = one_more_behind - one_token - pair
    token = one_token - nothing - attended - pair
    return Line(nothing, token, one_logit - nothing, attended, pair)
