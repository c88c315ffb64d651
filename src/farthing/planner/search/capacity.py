"""How much load a replica carries within a promise, in closed form: shares of its time, Little's law, a queue, a pool.

A request takes P seconds of a replica for its prompt, and D steps of s(b) seconds beside the b others that run. In the
time of one answer, every other request's prompt comes once, so with b running on average

    rate       X = b / (D s(b) + b P)                           (Little's law)
    per token    = s(b) + b P / D
    users        = b + X (think + time to the first token)      (of a closed loop)

Prompts queue for each other, with the decode steps between their chunks: a queue M/G/1 (Pollaczek and Khinchine). Nine
of ten: as many running as a Poisson number of mean b rarely exceeds; the time to the first token as mean and deviation.
Everything grows with b, so the largest load within the promise is found by halving. Knows no hardware and no money.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from farthing.planner.search.loads import Demand
from farthing.planner.search.slo import Slo
from farthing.planner.timing.step_times import Prompt, StepTimes

Binds = Literal["memory", "bandwidth", "kv", "ttft", "tpot", "max_num_seqs", "none"]
_NINE_OF_TEN = 1.2816  # deviations of a normal above its mean
_NINE_OF_TEN_WAITS = 1.3  # of an exponential: ln 10 - 1
_LEAST_RUNNING = 1e-6
_NEAR = 1e-4


class Steady(NamedTuple):
    """A replica that carries `amount` users or requests/s. Seconds; `ttft` and `tpot` hold for nine of ten.

    `running`: requests at a time, of which `most_running` nine times of ten; `kv_tokens`: what these keep in the pool.
    `keeps_prefix`: what was seen before stays in the pool.
    """

    amount: float
    rate: float
    running: float
    most_running: float
    ttft_mean: float
    ttft: float
    tpot_mean: float
    tpot: float
    kv_tokens: float
    keeps_prefix: bool


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest load within the promise: `amount` users (whole) or requests/s; 0: not even the smallest.

    `binds`: what ends it. `at`: the state there, or, where nothing is carried, of the smallest load; None where a bound
    said so before.
    """

    amount: float
    binds: Binds
    at: Steady | None

    def replicas_for(self, amount: float) -> int | None:
        """So many carry that; None where none carries any."""
        return math.ceil(amount / self.amount - 1e-9) if self.amount > 0 else None


class ReplicaLoad:
    """One replica under one kind of load."""

    def __init__(self, times: StepTimes, demand: Demand) -> None:
        self._times, self._demand = times, demand
        self._context = demand.input_tokens + demand.output_tokens // 2
        self._steps = max(1, demand.output_tokens - 1)
        self._answer = times.engine.reserved_answer * demand.output_tokens
        self._prompts: dict[bool, Prompt] = {}
        sigma = math.sqrt(math.log1p(demand.spread))  # lengths are taken to be lognormal
        self._long_prompt = max(0.0, math.exp(_NINE_OF_TEN * sigma - sigma * sigma / 2) - 1.0)  # of nine of ten

    @property
    def _can_keep(self) -> bool:
        return self._demand.prefix_of != "nobody" and self._demand.prefix_tokens > 0

    def prompt(self, keeps: bool) -> Prompt:
        if keeps not in self._prompts:
            demand = self._demand
            new, cached = (demand.new_tokens, demand.prefix_tokens) if keeps else (demand.input_tokens, 0)
            self._prompts[keeps] = self._times.prompt(new, cached)
        return self._prompts[keeps]

    def at(self, running: float, keeps: bool) -> Steady:
        """With so many requests running on average."""
        times, demand, prompt = self._times, self._demand, self.prompt(keeps)
        step = times.decode_seconds(running, self._context)
        rate = running / (self._steps * step + running * prompt.service)
        new = demand.new_tokens if keeps else demand.input_tokens
        between = step * new / times.engine.max_batch_tokens
        service = prompt.service + between
        busy = min(rate * service, 0.999)
        tail = service * (1 + demand.spread) / (2 * (1 - busy))
        wait, wait_variance = busy * tail, busy * tail * tail * (2 - busy)
        ttft_mean = times.request_seconds + step / 2 + prompt.latency + prompt.chunks * step + wait
        longer = math.hypot(_NINE_OF_TEN_WAITS * math.sqrt(wait_variance), prompt.latency * self._long_prompt)
        tpot_mean = step + running * prompt.service / self._steps
        users = running + rate * (demand.think_seconds + ttft_mean)
        most = running + _NINE_OF_TEN * math.sqrt(running)
        if demand.users is not None:
            most = min(most, users)
        most = max(most, min(1.0, users))
        step_of_most = times.decode_seconds(most, self._context)
        return Steady(
            amount=users if demand.users is not None else rate,
            rate=rate,
            running=running,
            most_running=most,
            ttft_mean=ttft_mean,
            ttft=ttft_mean + longer + step_of_most / 2,
            tpot_mean=tpot_mean,
            tpot=step_of_most + most * prompt.service / self._steps,
            kv_tokens=self._kv_tokens(most, users, keeps),
            keeps_prefix=keeps,
        )

    def _kv_tokens(self, running: float, users: float, keeps: bool) -> float:
        demand = self._demand
        if not keeps:
            return running * (demand.input_tokens + self._answer)
        if demand.prefix_of == "user":  # the whole last conversation of each waits in the pool for the next request
            return users * (demand.input_tokens + demand.output_tokens) + running * self._answer
        return demand.prefix_tokens + running * (demand.new_tokens + self._answer)

    def capacity(self, slo: Slo) -> Capacity:
        """With prefixes kept or computed again, whichever carries more."""
        if self._times.kv_tokens < 1:
            return Capacity(0.0, "memory", None)
        if self._times.kv_tokens < self._demand.longest:
            return Capacity(0.0, "kv", None)
        best = self._capacity(slo, keeps=self._can_keep)
        if self._can_keep and self._demand.prefix_of == "user":
            again = self._capacity(slo, keeps=False)
            best = max(best, again, key=lambda one: one.amount)
        return best

    def _capacity(self, slo: Slo, keeps: bool) -> Capacity:
        """No more is looked for than is asked."""
        nothing = self.at(_LEAST_RUNNING, keeps)
        reason = self._exceeded(nothing, slo)
        if reason is not None:
            return Capacity(0.0, reason, nothing)
        asked = self.steady(self._demand.amount, keeps)
        reason = self._exceeded(asked, slo)
        if reason is None and asked.amount >= self._demand.amount * (1 - 1e-3):
            return Capacity(self._demand.amount, "none", asked)
        low, high = nothing, asked
        reason = reason or "max_num_seqs"
        if self._demand.users is not None:  # then one user is the least
            low = self.steady(1.0, keeps)
            exceeded = self._exceeded(low, slo)
            if exceeded is not None:
                return Capacity(0.0, exceeded, low)
        while high.running - low.running > _NEAR * high.running:
            if self._demand.users is not None and self._whole(high) <= self._whole(low):
                break
            middle = self.at((low.running + high.running) / 2, keeps)
            exceeded = self._exceeded(middle, slo)
            if exceeded is None:
                low = middle
            else:
                high, reason = middle, exceeded
        amount = low.amount if self._demand.users is None else max(1.0, self._whole(low))
        return Capacity(amount, reason, low)

    def _whole(self, state: Steady) -> float:
        return float(math.floor(state.amount + 1e-3))

    def steady(self, amount: float, keeps: bool) -> Steady:
        """Carrying that, or a little less by rounding; where it can't, as much as it can."""
        is_closed = self._demand.users is not None  # then no more run than there are users
        most = float(self._times.max_num_seqs)
        high = self.at(min(most, amount) if is_closed else most, keeps)
        if high.amount <= amount:
            return high
        low = self.at(_LEAST_RUNNING, keeps)
        over, under = high.amount - amount, low.amount - amount
        while high.running - low.running > _NEAR * high.running and low.amount < amount * (1 - _NEAR):
            # where a line through both meets the amount (regula falsi), and a little below, to end on the safe side
            running = low.running - under * (high.running - low.running) / (over - under)
            state = self.at(running * (1 - _NEAR / 4), keeps)
            if state.amount <= amount:
                over = over / 2 if under == low.amount - amount and low.running > _LEAST_RUNNING else over
                low, under = state, state.amount - amount
            else:
                under, high, over = under / 2, state, state.amount - amount
        return low

    def _exceeded(self, state: Steady, slo: Slo) -> Binds | None:
        if state.kv_tokens > self._times.kv_tokens:
            return "kv"
        if state.tpot > slo.tpot_limit:
            return "tpot"
        if state.ttft > slo.ttft_limit:
            return "ttft"
        if state.most_running > self._times.max_num_seqs:
            return "max_num_seqs"
        return None
