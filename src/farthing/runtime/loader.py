"""Weights into memory: every tensor that the description names, checked before memory is taken, then read one by one.

From a checkpoint (safetensors, GGUF), or random for a model without files. Matrices of linear ops are rounded and laid
out by the kernels, on the device, a piece at a time; what is worth it is kept on disk (weight_cache.py). Knows shapes;
the file kinds are runtime/checkpoint.py's, the way to a device staging.py's.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from farthing.errors import CheckpointError
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import TORCH_DTYPES, Weight, largest_magnitude
from farthing.models.checkpoint_files import find_weights
from farthing.models.spec import ModelSpec, Op
from farthing.ops.elementwise import RMSNorm
from farthing.ops.linear import Embedding, Linear
from farthing.quantization.base import SIDE_SUFFIXES
from farthing.runtime.checkpoint import Checkpoint, open_checkpoint
from farthing.runtime.device import Memory
from farthing.runtime.staging import way_to
from farthing.runtime.weight_cache import LEAST_BYTES, WeightCache, weight_cache

Progress = Callable[[int, int], None]  # bytes done, bytes in all
Read = Callable[[str, Op, slice], torch.Tensor]  # some rows of a tensor, by its full name
_OTHER_CONFIG = "use the matching config.json"
_INTEGERS = ("int", "uint", "bool", "i8", "i16", "i32", "i64", "fp8")
_OF_A_MATRIX = ("weight", *SIDE_SUFFIXES)
_PIECE_VALUES = 2**24  # values that are read and rounded at a time
_ROWS_TOGETHER = 16  # of every backend, so that all draw the same random weights
_CHECKED_TOGETHER = 64  # pieces: a device is waited for after so many
_MAX_DRAWN_AHEAD = 8  # pieces, which take memory until they are stored
_REFERENCE = ReferenceKernels()


def load_weights(
    spec: ModelSpec,
    path: Path,
    memory: Memory,
    progress: Progress,
    kernels: ReferenceKernels = _REFERENCE,
    *,
    cache: bool = False,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """All stored tensors of the description by full name, and the rotary frequencies [head_dim / 2]. Only `kernels` can
    read the matrices of linear ops.

    `cache`: rounded weights are kept on disk for the next start. CheckpointError names what is missing, mis-shaped, no
    floating point or not finite.
    """
    with closing(open_checkpoint(path)) as checkpoint:
        _check(spec, checkpoint, path)
        loading, way = _Loading(spec, memory, kernels, progress), way_to(memory.device)

        def read(full_name: str, op: Op, rows: slice) -> torch.Tensor:
            return way.moved(checkpoint.read(full_name, rows=rows))

        kept = _cache_of(spec, path, kernels, loading.rounded()) if cache else None
        if kept is None:
            loading.fill(read, path.name)
        elif kept.read_into(loading.rounded(), way, loading.count):
            loading.fill(read, path.name, rounded=False)
        else:
            loading.restart()
            loading.fill(read, path.name)
            kept.write(loading.rounded())
        return loading.tensors, _frequencies(spec, checkpoint, memory)


def random_weights(
    spec: ModelSpec,
    seed: int,
    memory: Memory,
    kernels: ReferenceKernels = _REFERENCE,
    progress: Progress = lambda done, total: None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The same tensors drawn from (seed, name): norms 1, matrices of a scale that keeps activations near 1.

    They are drawn on the device, billions a second on a GPU, whose numbers are others than a CPU's.
    """
    device = memory.device

    def draw(full_name: str, op: Op, rows: slice) -> torch.Tensor:
        num_rows = rows.stop - rows.start
        generator = torch.Generator(device).manual_seed(zlib.crc32(f"{seed}:{full_name}:{rows.start}".encode()))
        match op:
            case RMSNorm():
                return torch.ones(num_rows, device=device)
            case Linear() if full_name.endswith(".weight"):
                return torch.randn(num_rows, op.in_features, generator=generator, device=device) * op.in_features**-0.5
            case Embedding():
                return torch.randn(num_rows, op.embedding_dim, generator=generator, device=device) * 0.1
            case _:
                return torch.randn(num_rows, generator=generator, device=device) * 0.1

    loading = _Loading(spec, memory, kernels, progress)
    loading.fill(draw, "random weights", num_threads=1 if device.type == "cuda" else torch.get_num_threads())
    return loading.tensors, _frequencies(spec, None, memory)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some rows of a tensor: what to read, by the name and op that have it, and where to put it."""

    full_name: str
    op: Op
    rows: slice
    into: torch.Tensor | Weight
    ended_bytes: int  # of the tensors that are whole with it


class _Loading:
    """Every tensor of the description, allocated in its format and filled piece by piece, so that no whole matrix is
    held twice."""

    def __init__(self, spec: ModelSpec, memory: Memory, kernels: ReferenceKernels, progress: Progress) -> None:
        self._spec, self._memory, self._kernels, self._progress = spec, memory, kernels, progress
        self._largest = torch.finfo(TORCH_DTYPES[spec.precision.activation_dtype]).max
        self._done = 0
        self._magnitudes: list[tuple[str, torch.Tensor]] = []  # not read yet, in the order of loading
        self.tensors = _allocated(spec, memory, joins=kernels.joins)

    def rounded(self) -> dict[str, torch.Tensor]:
        """The tensors of quantized matrices: codes and scales."""
        return {
            full_name: self.tensors[full_name]
            for name, op in self._spec.named_ops()
            if isinstance(op, Linear) and op.format.quantized
            for stored in op.stored()
            if (full_name := f"{name}.{stored.suffix}") and stored.suffix in _OF_A_MATRIX
        }

    def count(self, num_bytes: int) -> None:
        self._done += num_bytes
        self._progress(self._done, self._spec.weight_bytes)

    def restart(self) -> None:
        self._done = 0

    def fill(self, read: Read, source: str, *, rounded: bool = True, num_threads: int = 1) -> None:
        """`rounded=False`: quantized matrices are there already, as the kernels once wrote them. `num_threads` read
        ahead of what is stored."""
        pieces = list(self._pieces(rounded))
        for piece, value in zip(pieces, _read_all(read, pieces, num_threads), strict=True):
            self._magnitudes.append((piece.full_name, self._store(piece, value)))
            if len(self._magnitudes) == _CHECKED_TOGETHER:
                self._refuse_beyond(source)
            if piece.ended_bytes:
                self.count(piece.ended_bytes)
        self._refuse_beyond(source)
        self._memory.trim()

    def _pieces(self, rounded: bool) -> Iterator[_Piece]:
        for name, op in self._spec.named_ops():
            weight = self._weight(name, op)
            for stored in op.stored():
                tensor = self.tensors[f"{name}.{stored.suffix}"]
                if (
                    weight is not None
                    and isinstance(op, Linear)
                    and op.format.quantized
                    and stored.suffix in _OF_A_MATRIX
                ):
                    if not rounded:
                        self._kernels.adopt(weight)
                    elif stored.suffix == "weight":  # its scales come with it
                        origin, origin_op = _origin(self._spec, name, op)
                        num_bytes = op.format.nbytes(op.out_features, op.in_features)
                        whole = (weight.codes.shape[0], weight.in_features)
                        yield from self._cut(f"{origin}.weight", origin_op, whole, weight, num_bytes)
                else:
                    into = weight if weight is not None and stored.suffix == "weight" else tensor
                    yield from self._cut(f"{name}.{stored.suffix}", op, tuple(tensor.shape), into, stored.num_bytes)

    def _cut(
        self, full_name: str, op: Op, shape: tuple[int, ...], into: torch.Tensor | Weight, num_bytes: int
    ) -> Iterator[_Piece]:
        rows = _PIECE_VALUES // (shape[1] if len(shape) > 1 else 1)
        rows_at_once = max(self._kernels.rows_together, rows // _ROWS_TOGETHER * _ROWS_TOGETHER or rows, 1)
        for start in range(0, shape[0], rows_at_once):
            stop = min(start + rows_at_once, shape[0])
            yield _Piece(full_name, op, slice(start, stop), into, num_bytes if stop == shape[0] else 0)

    def _weight(self, name: str, op: Op) -> Weight | None:
        """The matrix of a linear op that has one of its own."""
        if not isinstance(op, Linear) or op.shares_matrix:
            return None
        codes, scales = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.weight_scale")
        return Weight(op.format, op.in_features, codes, scales, zero_NG=self.tensors.get(f"{name}.weight_zero"))

    def _store(self, piece: _Piece, value: torch.Tensor) -> torch.Tensor:
        """A matrix in the format and layout of the kernels; numbers as they are, or in another dtype. Their largest
        magnitude."""
        if isinstance(piece.into, Weight):
            return self._kernels.write_rows(piece.into, piece.rows.start, value)
        piece.into[piece.rows].copy_(value)
        return largest_magnitude(value)

    def _refuse_beyond(self, source: str) -> None:
        """Of what was loaded since the last time. Here a device is waited for."""
        magnitudes, self._magnitudes = self._magnitudes, []
        if not magnitudes:
            return
        values = torch.stack([magnitude for _, magnitude in magnitudes]).tolist()
        for (full_name, _), magnitude in zip(magnitudes, values, strict=True):
            if not magnitude <= self._largest:  # nor is NaN
                dtype = self._spec.precision.activation_dtype
                what = f"{source}: {full_name} holds NaN, infinity or numbers beyond {dtype}"
                raise CheckpointError(what, fix="download the file again, or use --format bf16")


def _allocated(spec: ModelSpec, memory: Memory, *, joins: bool) -> dict[str, torch.Tensor]:
    """`joins`: tensors of matrices that read the same rows lie one after the other."""
    tensors: dict[str, torch.Tensor] = {}
    for readers in spec.named_readers() if joins else ():
        for alike in zip(*(op.stored() for op in readers.values()), strict=False):
            rows, kinds = [one.shape[0] for one in alike], {(one.suffix, one.dtype, one.shape[1:]) for one in alike}
            if len(kinds) == 1:
                ((suffix, dtype, columns),) = kinds
                parts = memory.empty("weights", (sum(rows), *columns), dtype).split(rows)
                tensors.update(zip((f"{name}.{suffix}" for name in readers), parts, strict=True))
    for name, one in spec.stored_tensors().items():
        if name not in tensors:
            tensors[name] = memory.empty("weights", one.shape, one.dtype)
    return tensors


def _read_all(read: Read, pieces: Sequence[_Piece], num_threads: int) -> Iterator[torch.Tensor]:
    """What the pieces hold, one after the other; with several threads, the next ones are read meanwhile."""
    num_threads = min(num_threads, _MAX_DRAWN_AHEAD)
    if num_threads == 1:
        yield from (read(piece.full_name, piece.op, piece.rows) for piece in pieces)
        return
    with ThreadPoolExecutor(num_threads, thread_name_prefix="farthing-weights") as pool:
        coming: deque[Future[torch.Tensor]] = deque()
        for piece in pieces:
            coming.append(pool.submit(read, piece.full_name, piece.op, piece.rows))
            if len(coming) > num_threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _origin(spec: ModelSpec, name: str, op: Op) -> tuple[str, Op]:
    """Which op's matrix a file holds for this one: a tied head's is the embedding's."""
    if isinstance(op, Linear) and op.tied is not None and spec.embedding is not None:
        return op.tied, spec.embedding
    return name, op


def _cache_of(
    spec: ModelSpec, path: Path, kernels: ReferenceKernels, rounded: dict[str, torch.Tensor]
) -> WeightCache | None:
    """None where little is rounded."""
    if sum(tensor.nbytes for tensor in rounded.values()) < LEAST_BYTES:
        return None
    shapes = {name: list(tensor.shape) for name, tensor in rounded.items()}
    return weight_cache(
        find_weights(path).files, format_name=spec.precision.format.name, layout=kernels.layout, shapes=shapes
    )


def _check(spec: ModelSpec, checkpoint: Checkpoint, path: Path) -> None:
    """Names and shapes of the file against the description, before any memory is taken."""
    names, described = set(checkpoint.names), set[str]()
    for name, op in spec.named_ops():
        if _origin(spec, name, op) != (name, op):
            continue
        for stored in op.stored():
            full_name = f"{name}.{stored.suffix}"
            shape = stored.shape
            if isinstance(op, Linear) and stored.suffix == "weight":
                shape = (op.out_features, op.in_features)
            if stored.suffix in SIDE_SUFFIXES:
                continue
            described.add(full_name)
            if full_name not in names:
                raise CheckpointError(
                    f"{path.name} has no tensor {full_name}, which config.json asks for",
                    fix=_OTHER_CONFIG,
                )
            if checkpoint.shape(full_name) != shape:
                raise CheckpointError(
                    f"{path.name}: {full_name} has shape {list(checkpoint.shape(full_name))}, "
                    f"config.json says {list(shape)}",
                    fix=_OTHER_CONFIG,
                )
            kind = checkpoint.stored_as(full_name)
            if kind.startswith(_INTEGERS):
                raise CheckpointError(
                    f"{path.name}: {full_name} is stored as {kind}, quantized in a form that is not supported",
                    fix="use the unquantized checkpoint with --format int8 or int4, or a GGUF file",
                )
    factors = spec.rope.scaling.factors_tensor
    if factors is not None and factors not in names:
        raise CheckpointError(
            f"{path.name} has no tensor {factors!r:.80}, which rope scaling asks for", fix=_OTHER_CONFIG
        )
    extra = sorted(name for name in names if name not in described and not _ignorable(name, spec))
    if extra:
        raise CheckpointError(
            f"{path.name} holds {len(extra)} tensors that the description does not have, such as {extra[0]}",
            fix="use the matching config.json, or a checkpoint of a supported architecture",
        )


def _ignorable(name: str, spec: ModelSpec) -> bool:
    """Buffers that some files carry although they follow from config.json, and the second copy of a tied head."""
    tied = spec.head is not None and spec.head.tied is not None
    return (
        name.endswith("rotary_emb.inv_freq")
        or name == spec.rope.scaling.factors_tensor
        or (tied and name == "lm_head.weight")
    )


def _frequencies(spec: ModelSpec, checkpoint: Checkpoint | None, memory: Memory) -> torch.Tensor:
    frequencies = torch.tensor(spec.rope.frequencies(), dtype=torch.float64)
    factors_tensor = spec.rope.scaling.factors_tensor
    if factors_tensor is not None and checkpoint is not None:
        factors = checkpoint.read(factors_tensor).double()
        if factors.shape != frequencies.shape or not bool((factors > 0).all()):
            raise CheckpointError(f"{factors_tensor} must hold {frequencies.numel()} positive factors")
        frequencies = frequencies / factors
    return frequencies.float().to(memory.device)
