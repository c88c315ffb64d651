"""How far an op falls short of the data sheet: seconds of matrix products, attention, small ops and messages.

Each function takes nominal seconds (work over the nominal figure of the device) and the shares that an engine reaches
of them. Plain arithmetic: scripts/fit_forecasts.py calls it with columns of rows where the planner calls it with
numbers. `Efficiency` are the constants of one engine on one class of devices in one class of formats; they are fitted,
and live in planner/engines. Knows no engine and no device.
"""

from dataclasses import dataclass, fields

# Reading and computing overlap, but not quite: where both take equally long, an op takes 2^(1/KNEE) = 1.26 of it.
KNEE = 3.0
# Of the nominal bandwidth, what norms, activations and additions reach between the products.
SMALL_OP_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares are of the nominal figure: never above 1, so no forecast is above the ceiling.

    `weights`: of the bandwidth, reading weights; `kv`: reading keys and values. `gemm`: of the dense rate, in products
    of very many rows, half of it at `half_rows`. `attention`: of the dense 16-bit rate, in a prompt's attention.
    `kernel_seconds` beside the work of each kernel; `step_seconds` of the host for each step, `sequence_seconds` for
    each sequence in it; `request_seconds` before the first token of a request.
    """

    weights: float
    kv: float
    gemm: float
    half_rows: float
    attention: float
    kernel_seconds: float
    step_seconds: float
    sequence_seconds: float
    request_seconds: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            share = field.name in ("weights", "kv", "gemm", "attention")
            assert 0 < value <= 1 if share else value >= 0, f"{field.name} is {value}"


@dataclass(frozen=True, slots=True)
class LinkEfficiency:
    """`share` of the link's nominal rate in a large collective, `seconds` of a small one between two ranks."""

    share: float
    seconds: float


def knee(first: float, second: float) -> float:
    """The longer of two times that overlap, and a little more where they are about equal."""
    longer: float = (first**KNEE + second**KNEE) ** (1 / KNEE)
    return longer


def product_seconds(read: float, compute: float, rows: float, one: Efficiency) -> float:
    """A matrix product of `rows` rows: nominal seconds of reading and of computing."""
    filled = rows / (rows + one.half_rows)
    return knee(read / one.weights, compute / (one.gemm * filled))


def attention_seconds(read: float, compute: float, one: Efficiency) -> float:
    """Attention: nominal seconds of reading keys and values and of computing the causal pairs."""
    return knee(read / one.kv, compute / one.attention)


def small_op_seconds(moved: float) -> float:
    """Norms, rotary positions, activations: nominal seconds of their traffic."""
    return moved / SMALL_OP_SHARE


def host_seconds(sequences: float, one: Efficiency) -> float:
    """What the host adds to a step of so many sequences."""
    return one.step_seconds + sequences * one.sequence_seconds


def message_seconds(wire: float, log_ranks: float, link: LinkEfficiency) -> float:
    """A collective or a send: nominal seconds of its bytes on the wire; `log_ranks` is log2 of those that take part."""
    return wire / link.share + link.seconds * log_ranks
