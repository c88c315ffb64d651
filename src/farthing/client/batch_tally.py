"""How far a batch is: rows, tokens, engine time and dollars, added up row by row. Knows no server and no terminal."""

from dataclasses import dataclass

from farthing.client.batch_result import Facts


@dataclass(slots=True)
class Tally:
    """`engine_seconds` and `engine_dollars`: the engine's time that the answers took, as they say themselves."""

    num_rows: int = 0
    num_done: int = 0
    num_failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    engine_seconds: float = 0.0
    engine_dollars: float | None = None
    _limit_seconds: float = 0.0
    _seconds_with_limit: float = 0.0

    def add(self, facts: Facts) -> None:
        self.num_done += 1
        self.num_failed += facts.failed
        self.prompt_tokens += facts.prompt_tokens
        self.cached_tokens += facts.cached_tokens
        self.output_tokens += facts.output_tokens
        seconds = facts.seconds or 0.0
        self.engine_seconds += seconds
        if facts.dollars is not None:
            self.engine_dollars = (self.engine_dollars or 0.0) + facts.dollars
        if facts.share_of_limit is not None:
            self._limit_seconds += facts.share_of_limit * seconds
            self._seconds_with_limit += seconds

    @property
    def num_left(self) -> int:
        return self.num_rows - self.num_done

    @property
    def share_of_limit(self) -> float | None:
        """Of the measured limit, over the time of the answers that say so."""
        return self._limit_seconds / self._seconds_with_limit if self._seconds_with_limit else None

    def dollars(self, price_per_hour: float | None) -> float | None:
        """At this price, or, without one, as the answers say; None if they don't."""
        if price_per_hour is not None and self.engine_seconds:
            return self.engine_seconds * price_per_hour / 3600
        return self.engine_dollars
