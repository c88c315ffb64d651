"""The description of a model that the engine runs: what is only planned so far is refused by name.

Knows what a spec says of itself. Knows no weights and no torch; asked before a download and before a load.
"""

from farthing.errors import UnsupportedError
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import ModelSpec, Precision


def describe_runnable(config: ConfigReader, precision: Precision, name: str) -> ModelSpec:
    """As models.auto.describe. UnsupportedError, too, for a model that can be planned but not run."""
    spec = describe(config, precision)
    if spec.plan_only:
        raise UnsupportedError(
            f"{name} ({spec.family}) is planned only: the engine does not run mixture-of-experts models yet",
            fix=f"farthing plan {name}",
        )
    return spec
