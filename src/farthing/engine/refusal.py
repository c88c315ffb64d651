"""A model that does not fit is refused before it is loaded, with what would fit: a format, a context, fewer sequences.

Knows memory only; each offer was planned as the engine plans.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from farthing.engine.config import EngineConfig
from farthing.errors import DoesNotFitError, FarthingError
from farthing.models.memory import MemoryPlan
from farthing.models.spec import ModelSpec

_CONTEXT_STEP = 256
_FORMATS = ("int8", "int4")

Planned = tuple[ModelSpec, int, MemoryPlan]
"""What a configuration comes to: the description, its context and the memory plan."""


def what_would_fit(
    engine_config: EngineConfig, plan: Callable[[EngineConfig], Planned], *, context: int, max_num_seqs: int
) -> tuple[str, ...]:
    """A phrase each, with the flags that do it; empty if nothing of this kind helps. `context` and `max_num_seqs`: what
    did not fit, said or not. `plan`: DoesNotFitError if a configuration doesn't, either."""
    return tuple(_phrases(engine_config, plan, context, max_num_seqs))


def refusal(error: DoesNotFitError, *, what: str, held: str, fits: tuple[str, ...]) -> DoesNotFitError:
    """The error for people: `what` does not fit, by how much, who else holds memory, and what would fit."""
    reason = f"{what}: {error.what}" + (f" ({held})" if held else "")
    if not fits:
        return DoesNotFitError(reason, fix="use a smaller model or more memory; farthing plan MODEL --on any finds it")
    return DoesNotFitError(reason, fix=f"the largest that fit: {'; '.join(fits)}")


def _phrases(
    engine_config: EngineConfig, plan: Callable[[EngineConfig], Planned], context: int, max_num_seqs: int
) -> Iterator[str]:
    here = _planned(engine_config, plan)
    assert here is None, "it fits"
    narrower = None
    for name in _FORMATS:
        narrower = _planned(replace(engine_config, format=name), plan)
        if narrower is not None:
            yield f"--format {name} ({narrower[0].precision.format.name}: {_room(narrower)})"
            break
    fewer = _fewer(engine_config, max_num_seqs, plan)
    if fewer is not None:
        yield f"--max-num-seqs {fewer}"
    shorter = _longest_context(engine_config, context, plan)
    if shorter:
        yield f"--context {shorter}"
    elif narrower is None:
        smallest = replace(engine_config, format=_FORMATS[-1], kv_format="int8")
        shorter = _longest_context(smallest, context + _CONTEXT_STEP, plan)
        if shorter:
            yield f"--format {_FORMATS[-1]} --kv-format int8 --context {min(shorter, context)}"


def _fewer(engine_config: EngineConfig, max_num_seqs: int, plan: Callable[[EngineConfig], Planned]) -> int | None:
    """The most sequences at a time with which it fits, of halves of those with which it doesn't."""
    count = max_num_seqs // 2
    while count:
        if _planned(replace(engine_config, max_num_seqs=count), plan) is not None:
            return count
        count //= 2
    return None


def _longest_context(engine_config: EngineConfig, context: int, plan: Callable[[EngineConfig], Planned]) -> int | None:
    """The longest below `context`, in steps; None if none fits."""
    low, high, found = 1, (context - 1) // _CONTEXT_STEP, None
    while low <= high:  # what fits in a context fits in a shorter one
        middle = (low + high) // 2
        if _planned(replace(engine_config, context=middle * _CONTEXT_STEP), plan) is None:
            high = middle - 1
        else:
            found, low = middle * _CONTEXT_STEP, middle + 1
    return found


def _planned(engine_config: EngineConfig, plan: Callable[[EngineConfig], Planned]) -> Planned | None:
    try:
        return plan(engine_config)
    except FarthingError:  # too large, or impossible for the model: no offer
        return None


def _room(planned: Planned) -> str:
    _, context, memory = planned
    count = memory.kv_tokens // context
    return f"KV room for {count} sequence{'s' * (count != 1)} of {context:,} tokens"
