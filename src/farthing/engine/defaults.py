"""How a model wants to be sampled when the caller does not say: its generation_config.json, else temperature 0.7."""

from pathlib import Path

from farthing.models.auto import read_json_object
from farthing.models.config_reader import ConfigReader
from farthing.sampling_params import SamplingParams

DEFAULT_TEMPERATURE = 0.7


def generation_defaults(path: Path) -> SamplingParams:
    """Temperature, top-k and top-p of the model's authors. ConfigError names a value that is out of range."""
    file = path / "generation_config.json"
    config = ConfigReader(read_json_object(file) if file.is_file() else {}, file.name)
    top_k = config.values.get("top_k")
    return SamplingParams(
        temperature=config.number("temperature", DEFAULT_TEMPERATURE, positive=False),
        top_p=config.number("top_p", 1.0),
        top_k=None if top_k in (None, 0, -1) else config.size("top_k"),
    )
