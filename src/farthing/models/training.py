"""What one step of training keeps in memory: weights, gradients, optimizer states, activations, logits - per rank.

The answer to "why can't this card train it". Training runs in 16 bits whatever the checkpoint is stored in. Knows no
devices and no speed: planner/training/training.py compares the bytes with cards. What an operation holds:
training_ops.py. Sources: mixed precision and ZeRO, Rajbhandari et al. 2020 (arXiv 1910.02054); recomputation and 1F1B
pipelines, Korthikanti et al. 2022 (arXiv 2205.05198); LoRA, Hu et al. 2021 (arXiv 2106.09685); QLoRA, Dettmers et al.
2023 (arXiv 2305.14314).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from farthing.errors import UsageError
from farthing.models.parallel import parallelize
from farthing.models.spec import ModelSpec, Op, num_parameters
from farthing.models.training_ops import WIDTH_BYTES, adapted_matrices, frozen_bytes, kept_bytes, num_adapter_parameters
from farthing.quantization.base import WeightFormat, resolve

Recompute = Literal["none", "selective", "full"]
Offload = Literal["none", "optimizer", "all"]
RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")
OFFLOAD: tuple[Offload, ...] = ("none", "optimizer", "all")
_LOGIT_BYTES = 4 + 4  # fp32: log-probabilities, which the loss keeps, and the gradient of the logits


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Bytes that each trained parameter takes: the weight and its gradient (16 bits each), and the states."""

    weight_bytes: int
    gradient_bytes: int
    state_bytes: int
    states: str

    @property
    def bytes_per_parameter(self) -> int:
        return self.weight_bytes + self.gradient_bytes + self.state_bytes


OPTIMIZERS = {
    "adamw": Optimizer(2, 2, 12, "fp32 weights, momentum and variance"),
    "adamw-bf16": Optimizer(2, 2, 4, "bf16 momentum and variance"),
    "adamw-8bit": Optimizer(2, 2, 2, "8-bit momentum and variance, without their scales (under 2 %)"),
    "sgd": Optimizer(2, 2, 0, "no states"),
}


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """How a model is trained. UsageError names what makes no sense.

    `micro_batch` sequences of `sequence_tokens` pass a rank at a time. `zero_stage` divides over the `data_parallel`
    ranks: 1 the optimizer states, 2 also the gradients, 3 also the weights (FSDP). `recompute`: "selective" computes
    norms and SwiGLU again in the backward pass, "full" whole layers. With `lora_rank` only adapters of that rank
    beside every linear of the layers are trained, and those are frozen in `frozen_format` (None: 16 bits; "int4" has
    the size of QLoRA's nf4). `offload` keeps the optimizer states, or all states, in host memory.
    """

    micro_batch: int = 1
    sequence_tokens: int = 4096
    optimizer: str = "adamw"
    zero_stage: int = 0
    data_parallel: int = 1
    tp: int = 1
    pp: int = 1
    recompute: Recompute = "none"
    lora_rank: int | None = None
    frozen_format: str | None = None
    offload: Offload = "none"

    def __post_init__(self) -> None:
        for name in ("micro_batch", "sequence_tokens", "data_parallel", "tp", "pp", "lora_rank"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} of the training setup must be at least 1")
        choices: tuple[tuple[str, Sequence[object]], ...] = (
            ("optimizer", tuple(OPTIMIZERS)),
            ("zero_stage", (0, 1, 2, 3)),
            ("recompute", RECOMPUTE),
            ("offload", OFFLOAD),
        )
        for name, known in choices:
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name} {getattr(self, name)!r:.40} of the training setup is not known",
                    fix=f"use one of {', '.join(map(str, known))}",
                )
        if self.frozen_format is not None:
            if self.lora_rank is None:
                raise UsageError(
                    f"weights in {self.frozen_format} can't be trained, only frozen under adapters",
                    fix="set a lora_rank, or no frozen_format",
                )
            _format(self.frozen_format)

    @property
    def num_devices(self) -> int:
        return self.data_parallel * self.tp * self.pp

    @property
    def num_tokens(self) -> int:
        """Tokens that a rank has in one micro-batch."""
        return self.micro_batch * self.sequence_tokens


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Bytes of one rank of pipeline `stage`. The parts are there at once at the start of a backward pass, where
    gradients of earlier micro-batches wait.

    `working_bytes`: weights gathered for the layer at work and for its neighbour, gradients before they are divided,
    a quantized matrix widened. `host_bytes`: of this rank in host memory, not in the total.
    """

    stage: int
    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    logits_bytes: int
    working_bytes: int
    host_bytes: int

    @property
    def total_bytes(self) -> int:
        return (
            self.weights_bytes
            + self.gradient_bytes
            + self.optimizer_bytes
            + self.activation_bytes
            + self.logits_bytes
            + self.working_bytes
        )


def training_memory(spec: ModelSpec, setup: TrainingSetup) -> TrainingMemory:
    """Bytes of the heaviest rank. UnsupportedError where the model can't be divided so."""
    return heaviest_rank(parallelize(spec, setup.tp, setup.pp), setup)


def heaviest_rank(stages: Sequence[ModelSpec], setup: TrainingSetup) -> TrainingMemory:
    """The same for a model that parallelize() has divided already (by the tp and pp of `setup`)."""
    assert len(stages) == setup.pp
    ranks = (_rank_memory(part, stage, setup) for stage, part in enumerate(stages))
    return max(ranks, key=lambda rank: rank.total_bytes)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What ZeRO 3 gathers at a time, and how often the part has it: a layer, the embedding, or the head."""

    count: int
    num_trained: int
    weights_bytes: int
    largest_matrix: int

    @classmethod
    def of(cls, ops: Sequence[Op], count: int, setup: TrainingSetup) -> "_Unit":
        if setup.lora_rank is None:
            num_trained = sum(num_parameters(op) for op in ops)
            weights_bytes = WIDTH_BYTES * num_trained
        else:
            frozen = _format(setup.frozen_format or "bf16")
            num_trained = sum(num_adapter_parameters(op, setup.lora_rank) for op in ops)
            weights_bytes = WIDTH_BYTES * num_trained + sum(frozen_bytes(op, frozen) for op in ops)
        matrices = [rows * columns for op in ops for rows, columns in adapted_matrices(op)]
        return cls(count, num_trained, weights_bytes, max(matrices, default=0))


def _rank_memory(part: ModelSpec, stage: int, setup: TrainingSetup) -> TrainingMemory:
    optimizer = OPTIMIZERS[setup.optimizer]
    layers = [_Unit.of(layer.ops(), count, setup) for layer, count in part.distinct_layers]
    units = [*layers, _Unit.of(part.entry_ops, 1, setup), _Unit.of(part.exit_ops, 1, setup)]
    num_trained = sum(unit.num_trained * unit.count for unit in units)
    whole_weights = sum(unit.weights_bytes * unit.count for unit in units)
    whole_gradients = num_trained * optimizer.gradient_bytes

    def share(num_bytes: int, from_zero_stage: int) -> int:
        return -(-num_bytes // setup.data_parallel) if setup.zero_stage >= from_zero_stage else num_bytes

    weights, gradients = share(whole_weights, 3), share(whole_gradients, 2)
    states = share(num_trained * optimizer.state_bytes, 1)
    host = 0
    if setup.offload == "all":
        host, weights, gradients, states = weights + gradients + states, 0, 0, 0
    elif setup.offload == "optimizer":
        host, states = states, 0
    at_work = max(unit.weights_bytes for unit in units) + max(unit.weights_bytes for unit in layers)
    gathered = min(at_work, whole_weights - weights)
    undivided = min(max(unit.num_trained for unit in units) * optimizer.gradient_bytes, whole_gradients - gradients)
    quantized = _format(setup.frozen_format or "bf16").quantized
    widened = WIDTH_BYTES * max(unit.largest_matrix for unit in units) if quantized else 0
    return TrainingMemory(
        stage=stage,
        weights_bytes=weights,
        gradient_bytes=gradients,
        optimizer_bytes=states,
        activation_bytes=_activation_bytes(part, stage, setup),
        logits_bytes=_LOGIT_BYTES * setup.num_tokens * (part.head.out_features if part.head else 0),
        working_bytes=gathered + undivided + widened,
        host_bytes=host,
    )


def _activation_bytes(part: ModelSpec, stage: int, setup: TrainingSetup) -> int:
    """Of as many micro-batches as a 1F1B pipeline has in flight here, `pp` at the first stage and one at the last,
    and of the layer that is computed again. The layer's input is all that full recomputation keeps."""
    num_tokens, rank = setup.num_tokens, setup.lora_rank or 0
    kept = kept_bytes((*part.entry_ops, *part.exit_ops), num_tokens, cheap=True, adapter_rank=rank)
    again = 0
    for layer, count in part.distinct_layers:
        everything = kept_bytes(layer.ops(), num_tokens, cheap=True, adapter_rank=rank)
        match setup.recompute:
            case "none":
                of_layer = everything
            case "selective":
                of_layer = kept_bytes(layer.ops(), num_tokens, cheap=False, adapter_rank=rank)
            case "full":
                of_layer = num_tokens * part.hidden_size * WIDTH_BYTES
        kept += of_layer * count
        again = max(again, everything - of_layer)
    return (setup.pp - stage) * kept + again


@cache
def _format(name: str) -> WeightFormat:
    return resolve(name, "cuda")
