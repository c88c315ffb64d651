"""What an engine leaves for keys and values: its share of the memory, its fixed cost, its activations.

Engines differ more here than anywhere else, and a wrong pool is a wrong speed under load. Knows no seconds.
"""

from dataclasses import dataclass

from farthing.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class MemoryRule:
    """`share` of the whole memory is used; of what weights and reserve leave of that, `rest_share` becomes KV.

    The reserve is `fixed_bytes` (context, libraries), `collective_bytes` more with tensor parallelism, and for the
    activations `activation_bytes` and `bytes_per_logit` for each word of the vocabulary.
    """

    share: float
    rest_share: float
    fixed_bytes: float
    collective_bytes: float
    activation_bytes: float
    bytes_per_logit: float

    def reserve_bytes(self, *, vocab_size: int, has_head: bool, tp: int) -> float:
        logits = self.bytes_per_logit * vocab_size if has_head else 0.0
        collective = self.collective_bytes if tp > 1 else 0.0
        return self.fixed_bytes + collective + self.activation_bytes + logits

    def kv_tokens(self, rank: ModelSpec, memory_bytes: float, *, tp: int) -> int:
        """Tokens that one rank of a replica has room for; 0 or less where the weights alone are too large."""
        reserve = self.reserve_bytes(vocab_size=rank.vocab_size, has_head=rank.head is not None, tp=tp)
        room = self.share * memory_bytes - rank.weight_bytes - reserve
        if not rank.kv_bytes_per_token:
            return 0
        return int(room * self.rest_share // rank.kv_bytes_per_token)
