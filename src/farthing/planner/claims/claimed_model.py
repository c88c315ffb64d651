"""The model of a claim, as far as the laws of a fact check need it: values held, values read, values multiplied.

From the one description where the table has the model; from its size alone ("70B", "1T") where it has not, with what
that assumes said. Knows no format (planner/claims/weight_bits.py) and no hardware.
"""

from dataclasses import dataclass, replace

from farthing.models.auto import config_of, describe
from farthing.models.published_models import published_models
from farthing.models.reference import ModelReference, find_model
from farthing.models.spec import ModelSpec, Precision, num_parameters
from farthing.quantization.base import DTYPE_BYTES, resolve

# A table that is only looked up is not read: of 7B to 405B LLaMAs it is 0.5 to 7 % of the values.
_READ_SHARE = 0.9
# Kimi-K2 computes with 32 of 1,000 G values for each token (arXiv 2507.20534); nothing published with less.
_SPARSEST_SHARE = 0.03
_LARGEST_DENSE = 450e9  # Llama-3.1-405B; what is larger has experts
_NEAR = (0.95, 1.01)  # names round down rarely: 7B is 6.74, 70B is 70.55
_WITH_EXPERTS = (
    "moe", "kimi", "deepseek", "gpt-oss", "glm-4", "glm-5", "grok", "scout", "maverick", "minimax", "mixtral", "dbrx",
    "hunyuan", "ernie", "qwen3-next",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClaimedModel:
    """`num_parameters` held in memory. Of each sequence's token at least: `decode_parameters` are read and multiplied
    when it is generated, `prefill_parameters` multiplied when it is a prompt's (the head computes only the last).

    `end_parameters`: of embedding and head, where they are known. `kv_values_per_token`: of the layers that attend to
    everything. `assumption`: what was taken for granted.
    """

    name: str
    num_parameters: float
    decode_parameters: float
    prefill_parameters: float
    end_parameters: float = 0
    kv_values_per_token: int = 0
    assumption: str | None = None


def model_by_name(name: str) -> ClaimedModel:
    """An alias, a folder, a file, as everywhere on the command line. ModelNotFoundError names the nearest."""
    return model_of(find_model(name))


def model_of(reference: ModelReference) -> ClaimedModel:
    """The model of the table, or of files of this machine."""
    half = resolve("fp16", "cuda")
    return _from_spec(reference.name, describe(config_of(reference), Precision.of(half)))


def _from_spec(name: str, spec: ModelSpec) -> ClaimedModel:
    assert spec.embedding is not None and spec.head is not None
    head = spec.head.in_features * spec.head.out_features
    tied = spec.head.tied is not None
    table = num_parameters(spec.embedding)
    used = spec.num_active_parameters - table  # what is looked up is not read
    kv_bytes = sum(layer.attention.kv_bytes_per_token for layer in spec.layers if layer.attention.window is None)
    return ClaimedModel(
        name=name,
        num_parameters=spec.num_parameters,
        decode_parameters=used + (head if tied else 0),
        prefill_parameters=used - (0 if tied else head),
        end_parameters=table + (0 if tied else head),
        kv_values_per_token=kv_bytes // DTYPE_BYTES[spec.precision.kv_dtype],
    )


def model_of_size(num_parameters: float, *, num_active: float | None = None, called: str = "") -> ClaimedModel:
    """A model of which only the size is known: the LLaMA of that size, else a model of so many values.

    `called`: the words around it; they tell a model with experts, of which a token uses a part.
    """
    label = f"{num_parameters / 1e12:g}T" if num_parameters >= 1e12 else f"{num_parameters / 1e9:g}B"
    if num_active is not None:
        return _counted(label, num_parameters, num_active, None)
    if num_parameters > _LARGEST_DENSE or any(word in called.lower() for word in _WITH_EXPERTS):
        return _counted(
            label,
            num_parameters,
            num_parameters * _SPARSEST_SHARE,
            f"of {label} parameters a token uses at least {_SPARSEST_SHARE:.0%}, as in the sparsest published model",
        )
    llamas = [model for name, model in published_models().items() if name.startswith(("llama", "codellama"))]
    llamas.sort(key=lambda model: model.released, reverse=True)  # of equal sizes the latest, LLaMA before its kin
    llamas.sort(key=lambda model: model.name.startswith("codellama"))
    nearest = min(llamas, key=lambda model: round(abs(model.parameters / num_parameters - 1), 3))
    if _NEAR[0] <= nearest.parameters / num_parameters <= _NEAR[1]:
        found = model_of(ModelReference(nearest.name, published=nearest))
        return replace(found, assumption=f"{label} is read as {nearest.name}, the nearest dense LLaMA")
    return _counted(label, num_parameters, num_parameters * _READ_SHARE, f"{label} is read as a dense model")


def _counted(label: str, total: float, used: float, assumption: str | None) -> ClaimedModel:
    return ClaimedModel(f"a model of {label}", total, used, used * _READ_SHARE, assumption=assumption)
