"""Where calls of kernels go: computed at once, or recorded once and replayed many times with other inputs.

While a tape is recorded nothing is computed: intermediates are tensors without memory, and every operator of torch
that is not a view or an empty allocation is handed to the backend or refused. When it is finished, each intermediate
gets its place in one arena, shared with those that are never alive at the same time, and each call is told whether
it has to wait for those before it. Knows no model; runtime/graph.py decides what is recorded.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from farthing.kernels.native.library import Call, Calls, Pool

Operator = Callable[[str, Sequence[object], Mapping[str, object]], torch.Tensor | None]
_ALIGNMENT = 64
_VIEWS = ("view", "_unsafe_view", "slice", "select", "split", "alias", "unsqueeze", "squeeze", "detach")


@dataclass(frozen=True, slots=True)
class Work:
    """A kernel over contiguous tensors, as many times as `rows_of` has rows. The first `writes` operands are written,
    the others read."""

    op: str
    rows_of: torch.Tensor
    operands: Sequence[torch.Tensor | None]
    writes: int = 1
    sizes: Sequence[int] = ()
    scalars: Sequence[float] = ()

    def __post_init__(self) -> None:
        contiguous = all(operand is None or operand.is_contiguous() for operand in self.operands)
        assert contiguous, f"{self.op} reads contiguous tensors"


class Target(Protocol):
    """`rows_of`: a tensor with as many rows as the kernel goes through, or as the new tensor has."""

    def empty(self, rows_of: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """[rows, *shape], to be written by one call."""
        ...

    def scratch(self, shape: Sequence[int]) -> torch.Tensor:
        """fp32 memory that one call hands on to the next."""
        ...

    def call(self, work: Work) -> None: ...


class Immediate:
    """Every call is computed when it is made."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def empty(self, rows_of: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty((rows_of.shape[0], *shape), dtype=dtype)

    def scratch(self, shape: Sequence[int]) -> torch.Tensor:
        return torch.empty(tuple(shape))

    def call(self, work: Work) -> None:
        rows = torch.tensor([work.rows_of.shape[0]])
        pointers = [None if operand is None else operand.data_ptr() for operand in work.operands]
        self._pool.run(Calls([Call(work.op, rows.data_ptr(), pointers, work.sizes, work.scalars)]))


class Recorder:
    """Notes calls. `count(tensor, address)` says where the number of rows of an input will stand."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._recorded: list[Work] = []
        self._rows: dict[int, int] = {}  # by storage, the address of its number of rows
        self._kept: list[torch.Tensor] = []  # so that no storage is taken for another

    def count(self, tensor: torch.Tensor, rows_address: int) -> None:
        self._rows[_storage(tensor)] = rows_address
        self._kept.append(tensor)

    def empty(self, rows_of: torch.Tensor, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        tensor = torch.empty((rows_of.shape[0], *shape), dtype=dtype, device="meta")
        self.count(tensor, self._rows[_storage(rows_of)])
        return tensor

    def scratch(self, shape: Sequence[int]) -> torch.Tensor:
        tensor = torch.empty(tuple(shape), device="meta")
        self._kept.append(tensor)
        return tensor

    def call(self, work: Work) -> None:
        assert _storage(work.rows_of) in self._rows, f"{work.op} goes through rows that nobody counts"
        self._recorded.append(work)

    @contextmanager
    def intercepting(self, operator: Operator) -> Iterator[None]:
        """Operators of torch go to `operator` meanwhile; AssertionError for one that it does not know."""
        with _Interceptor(operator):
            yield

    def finish(self, *outputs: torch.Tensor) -> "Tape":
        """The tape that computes `outputs` anew each time."""
        return Tape(self._pool, self._recorded, self._rows, outputs)


class Tape:
    """A recorded run. `run` reads the inputs where they were when it was recorded; `outputs` hold what came out until
    the next run."""

    def __init__(
        self, pool: Pool, recorded: Sequence[Work], rows: Mapping[int, int], outputs: Sequence[torch.Tensor]
    ) -> None:
        places, num_bytes = _arrange(recorded, outputs)
        self.arena = torch.empty(num_bytes, dtype=torch.uint8)
        base = self.arena.data_ptr()

        def address(tensor: torch.Tensor | None) -> int | None:
            if tensor is None:
                return None
            if tensor.device.type != "meta":
                return tensor.data_ptr()
            return base + places[_storage(tensor)] + tensor.storage_offset() * tensor.element_size()

        pointers = [[address(operand) for operand in work.operands] for work in recorded]
        self._pool = pool
        self._ops = [work.op for work in recorded]
        self._kept = [operand for work in recorded for operand in work.operands if operand is not None]
        self._calls = Calls(
            [
                Call(work.op, rows[_storage(work.rows_of)], addresses, work.sizes, work.scalars, wait)
                for work, addresses, wait in zip(recorded, pointers, _waits(recorded, pointers), strict=True)
            ]
        )
        self.outputs = tuple(self._place(output, places[_storage(output)]) for output in outputs)

    def _place(self, output: torch.Tensor, start: int) -> torch.Tensor:
        num_bytes = output.numel() * output.element_size()
        return self.arena[start : start + num_bytes].view(output.dtype).view(output.shape)

    @property
    def num_calls(self) -> int:
        return len(self._ops)

    def run(self) -> None:
        self._pool.run(self._calls)

    def timed(self) -> list[tuple[str, float]]:
        """One run, call by call: kernel and seconds of each, with what it takes to start it alone."""
        found = []
        for op, call in zip(self._ops, self._calls.each(), strict=True):
            begin = time.perf_counter()
            self._pool.run(call)
            found.append((op, time.perf_counter() - begin))
        return found


def _arrange(recorded: Sequence[Work], outputs: Sequence[torch.Tensor]) -> tuple[dict[int, int], int]:
    """Offset of every intermediate in the arena, by storage, and the size of the arena: first fit among those that
    are alive at the same time."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    sizes: dict[int, int] = {}
    for index, work in enumerate(recorded):
        for operand in work.operands:
            if operand is not None and operand.device.type == "meta":
                storage = _storage(operand)
                first.setdefault(storage, index)
                last[storage] = index
                sizes[storage] = -(-operand.untyped_storage().nbytes() // _ALIGNMENT) * _ALIGNMENT
    last.update((_storage(output), len(recorded)) for output in outputs)
    places: dict[int, int] = {}
    alive: list[int] = []
    for storage in first:  # in order of their first use
        # What its first call still reads is alive with it: a kernel's output never lies on its input.
        alive = sorted((other for other in alive if last[other] >= first[storage]), key=places.__getitem__)
        offset = 0
        for other in alive:
            if offset + sizes[storage] <= places[other]:
                break
            offset = max(offset, places[other] + sizes[other])
        places[storage] = offset
        alive.append(storage)
    return places, max((places[storage] + sizes[storage] for storage in places), default=0)


def _waits(recorded: Sequence[Work], addresses: Sequence[Sequence[int | None]]) -> list[bool]:
    """Whether a call touches memory that was written, or writes what was read, since all threads last met."""
    waits: list[bool] = []
    written: list[range] = []
    read: list[range] = []
    for work, pointers in zip(recorded, addresses, strict=True):
        spans = [
            range(pointer, pointer + operand.numel() * operand.element_size())
            for operand, pointer in zip(work.operands, pointers, strict=True)
            if operand is not None and pointer is not None
        ]
        writes, reads = spans[: work.writes], spans[work.writes :]
        wait = any(_overlap(span, other) for span in spans for other in written) or any(
            _overlap(span, other) for span in writes for other in read
        )
        if wait:
            written, read = [], []
        written += writes
        read += reads
        waits.append(wait)
    return waits


def _overlap(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop


class _Interceptor(TorchDispatchMode):
    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self._operator = operator

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled in here; saying so would import all of torch's compiler, which takes a second."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _VIEWS or name.startswith("empty"):
            return func(*args, **(kwargs or {}))
        result = self._operator(name, args, kwargs or {})
        assert result is not None, f"{func} has no kernel, so a step with it can't be recorded"
        return result


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
