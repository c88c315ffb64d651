"""What a search asks of a forecast: seconds of decode steps and prompts of one replica, its KV room, how sure that is.

Decode steps are priced at a few numbers of sequences and lie on lines between them. A step's time bends upwards with
that number (planner/timing/efficiency.py's knee), so a line lies above it, by 1 % at most.
The one place where a search meets the pricing of steps (planner/engines/engine_replica.py). Knows no load and no money.
"""

from bisect import bisect_right
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from farthing.hardware.accelerator import Accelerator
from farthing.models.spec import ModelSpec
from farthing.planner.engines.engine_profile import EngineProfile, Interval
from farthing.planner.engines.engine_replica import Replica, Stage, replica_of
from farthing.planner.timing.efficiency import LinkEfficiency
from farthing.planner.timing.load_steps import StepUse
from farthing.planner.timing.step_work import StepWork, WorkLines

NODE_DEVICES = 8
_MAX_CHUNKS = 32
_COUNTS = (1, 2, 3, 4, 6, 8, 11, 16, 22, 32, 45, 64, 90, 128, 181, 256, 362, 512, 724, 1024, 2048, 4096)
_NO_LINK = LinkEfficiency(share=1.0, seconds=0.0)
_ENDLESS = 1e30  # bytes/s


@dataclass(frozen=True, slots=True)
class Prompt:
    """Seconds of a prompt: `latency` until it is through; `service`: so long it holds up the next one and the answers
    that run (in a pipeline at every stage: the simulator shows no less)."""

    service: float
    latency: float
    chunks: int


class StepTimes:
    """Of one replica."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.engine = replica.engine
        self.num_stages = len(replica.stages)
        self.kv_tokens = replica.kv_tokens or 0
        self.max_num_seqs = replica.engine.max_num_seqs
        self.request_seconds = replica.stages[0].efficiency.request_seconds
        self._rounds: dict[int, dict[int, tuple[float, float]]] = {}

    def decode_seconds(self, running: float, context: int) -> float:
        """Until each of `running` sequences (a mean, so not whole) has one more token; `context`: before each.

        In a pipeline they go round in as many groups as there are stages.
        """
        known = self._rounds.setdefault(context, {})
        groups = min(float(self.num_stages), max(1.0, running))
        each = min(max(1.0, running / groups), float(_COUNTS[-1]))
        index = bisect_right(_COUNTS, each) - 1
        below = _COUNTS[index]
        passing, slowest = known.get(below) or self._ask(below, context)
        if each > below:
            above = _COUNTS[index + 1]
            share = (each - below) / (above - below)
            more, more_slowest = known.get(above) or self._ask(above, context)
            passing += share * (more - passing)
            slowest += share * (more_slowest - slowest)
        return max(passing, groups * slowest)

    def _ask(self, count: int, context: int) -> tuple[float, float]:
        """Seconds of a group through all stages, and in the slowest."""
        stages = self.replica.stage_seconds(StepUse(1.0, count, 1, context))
        found = self._rounds[context][count] = sum(stages), max(stages)
        return found

    def prompt(self, new_tokens: int, cached_tokens: int) -> Prompt:
        """Of one prompt, in chunks, behind what a cache has of it."""
        most = self.engine.max_batch_tokens
        whole, rest = divmod(new_tokens, most)
        run = -(-whole // _MAX_CHUNKS) or 1
        steps = [
            (most, cached_tokens + (first + min(run, whole - first) // 2) * most, min(run, whole - first))
            for first in range(0, whole, run)
        ]
        if rest:
            steps.append((rest, cached_tokens + whole * most, 1))
        service = latency = 0.0
        beside = self.engine.stage_overlap if self.num_stages > 1 else 0.0
        for index, (tokens, context, alike) in enumerate(steps):
            stages = self.replica.stage_seconds(StepUse(1.0, 1, tokens, context))
            passing, slowest = sum(stages), max(stages)
            service += alike * passing
            alone = 1 if index == len(steps) - 1 else 0
            latency += alone * passing + (alike - alone) * (beside * slowest + (1.0 - beside) * passing)
        return Prompt(service, latency, whole + bool(rest))

    def interval(self, metric: str) -> Interval:
        """Of ten measurements, eight lie within it: factors of the forecast of "ttft" or "tpot"."""
        return self.engine.interval(metric)

    def without_links(self) -> "StepTimes":
        """The same devices, if what they say to each other took no time."""
        stages = tuple(
            replace(
                stage,
                link=_NO_LINK,
                send=_NO_LINK,
                speeds=replace(stage.speeds, link=_ENDLESS, stage_link=_ENDLESS),
            )
            for stage in self.replica.stages
        )
        return StepTimes(replace(self.replica, stages=stages))


def step_times(
    spec: ModelSpec, accelerator: Accelerator, tp: int, pp: int, engine: EngineProfile, network: float
) -> StepTimes:
    """`spec`: the whole model. `network`: bytes/s between nodes, of which a replica of more than eight devices crosses
    some. UnsupportedError for sizes that do not divide, a rate or a bandwidth that nobody knows."""
    replica = replica_of(spec, [accelerator] * (tp * pp), tp, pp, engine)
    replica = replace(replica, stages=tuple(replace(stage, work=_shared(stage.work)) for stage in replica.stages))
    if tp * pp > NODE_DEVICES:
        replica = replace(replica, stages=_over_nodes(replica, tp, network))
    return StepTimes(replica)


class _SharedWork(WorkLines):
    """The work of a step is the same on every accelerator: it is added up once."""

    def __init__(self, lines: WorkLines) -> None:
        self._lines_of_all = lines
        self._known: dict[tuple[int, int, int], StepWork] = {}

    def at(self, use: StepUse) -> StepWork:
        key = (use.count, use.new, use.context)
        found = self._known.get(key)
        if found is None:
            assert not use.prompts
            found = self._known[key] = self._lines_of_all.at(use)
        return found


_SHARED: WeakKeyDictionary[WorkLines, _SharedWork] = WeakKeyDictionary()


def _shared(lines: WorkLines) -> WorkLines:
    if isinstance(lines, _SharedWork):
        return lines
    if lines not in _SHARED:
        _SHARED[lines] = _SharedWork(lines)
    return _SHARED[lines]


def _over_nodes(replica: Replica, tp: int, network: float) -> tuple[Stage, ...]:
    """The last stage of each node hands on over the network."""
    stages = list(replica.stages)
    per_node = max(1, NODE_DEVICES // tp)
    for index in range(per_node - 1, len(stages) - 1, per_node):
        stage = stages[index]
        stages[index] = replace(
            stage, send=replica.engine.link("network"), speeds=replace(stage.speeds, stage_link=network)
        )
    return tuple(stages)


def least_memory_bytes(spec: ModelSpec, engine: EngineProfile, num_devices: int) -> float:
    """What each of so many devices has at least, if the model is to be on them: a bound that divides evenly."""
    return spec.weight_bytes / num_devices / engine.memory.share


def least_token_seconds(spec: ModelSpec, accelerator: Accelerator, tp: int) -> float:
    """No token takes less: its weights are read once, at the nominal bandwidth, one stage after another."""
    bandwidth = accelerator.bandwidth
    return 0.0 if bandwidth is None else spec.active_weight_bytes / (tp * bandwidth.value)
