"""All that is told of one load, as JSON and as cautions in words. Knows no terminal and no sockets."""

from dataclasses import asdict, dataclass
from typing import Any

from farthing import __version__
from farthing.client.load_ledger import LedgerDelta
from farthing.client.load_stats import LoadSummary, Record, tokens_over_time

SCHEMA = "farthing.bench-serve/1"
_MOST_BINS = 60
_BUSY_GENERATOR = 0.8
_OTHERS_SHARE = 0.02  # less may be a request of before that the ledger counted late


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for. One of `rate` (requests/s, Poisson), `concurrency` (users) and `trace` (a file) is set;
    lengths in tokens, as written: "128", "U(32,512)"; None of a trace."""

    rate: float | None
    concurrency: int | None
    trace: str | None
    requests: int | None
    seconds: float | None
    input_tokens: str | None
    output_tokens: str | None
    prefix_tokens: int
    seed: int

    @property
    def is_open(self) -> bool:
        """Whether requests leave without waiting for answers."""
        return self.concurrency is None

    @property
    def line(self) -> str:
        if self.trace is not None:
            return f"trace {self.trace}"
        if self.concurrency is None:
            kind = f"Poisson, {self.rate:g} requests/s"
        else:
            kind = f"{self.concurrency} user{'s' * (self.concurrency > 1)}, one request at a time each"
        return f"{kind} · input {self.input_tokens}, output {self.output_tokens} tokens · seed {self.seed}"


@dataclass(frozen=True, slots=True)
class LoadReport:
    """`date` is ISO 8601, UTC. `generator_share`: processor seconds of the load generator a second. `ledger`: None of a
    server without one."""

    date: str
    url: str
    model: str
    asked: Asked
    summary: LoadSummary
    records: list[Record]
    interrupted: bool
    generator_share: float
    vocabulary_is_known: bool
    ledger: LedgerDelta | None

    @property
    def bin_seconds(self) -> float:
        """Of `output_tokens_per_second`: at most 60 spans, none under a quarter of a second."""
        return max(0.25, self.summary.seconds / _MOST_BINS)

    @property
    def output_tokens_over_time(self) -> list[float]:
        """Tokens/s in each span."""
        return tokens_over_time(self.records, self.bin_seconds)

    @property
    def dollars_per_million_output_tokens(self) -> float | None:
        """If the machine serves at this rate all the time, at the price that the server tells."""
        if self.ledger is None:
            return None
        return self.ledger.dollars_per_million(self.summary.seconds, self.summary.output_tokens)

    def cautions(self) -> list[str]:
        """What a reader of the figures should know."""
        summary, found = self.summary, []
        if self.asked.is_open and summary.generator_was_late and summary.lag_seconds.p99 is not None:
            found.append(
                f"the load generator could not keep up: 1 % of the requests left over "
                f"{1e3 * summary.lag_seconds.p99:.0f} ms late, and the latencies count that; lower the rate, or run it "
                "on another machine"
            )
        if self.generator_share > _BUSY_GENERATOR:
            found.append(f"the load generator used {self.generator_share:.0%} of a core; it may be what was measured")
        if summary.short:
            found.append(
                f"{summary.short} answers are shorter than asked for: this server does not obey ignore_eos, or ran out "
                "of context"
            )
        if summary.input_tokens and summary.cached_tokens > 0.1 * summary.input_tokens and not self.asked.prefix_tokens:
            found.append(
                f"{summary.cached_tokens / summary.input_tokens:.0%} of the input was in the server's prefix cache: it "
                "has seen these prompts before; take another --seed"
            )
        if not self.vocabulary_is_known:
            found.append("the server has no /tokenize; prompts are of the token ids 100 to 999")
        if self.ledger is not None and self.ledger.other_output_tokens > _OTHERS_SHARE * summary.output_tokens:
            found.append(f"others used the server too: {self.ledger.other_output_tokens:,} output tokens of theirs")
        if self.interrupted:
            found.append(f"interrupted; requests cut: {summary.cut}")
        return found

    def to_json_object(self, *, records: bool = False) -> dict[str, Any]:
        ledger = None
        if self.ledger is not None:
            ledger = {**self.ledger.to_json_object(), "dollars": self.ledger.dollars(self.summary.seconds)}
        return {
            "schema": SCHEMA,
            "version": __version__,
            "date": self.date,
            "url": self.url,
            "model": self.model,
            "load": asdict(self.asked),
            "interrupted": self.interrupted,
            **self.summary.to_json_object(),
            "generator": {
                "share_of_a_core": self.generator_share,
                "was_late": self.asked.is_open and self.summary.generator_was_late,
            },
            "dollars_per_million_output_tokens": self.dollars_per_million_output_tokens,
            "ledger": ledger,
            "over_time": {"bin_seconds": self.bin_seconds, "output_tokens_per_second": self.output_tokens_over_time},
            "cautions": self.cautions(),
            **({"records": [record.to_json_object() for record in self.records]} if records else {}),
        }
