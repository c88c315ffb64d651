"""Flags of `farthing plan` that make it a search: the load, the promise, what narrows it. Knows no planner."""

from dataclasses import dataclass

from farthing.errors import UsageError

ANY = "any"


@dataclass(frozen=True, slots=True)
class SearchFlags:
    """Each field is a flag of `plan`.

    Parameters
    ----------
    users
        So many people at a time, each of whom waits for an answer and then thinks.
    rate
        Requests per second at random, instead of users.
    workload
        What they ask: chat, code-agent, rag, batch, or FILE with lengths (JSONL, CSV); by default chat.
    think
        Seconds between an answer and a user's next request.
    ttft
        Most seconds to the first token, for nine requests of ten.
    tpot
        Most seconds a token after the first, for nine answers of ten.
    budget
        Most dollars a month.
    max_devices
        Most devices; by default 64.
    max_watts
        Most watts of the site.
    min_quality
        Only weight formats that are known to keep so much of the score, like 99%.
    legal_only
        Only where no law that is known stands in the way.
    all
        Also what can't be had in the market or is driven by no engine.
    simulate
        Confirm the winners in the simulator (--no-simulate: closed forms alone).
    """

    users: int | None = None
    rate: float | None = None
    workload: str | None = None
    think: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    budget: float | None = None
    max_devices: int = 64
    max_watts: float | None = None
    min_quality: str | None = None
    legal_only: bool = False
    all: bool = False
    simulate: bool = True

    def __post_init__(self) -> None:
        for name in ("budget", "max_watts"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e12:
                raise UsageError(f"--{name.replace('_', '-')} is {value:g}", fix="it must be above 0")
        if not 1 <= self.max_devices <= 1024:
            raise UsageError(f"--max-devices is {self.max_devices}", fix="it lies between 1 and 1,024")
        self.quality_share()

    def quality_share(self) -> float | None:
        """`min_quality` as a share of the score: "99%" and "0.99" are 0.99."""
        if self.min_quality is None:
            return None
        text = self.min_quality.strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UsageError(f"--min-quality is {self.min_quality!r:.20}", fix="write a share of the score, like 99%")
        return share

    @property
    def is_said(self) -> bool:
        """Whether a load is said, which only a search answers."""
        return any(value is not None for value in (self.users, self.rate, self.workload, self.ttft, self.tpot))


def is_search(on: str, flags: SearchFlags) -> bool:
    """Whether `--on` or the flags ask for a search, and not for the plan of one box."""
    return on.strip().lower() == ANY or "," in on or flags.is_said
