"""The paged KV cache as numbers: which blocks are free, held and by how many, or kept for their prefix.

A block is in exactly one state: free, held (references > 0), or kept (no reference, still in the prefix cache).
A full block is found by VALUE: (identity of its parent, its token ids, salt). The identity is a serial number that is
given when the block is published and never again, so a recycled block matches nothing and no hash can collide.
Knows no sequences, no batches in flight and no tensors: scheduler.py says when a block may be released.
"""

from collections import OrderedDict
from collections.abc import Sequence as Ordered
from itertools import count

_Key = tuple[int, tuple[int, ...], str]  # serial of the parent block, token ids, salt
_ROOT = 0  # the parent of a first block; serials count from 1


class BlockPool:
    """`num_blocks` blocks of `block_size` tokens each.

    Whoever holds a cached block holds all of its ancestors, from the first block on. So references never grow along a
    chain, a release from the last block to the first keeps children older than their parents, and evicting the
    oldest kept block never cuts a chain in the middle.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0 and block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._num_references = [0] * num_blocks
        self._free = list(range(num_blocks - 1, -1, -1))  # a stack: block 0 goes first, the last released is reused
        self._kept: OrderedDict[int, None] = OrderedDict()  # unreferenced cached blocks, the least recent first
        self._block_of: dict[_Key, int] = {}
        self._key_of: dict[int, _Key] = {}
        self._serial_of: dict[int, int] = {}
        self._serials = count(_ROOT + 1)

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` can give: free ones, and kept ones that it may evict."""
        return len(self._free) + len(self._kept)

    @property
    def num_cached(self) -> int:
        """Blocks that can be found by value, held or kept."""
        return len(self._block_of)

    def num_references(self, block_id: int) -> int:
        return self._num_references[block_id]

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def allocate(self, num_blocks: int) -> list[int]:
        """Blocks with one reference each and no meaningful content; evicts kept ones when no free one is left."""
        assert num_blocks <= self.num_available, "the caller asks num_available first"
        block_ids = []
        for _ in range(num_blocks):
            block_id = self._free.pop() if self._free else self._evict()
            self._num_references[block_id] = 1
            block_ids.append(block_id)
        return block_ids

    def find_prefix(self, token_ids: Ordered[int], salt: str, max_blocks: int) -> list[int]:
        """The longest chain of cached blocks that holds a prefix of `token_ids`. Takes no reference."""
        block_ids: list[int] = []
        parent = _ROOT
        for start in range(0, max_blocks * self.block_size, self.block_size):
            block_id = self._block_of.get((parent, tuple(token_ids[start : start + self.block_size]), salt))
            if block_id is None:
                break
            block_ids.append(block_id)
            parent = self._serial_of[block_id]
        return block_ids

    def acquire(self, block_ids: Ordered[int]) -> None:
        """One more reference to each of these cached blocks."""
        for block_id in block_ids:
            if not self._num_references[block_id]:
                del self._kept[block_id]
            self._num_references[block_id] += 1

    def release(self, block_ids: Ordered[int]) -> None:
        """One reference less to each block of a table, which is given in its own order, first block first."""
        for block_id in reversed(block_ids):
            self._num_references[block_id] -= 1
            assert self._num_references[block_id] >= 0, f"block {block_id} released more often than held"
            if not self._num_references[block_id]:
                if block_id in self._key_of:
                    self._kept[block_id] = None
                else:
                    self._free.append(block_id)

    def publish(self, block_id: int, parent: int | None, token_ids: Ordered[int], salt: str) -> int:
        """Makes a full, computed block findable. `parent`: the block before it, published itself; None for the first.

        Returns the block to use from now on: `block_id`, or a cached one of the same value, on which the caller then
        holds a reference and in whose favour it should release its own.
        """
        assert self._num_references[block_id] and len(token_ids) == self.block_size
        key = (_ROOT if parent is None else self._serial_of[parent], tuple(token_ids), salt)
        cached = self._block_of.setdefault(key, block_id)
        if cached == block_id:
            self._key_of[block_id] = key
            self._serial_of[block_id] = next(self._serials)
        else:
            self.acquire((cached,))
        return cached

    def forget(self) -> None:
        """Empties the prefix cache. Held blocks stay held, and go to the free ones in the end."""
        self._free.extend(self._kept)
        self._kept.clear()
        self._block_of.clear()
        self._key_of.clear()
        self._serial_of.clear()

    def _evict(self) -> int:
        block_id, _ = self._kept.popitem(last=False)
        del self._block_of[self._key_of.pop(block_id)]
        del self._serial_of[block_id]
        return block_id
