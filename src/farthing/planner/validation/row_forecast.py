"""The forecast of a measured row: its load as steps of its engine, and from their seconds the figure in its own unit.

Every figure is a rate (so much over the seconds of some steps) or a time (those seconds, and what comes before). Steady
states are closed forms; requests that arrive at a rate are a fixed point of Little's law on the same step times.
Knows no score: planner/validation/validate.py does.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from farthing.errors import FarthingError
from farthing.planner.engines.engine_profile import LONG_CONTEXT
from farthing.planner.engines.engine_replica import Replica, replica_of
from farthing.planner.timing.load_steps import StepUse, decode_steps, prefill_steps
from farthing.planner.validation.measured_row import Setting, SkippedRowError

NO_ROOM = "the forecast says it does not fit, and it ran"
# Of a load that arrives faster than it is answered, waits grow with every request: the usual number of a benchmark.
_REQUESTS_OF_A_RUN = 1000


@dataclass(frozen=True, slots=True)
class Recipe:
    """`uses` and `before` seconds make the figure: `tokens` over them, or, where `tokens` is None, `share` of them.

    `group`: what an interval is looked up by: decode, prefill, saturated, batch, tpot, ttft, e2e or throughput.
    """

    replica: Replica
    uses: tuple[StepUse, ...]
    group: str
    tokens: float | None = None
    share: float = 1.0
    before: float = 0.0

    @property
    def has_request(self) -> bool:
        """Whether `before` holds what the engine takes for a request beside its steps."""
        return self.before > 0 and bool(self.uses)

    def value(self, seconds: float) -> float:
        """In tokens/s or seconds, from the seconds of the uses."""
        total = seconds + self.before
        return self.tokens / total if self.tokens is not None else self.share * total


def recipe_of(setting: Setting) -> Recipe:
    """SkippedRowError if the planner has no forecast of such a figure."""
    try:
        replica = replica_of(setting.spec, setting.accelerators, setting.tp, setting.pp, setting.engine)
    except FarthingError as error:
        raise SkippedRowError(f"no forecast: {error.what}") from None
    if replica.kv_tokens is not None and replica.kv_tokens < 1:
        raise SkippedRowError(NO_ROOM)
    load = _Load(setting, replica)
    answers = {
        "single": load.single,
        "static": load.static,
        "burst": load.burst,
        "closed": load.closed,
        "saturated": load.saturated,
        "rate": load.at_rate,
    }
    return answers[setting.kind]()


class _Load:
    """The lengths and limits of one setting; each method is one kind of load."""

    def __init__(self, setting: Setting, replica: Replica) -> None:
        self.setting, self.replica, self.engine = setting, replica, setting.engine
        self.prompt, self.answer = setting.input_tokens, setting.output_tokens
        self.context = self.prompt + self.answer / 2
        self.steps = max(1.0, self.answer - 1)  # the prompt yields the first token
        self.num_stages = len(replica.stages)
        long_context = setting.spec.max_positions > LONG_CONTEXT and self.engine.long_context_batch_tokens
        self.budget = long_context or self.engine.max_batch_tokens
        self.mixes = self.engine.mixes_phases or bool(long_context)
        self.turn = self.answer if self.mixes else self.steps  # where phases mix, a prompt's own step is one of them
        self.before = replica.stages[0].efficiency.request_seconds

    def _decode(self, times: float, batch: float) -> tuple[StepUse, ...]:
        return tuple(decode_steps(times, self.context, batch, self.num_stages))

    def _prefill(self, prompts: float) -> tuple[StepUse, ...]:
        overlap = self.engine.stage_overlap if self.num_stages > 1 else 0.0
        return tuple(prefill_steps(prompts, self.prompt, self.budget, overlap))

    def _turn(self, running: float) -> tuple[StepUse, ...]:
        """What lies between the first and the last token of an answer when `running` requests follow each other: a step
        for each token, and as many prompts as answers end. Of a prompt, a part is in the prefix cache."""
        share = self.engine.prompt_share
        if not self.mixes:
            return self._prefill(running * share) + self._decode(self.steps, running)
        prompts = running * share / self.answer
        return tuple(decode_steps(self.turn, self.context, running, self.num_stages, prompts, self.prompt))

    def _slots(self, limit: int) -> int:
        """Requests that are admitted at a time: of so many, what the pool holds."""
        room = self.replica.running(self.prompt + self.engine.reserved_answer * self.answer)
        return max(1, min(limit, room))

    def _most(self, limit: int) -> int:
        """Requests that answer at a time: of those admitted, what a step of mixed phases has tokens for."""
        slots = self._slots(limit)
        if not self.mixes:
            return slots
        each = 1 + self.prompt * self.engine.prompt_share / self.answer
        return min(slots, max(1, int(self.budget / each)))

    def _recipe(self, uses: Iterable[StepUse], group: str, **how: float) -> Recipe:
        return Recipe(self.replica, tuple(uses), group, **how)

    def _no_forecast(self) -> SkippedRowError:
        return SkippedRowError(f"no forecast of {self.setting.metric} in a load of the kind {self.setting.kind!r}")

    def single(self) -> Recipe:
        match self.setting.metric:
            case "decode_tok_s":
                return self._recipe(self._decode(1, 1), "decode", tokens=1.0)
            case "tpot":
                return self._recipe(self._decode(1, 1), "decode")
            case "prefill_tok_s":
                return self._recipe(self._prefill(1), "prefill", tokens=round(self.prompt))
            case "ttft":
                return self._recipe(self._prefill(1), "ttft", before=self.before)
            case "e2e" | "batch" | "output_tok_s_total":
                return self.static()
        raise self._no_forecast()

    def static(self, mixed: bool = False) -> Recipe:
        """All start together. What does not fit waits for the others: the work is the same in more, smaller steps."""
        batch = max(1, self.setting.batch)
        running = min(batch, self.replica.running(self.prompt + self.answer))
        waves = batch / running
        every = self._prefill(batch) + self._decode(self.steps * waves, running)
        match self.setting.metric:
            case "batch" | "e2e":
                return self._recipe(every, "batch", before=self.before)
            case "output_tok_s_total":
                return self._recipe(every, "throughput", tokens=batch * self.answer, before=self.before)
            case "tpot" if mixed:  # those who start first wait for the prompts of all, the last ones for none
                uses = self._prefill(running / 2) + self._decode(self.steps, running)
                return self._recipe(uses, "tpot", share=1 / self.steps)
            case "tpot":
                return self._recipe(self._decode(1, running), "tpot")
            case "ttft":
                return self._recipe(self._prefill(running), "ttft", before=self.before)
            case "decode_tok_s":
                return self._recipe(self._decode(1, running), "decode", tokens=float(running))
            case "prefill_tok_s":
                return self._recipe(self._prefill(batch), "prefill", tokens=batch * round(self.prompt))
        raise self._no_forecast()

    def burst(self) -> Recipe:
        return self.static(mixed=True)

    def closed(self) -> Recipe:
        """As many requests as the batch, each followed by the next."""
        most = self._most(self.setting.batch)
        match self.setting.metric:
            case "tpot":
                return self._recipe(self._turn(most), "tpot", share=1 / self.turn)
            case "output_tok_s_total":
                return self._recipe(self._turn(most), "throughput", tokens=most * self.answer, before=self.before)
            case "e2e":
                waits = self.setting.batch / most  # of those that do not run at a time, each waits for others to end
                return self._recipe(self._turn(most), "e2e", share=waits, before=self.before)
            case "ttft":
                ahead = 1 + self.engine.lockstep * (most - 1) / 2
                return self._recipe(self._prefill(ahead), "ttft", before=self.before)
        raise self._no_forecast()

    def saturated(self) -> Recipe:
        """Someone always waits: as many run as the limits and the pool allow."""
        most = self._most(self.setting.batch or self.engine.max_num_seqs)
        match self.setting.metric:
            case "output_tok_s_total":
                return self._recipe(self._turn(most), "saturated", tokens=most * self.answer)
            case "tpot":
                return self._recipe(self._turn(most), "tpot", share=1 / self.turn)
        raise self._no_forecast()

    def at_rate(self) -> Recipe:
        """Little's law: as many run as arrive in the time that one takes, and that time grows with how many run."""
        rate, most = self.setting.rate, self._most(self.setting.batch or self.engine.max_num_seqs)
        if not rate:
            raise SkippedRowError("the rate of arrivals is not stated")
        low, high = 1.0, float(most)
        for _ in range(30):
            running = (low + high) / 2
            if rate * self.replica.seconds(self._turn(running)) > running:
                low = running
            else:
                high = running
        running = max(1.0, high)
        if high > 0.97 * most:
            return self._overload(rate, most)
        match self.setting.metric:
            case "output_tok_s_total":
                return self._recipe((), "throughput", tokens=rate * self.answer, before=1.0)
            case "tpot":
                return self._recipe(self._turn(running), "tpot", share=1 / self.turn)
        busy = min(0.9, rate * self.replica.seconds(self._prefill(1)) * self.engine.prompt_share)
        first = self._prefill(1 + busy / (2 * (1 - busy))) + self._decode(0.5, running)
        match self.setting.metric:
            case "ttft":
                return self._recipe(first, "ttft", before=self.before)
            case "e2e":
                return self._recipe(first + self._turn(running), "e2e", before=self.before)
        raise self._no_forecast()

    def _overload(self, rate: float, most: int) -> Recipe:
        """Each request waits longer than the one before: those that are admitted at once for the prompts ahead of
        theirs, the others for answers to end. The mean of a run."""
        every = self._turn(most)
        match self.setting.metric:
            case "output_tok_s_total":
                return self._recipe(every, "throughput", tokens=most * self.answer)
            case "tpot":
                return self._recipe(every, "tpot", share=1 / self.turn)
        requests = self.setting.requests or _REQUESTS_OF_A_RUN
        slots = self._slots(self.setting.batch or self.engine.max_num_seqs)
        late = max(0, requests - slots)
        answered = most / self.replica.seconds(every)
        prompt_seconds = self.replica.seconds(self._prefill(1)) * self.engine.prompt_share
        wait = (requests - late) / 2 * max(0.0, prompt_seconds - 1 / rate) * (requests - late) / requests
        wait += late / 2 * max(0.0, 1 / answered - 1 / rate) * late / requests
        first = self._prefill(1) + self._decode(1, most)
        match self.setting.metric:
            case "ttft":
                return self._recipe(first, "ttft", before=self.before + wait)
            case "e2e":
                return self._recipe(first + every, "e2e", before=self.before + wait)
        raise self._no_forecast()


# Of requests under load, the 99th percentile over the mean: medians of vLLM's rows.
_TAILS = {"ttft": 1.7, "e2e": 1.2, "tpot": 1.5}


def tail_of(metric: str) -> float:
    """From a mean to the statistic that a metric names: "ttft_p99_ms"."""
    return _TAILS.get(metric.partition("_")[0], 1.0) if "_p99" in metric else 1.0


def forecast(recipe: Recipe) -> float:
    """In tokens/s or seconds."""
    return recipe.value(recipe.replica.seconds(recipe.uses))
