"""A measured row as a claim, so that the laws of a fact check can be held against it.

What a row leaves open stays open. Knows no verdict (planner/claims/factcheck.py) and no forecast.
"""

from dataclasses import replace
from functools import cache

from farthing.errors import FarthingError
from farthing.hardware.cluster import Cluster, Node
from farthing.models.published_models import find_published
from farthing.models.reference import ModelReference
from farthing.planner.claims.claim import Claim
from farthing.planner.claims.claim_limits import limits_of
from farthing.planner.claims.claimed_model import ClaimedModel, model_of, model_of_size
from farthing.planner.claims.weight_bits import find_bits
from farthing.planner.validation.measured_row import OTHER_NAMES, Row, SkippedRowError, devices_of, number, text

# The laws' room is for KV of 4 bits in all of the memory; engines take 8 to 32 bits and keep a part free, so that of a
# batch larger than this part of the room some may wait, and the time of a token is that of fewer.
ROOM_SHARE = 10
# Every sequence of the batch is in each step; of a server, the number is the most that it takes.
LOCKSTEP = ("single-stream", "static", "fixed concurrency", "offload", "cpu+gpu offload")


def claim_of(row: Row) -> Claim | None:
    """None if it is no claim of speed (watts), or of hardware that the catalogue does not have."""
    try:
        devices = devices_of(text(row, "gpu"), text(row, "num_gpus"))
        speed = _speed(row)
        model = _model(text(row, "model"), text(row, "params_B"))
        batch = int(number(row, "batch_or_concurrency", 0)) or None
        lengths = _tokens(row, "input_len"), _tokens(row, "output_len")
        weights = find_bits(text(row, "weight_dtype"))[0]
    except (SkippedRowError, FarthingError):
        return None
    if speed is None or model is None:
        return None
    scenario = text(row, "scenario")
    if speed.tpot_seconds is not None and not scenario.startswith(LOCKSTEP):
        batch = None
    claim = speed.merged(
        Claim(
            cluster=Cluster((Node(devices),)),
            model=model,
            weights=weights,
            num_sequences=batch,
            batched=batch is None and speed.tpot_seconds is None,
            input_tokens=lengths[0],
            output_tokens=lengths[1],
            offload="offload" in scenario,
        )
    )
    return _with_those_that_fit(claim, model)


def _with_those_that_fit(claim: Claim, model: ClaimedModel) -> Claim:
    """Of a batch that the memory does not hold at a time, a part waits and is in no step."""
    context = (claim.input_tokens or 0) + (claim.output_tokens or 0) / 2
    room = limits_of(claim, model).room_for_sequences(context)
    if room is None or claim.num_sequences is None:
        return claim
    if claim.tpot_seconds is not None:
        room = max(1, room // ROOM_SHARE)
    return replace(claim, num_sequences=min(claim.num_sequences, room))


def _speed(row: Row) -> Claim | None:
    value, metric = number(row, "value"), text(row, "metric")
    if not value:
        return None
    length = number(row, "output_len", 0)
    match metric.split("_")[0], metric:
        case "tpot", _:
            return Claim(tpot_seconds=value / 1000)
        case "ttft", _:
            return Claim(ttft_seconds=value / 1000)
        case "e2e", _ if length:
            return Claim(tpot_seconds=value / 1000 / length)
        case _, "output_tok_s_total" | "decode_tok_s":
            return Claim(decode_tokens_per_second=value)
        case _, "prefill_tok_s":
            return Claim(prefill_tokens_per_second=value)
        case _, "batch_e2e_latency_s" if length:
            return Claim(decode_tokens_per_second=number(row, "batch_or_concurrency", 1) * length / value)
    return None


@cache
def _model(name: str, billions: str) -> ClaimedModel | None:
    published = find_published(OTHER_NAMES.get(name, name))
    if published is not None:
        return model_of(ModelReference(published.name, published=published))
    size = number({"params": billions}, "params", 0)
    return model_of_size(size * 1e9) if size else None


def _tokens(row: Row, column: str) -> int | None:
    return int(number(row, column, 0)) or None
