"""What a plan is asked: the flags of `farthing plan` as one value, and what they come to for a model.

The plan file keeps the same fields. Knows no hardware and no model file.
"""

from dataclasses import dataclass, fields, replace

from farthing.errors import UsageError
from farthing.models.spec import ModelSpec
from farthing.units import parse_bytes

DEFAULT_CONTEXT = 4096
DEFAULT_INPUT, DEFAULT_OUTPUT = 512, 256
MAX_COUNT = 2**21  # tokens, sequences, ranks: more is a slip of the finger, and would take minutes to price
MAX_DOLLARS = 10**9
MIN_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """Each field is a flag of `plan`.

    Parameters
    ----------
    on
        Hardware: a catalogue id or a loose name of one (4090, 8x4090, 2x8xh100-sxm, 4x4090+4x3090), or here.
    engine
        Forecast what this engine was measured to reach: vllm, tensorrt-llm, sglang, llama.cpp, gpt-fast, ...; by
        default what a good one can.
    format
        Weight format: auto (the widest that fits), fp32, bf16, fp16, fp8, int8, int4, w8a8, w8a16, w4a8, w4a16.
    kv_format
        Format of the KV cache: auto (as the activations), fp32, bf16, fp16, int8, fp8.
    tp
        Tensor-parallel ranks; by default what answers fastest.
    pp
        Pipeline stages; by default what answers fastest.
    replicas
        Copies of the model; by default what is left of the devices.
    batch
        Sequences at a time, on all replicas together.
    input_tokens
        Tokens of a prompt; by default 512.
    output_tokens
        Tokens of an answer; by default 256.
    context
        Longest sequence in tokens; by default min(4096, the model's).
    memory
        Memory of each device that may be used: 20GiB, 85%, auto (all of a catalogue entry; here what run takes).
    p2p
        Cards talk to each other directly (--p2p: a patched driver) or through host memory (--no-p2p).
    network
        Network of a node in bytes/s, each way, between nodes.
    price_per_hour
        Dollars per hour of the whole hardware, instead of the catalogue's rentals.
    max_num_seqs
        Sequences that run at a time in one replica.
    max_batch_tokens
        Tokens of one step; long prompts are computed in chunks of it.
    block_size
        Tokens of one KV block.
    """

    on: str = "here"
    engine: str | None = None
    format: str = "auto"
    kv_format: str = "auto"
    tp: int | None = None
    pp: int | None = None
    replicas: int | None = None
    batch: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None
    context: int | None = None
    memory: str = "auto"
    p2p: bool | None = None
    network: str = "1.25GB"
    price_per_hour: float | None = None
    max_num_seqs: int = 256
    max_batch_tokens: int = 2048
    block_size: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            flag = f"--{field.name.replace('_', '-')}"
            if field.type in (int, int | None) and value is not None and not 1 <= value <= MAX_COUNT:
                raise UsageError(f"{flag} is {value}", fix=f"it must lie between 1 and {MAX_COUNT:,}")
        if self.price_per_hour is not None and not 0 <= self.price_per_hour <= MAX_DOLLARS:
            raise UsageError(
                f"--price-per-hour is {self.price_per_hour}", fix=f"a price lies between 0 and {MAX_DOLLARS:,} dollars"
            )
        self.network_bytes_per_second()
        self.budget_bytes(None)
        if self.max_batch_tokens < self.max_num_seqs:
            raise UsageError(
                f"--max-batch-tokens {self.max_batch_tokens} is below --max-num-seqs {self.max_num_seqs}",
                fix="a step must hold one token of every running sequence",
            )

    def network_bytes_per_second(self) -> float:
        """Of a node, one direction."""
        try:
            return float(parse_bytes(self.network))
        except ValueError as error:
            raise UsageError(f"--network: {error}", fix="write bytes per second, such as 25GB") from None

    def budget_bytes(self, whole_bytes: int | None, share_if_auto: float = 1.0) -> int | None:
        """What may be used of a device that has `whole_bytes`; None where neither is known."""
        text = f"{share_if_auto:.0%}" if self.memory == "auto" else self.memory.strip()
        try:
            if not text.endswith("%"):
                return parse_bytes(text)
            share = float(text[:-1]) / 100
        except ValueError:
            share = 0.0
        if not MIN_SHARE <= share <= 1:
            raise UsageError(f"--memory is {self.memory!r}", fix="write a size such as 20GiB or a share such as 85%")
        return None if whole_bytes is None else int(whole_bytes * share)

    @property
    def prompt_tokens(self) -> int:
        """`input_tokens`, or the default where nobody said any."""
        return self.input_tokens or DEFAULT_INPUT

    @property
    def answer_tokens(self) -> int:
        return self.output_tokens or DEFAULT_OUTPUT

    def with_lengths(self, spec: ModelSpec) -> "PlanRequest":
        """Lengths are resolved; where neither was said, they give way to a context that is shorter."""
        prompt, answer = self.prompt_tokens, self.answer_tokens
        limit = min(self.context or spec.max_positions, spec.max_positions)
        if self.input_tokens is None and self.output_tokens is None and prompt + answer > limit:
            answer = max(1, limit // 3)
            prompt = max(1, limit - answer)
        return replace(self, input_tokens=prompt, output_tokens=answer)

    def resolve_context(self, spec: ModelSpec) -> int:
        """The longest sequence: at least prompt and answer. UsageError if that is more than the model computes."""
        needed = self.prompt_tokens + self.answer_tokens
        context = self.context or max(needed, min(DEFAULT_CONTEXT, spec.max_positions))
        if context > spec.max_positions:
            asked = (
                f"--context {self.context}" if self.context else f"a prompt of {self.prompt_tokens} and an answer of"
            )
            asked += "" if self.context else f" {self.answer_tokens} tokens"
            raise UsageError(
                f"{asked} is above {spec.max_positions} ({spec.max_positions_reason})",
                fix=f"stay within {spec.max_positions} tokens",
            )
        if context < needed:
            raise UsageError(
                f"--context {context} does not hold a prompt of {self.prompt_tokens} and an answer of "
                f"{self.answer_tokens} tokens",
                fix=f"use at least --context {needed}",
            )
        return context
