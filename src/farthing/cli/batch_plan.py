"""What `farthing batch` can say before it has asked anything: speeds by the planner, tokens by the model's tokenizer.

Only for models and limits that this machine knows; what is not known is None, and the forecast is silent about it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from farthing import discover
from farthing.client.batch_forecast import Rates, Survey
from farthing.engine.config import EngineConfig
from farthing.engine.fit import fit_here
from farthing.errors import FarthingError
from farthing.hub.cache import cached_weights, find_anywhere
from farthing.models.auto import read_config
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import make_plan
from farthing.planner.request import MAX_COUNT, PlanRequest


@dataclass(frozen=True, slots=True)
class PlannedRates:
    """`reason`: why there are no rates. `price_per_hour`: what the plan takes this machine to cost; None is unknown."""

    rates: Rates | None
    price_per_hour: float | None
    reason: str = ""


def planned_here(model: str, config: EngineConfig, found: Survey, batch: int, *, prompt_tokens: int) -> PlannedRates:
    """A plan of this machine for rows like those, `batch` at a time."""
    rows = max(1, found.num_to_ask)
    try:
        model_config = read_config(_files(model))
        sizes = fit_here(model, model_config, config).sizes
        request = PlanRequest(
            format=config.format,
            kv_format=config.kv_format,
            batch=max(1, min(batch, sizes.max_num_seqs, rows)),
            input_tokens=max(1, prompt_tokens // rows),
            output_tokens=max(1, found.max_output_tokens // rows),
            memory="1TiB",  # whether it fits, the engine says; here only its speed is asked
            max_num_seqs=sizes.max_num_seqs,
            max_batch_tokens=sizes.max_batch_tokens,
            block_size=config.block_size,
        )
        hardware = find_hardware(request)
        try:
            made = make_plan(model, model_config, hardware, request)
        except FarthingError:  # lengths that the model does not have: rows that ask for too much
            made = make_plan(model, model_config, hardware, replace(request, input_tokens=None, output_tokens=None))
    except FarthingError as error:
        return PlannedRates(None, None, error.what)
    price = made.price.dollars_per_hour
    if not made.choices:
        return PlannedRates(None, price, made.untimed or "it does not fit")
    speed = made.best.speed
    source = f"the plan of this machine at batch {speed.batch}"
    if config.batch_invariant:
        source += ", without --batch-invariant, which is slower"
    return PlannedRates(Rates(speed.prefill.tokens_per_second, speed.decode.tokens_per_second, source), price)


def tokenizer_here(model: str) -> Callable[[str], int] | None:
    """Counts the tokens of a text; None if the model's files are not on this machine."""
    try:
        path = _files(model)
        loading: Any = discover.load("farthing.engine", "model_text")
        text = loading.load_model_text(path, read_config(path), MAX_COUNT, with_template=False)
    except (FarthingError, ImportError):
        return None
    return lambda prompt: len(text.encode(prompt))


def _files(model: str) -> Path:
    """ModelNotFoundError if they are not on this machine."""
    found = find_anywhere(model)
    return found if isinstance(found, Path) else cached_weights(found)
