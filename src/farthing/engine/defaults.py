"""How a model wants to be sampled when the caller does not say: its generation_config.json, else temperature 0.7."""

from pathlib import Path

from farthing.models.auto import read_json_object
from farthing.models.config_reader import ConfigReader
from farthing.sampling_params import SamplingParams

DEFAULT_TEMPERATURE = 0.7


def generation_defaults(path: Path) -> SamplingParams:
    """What the model's authors say of temperature, top-k, top-p, min-p, repetition penalty and sampling at all.

    A value that means "off" (null, top_k 0 or -1) is off. FarthingError names a value that is out of range.
    """
    file = path / "generation_config.json"
    config = ConfigReader(read_json_object(file) if file.is_file() else {}, file.name)
    top_k = config.number("top_k", 0.0, positive=False)
    samples = config.flag("do_sample", True)
    return SamplingParams(
        temperature=config.number("temperature", DEFAULT_TEMPERATURE, positive=False) if samples else 0.0,
        top_k=int(top_k) if top_k >= 1 else None,
        top_p=config.number("top_p", 1.0, positive=False) or 1.0,
        min_p=config.number("min_p", 0.0, positive=False),
        repetition_penalty=config.number("repetition_penalty", 1.0),
    )
