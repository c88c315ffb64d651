"""From a model to its description: folder, config.json, .gguf or published dimensions -> family -> ModelSpec.

A family is found by its file (models/families) and the ARCHITECTURE that it names. Knows no tensors and executes
nothing: a model that brings its own code (auto_map) is refused.
"""

import json
from pathlib import Path
from types import ModuleType

from farthing.discover import load, names
from farthing.errors import ConfigError, ModelNotFoundError, UnsupportedError
from farthing.models.config_reader import ConfigReader
from farthing.models.gguf_config import config_from_gguf
from farthing.models.gguf_header import read_gguf_header
from farthing.models.reference import ModelReference
from farthing.models.spec import ModelSpec, Precision

MAX_CONFIG_BYTES = 4 * 1024 * 1024
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "torch.bfloat16": "bf16", "torch.float16": "fp16"}
_QUANTIZATION_FILES = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
_FAMILIES = "farthing.models.families"


def config_of(model: ModelReference) -> ConfigReader:
    """The config of a model of this machine or of the table; ModelNotFoundError for a repository that is in neither."""
    if model.path is not None:
        return read_config(model.path)
    if model.published is not None:
        return ConfigReader(model.published.config, model.name)
    raise ModelNotFoundError(
        f"the dimensions of {model.repository} are not known offline", fix=f"fetch it: farthing pull {model.repository}"
    )


def read_config(path: Path) -> ConfigReader:
    """The model's config.json, or the same made from a GGUF header. ConfigError names what is wrong."""
    if path.suffix == ".gguf":
        return ConfigReader(config_from_gguf(read_gguf_header(path)), path.name)
    file = path / "config.json" if path.is_dir() else path
    for name in _QUANTIZATION_FILES:
        if (file.parent / name).is_file():
            raise UnsupportedError(
                f"{name} beside {file.name} says that these weights are quantized, in a form that is not supported",
                fix="use the unquantized checkpoint with --format int8 or int4, or a GGUF file",
            )
    if not file.is_file():
        raise ModelNotFoundError(f"{file} does not exist", fix="name a folder that holds config.json, or a .gguf file")
    return ConfigReader(read_json_object(file), file.name)


def read_json_object(file: Path) -> dict[str, object]:
    """A JSON object from a file of bounded size. NaN and infinity, which JSON does not have, are refused."""

    def refuse(constant: str) -> object:
        raise ConfigError(f"{file.name} holds {constant}, which is no JSON number", fix="use the model's original file")

    try:
        if file.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(
                f"{file.name} is larger than {MAX_CONFIG_BYTES} bytes", fix="use the model's original file"
            )
        parsed = json.loads(file.read_bytes(), parse_constant=refuse)
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}", fix="check its permissions") from None
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{file.name} is not valid JSON: {reason}", fix="use the model's original file") from None
    if not isinstance(parsed, dict):
        raise ConfigError(f"{file.name} holds no JSON object", fix="use the model's original file")
    return parsed


def describe(config: ConfigReader, precision: Precision) -> ModelSpec:
    """The description of the model. UnsupportedError names an architecture or feature that Farthing does not run."""
    if config.values.get("auto_map"):
        raise UnsupportedError(
            f"{config.source} has auto_map: the model brings its own code, which Farthing never executes",
            fix="use a checkpoint of a supported architecture",
        )
    method = config.section("quantization_config").text("quant_method", "unnamed")
    if config.has("quantization_config"):
        raise UnsupportedError(
            f"{config.source}: weights stored in quantization {method!r} are not supported",
            fix="use the unquantized checkpoint with --format int8 or int4, or a GGUF file",
        )
    return _family(config).build(config, precision)  # type: ignore[no-any-return]


def stored_dtype(config: ConfigReader) -> str:
    """fp32, bf16 or fp16: what config.json says of the weights; fp32 where it says nothing."""
    named = config.text("dtype", config.text("torch_dtype", "float32"))
    return _DTYPES.get(named, "fp32")


def _family(config: ConfigReader) -> ModuleType:
    families = {module.ARCHITECTURE: module for module in (load(_FAMILIES, name) for name in names(_FAMILIES))}
    architectures = config.texts("architectures")
    if not architectures:
        by_type = {name: load(_FAMILIES, name) for name in names(_FAMILIES)}
        model_type = config.text("model_type")
        if model_type in by_type:
            return by_type[model_type]
        architectures = (f"model_type {model_type}",)
    for architecture in architectures:
        if architecture in families:
            return families[architecture]
    raise UnsupportedError(
        f"{config.source}: architecture {architectures[0]!r} is not supported",
        fix=f"supported: {', '.join(sorted(families))}",
    )
