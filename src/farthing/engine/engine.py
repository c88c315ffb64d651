"""The composition root: description, weights, scheduler, runner, tokenizer and chat template made into one engine.

Requests go in, deltas of text come out, a step at a time, on the thread of the caller (engine_thread.py gives it one of
its own). Nothing below sees EngineConfig.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

from farthing.engine.chat import load_chat_template
from farthing.engine.defaults import generation_defaults
from farthing.engine.detokenizer import Detokenizer
from farthing.engine.gguf_tokenizer import tokenizer_from_gguf
from farthing.engine.ledger import Ledger
from farthing.engine.plan import EnginePlan
from farthing.engine.request import Delta, Request, Sample
from farthing.engine.tokenizer import Tokenizer, load_tokenizer
from farthing.errors import ChatTemplateError, RequestError, TokenizerError
from farthing.models.gguf_header import read_gguf_header
from farthing.runtime.device import Memory, use_threads
from farthing.runtime.loader import load_weights, random_weights
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.sampler import RequestState
from farthing.scheduler.batch import TokenOutput
from farthing.scheduler.loop import RealClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence as ScheduledSequence

Progress = Callable[[int, int], None]


class Engine:
    """Not thread-safe. `progress(done_bytes, all_bytes)` is called while weights are read."""

    def __init__(self, plan: EnginePlan, progress: Progress = lambda done, total: None) -> None:
        self.plan = plan
        config, spec = plan.config, plan.spec
        use_threads(plan.num_threads)
        self.tokenizer = _load_tokenizer(plan.path, required=config.weights != "random")
        self.eos_ids = plan.model_config.token_ids("eos_token_id")
        if self.tokenizer is not None:
            _check_vocabulary(self.tokenizer, spec.vocab_size)
            self.eos_ids |= self.tokenizer.eos_ids
        self.generation_defaults = generation_defaults(plan.path)
        self.template = self.tokenizer and load_chat_template(self.tokenizer)
        try:
            self.memory, self.runner = _load_runner(plan, progress)
        except BaseException:
            self.close()  # the template's process must not outlive an engine that never was
            raise
        self.scheduler = Scheduler(
            num_blocks=plan.memory.num_blocks,
            block_size=plan.memory.block_size,
            max_num_seqs=config.max_num_seqs,
            max_batch_tokens=config.max_batch_tokens,
            max_model_len=plan.context,
            enable_prefix_caching=config.prefix_caching,
        )
        self.ledger = Ledger(spec, plan.calibration)
        self.clock = RealClock()
        self._samples: dict[int, Sample] = {}
        self._sequences: dict[int, ScheduledSequence] = {}
        self._num_sequences = 0

    @property
    def has_unfinished(self) -> bool:
        return bool(self._samples)

    def check(self, request: Request) -> None:
        """RequestError if the request can never be served."""
        params, vocab_size = request.params, self.plan.spec.vocab_size
        if not request.prompt_ids:
            raise RequestError("the prompt is empty", fix="give at least one token of text")
        if len(request.prompt_ids) >= self.plan.context:
            raise RequestError(
                f"the prompt has {len(request.prompt_ids)} tokens and the context is {self.plan.context}",
                fix="shorten it, or start with a longer --context",
            )
        for token_id in (*request.prompt_ids, *params.stop_token_ids, *params.logit_bias):
            if type(token_id) is not int or not 0 <= token_id < vocab_size:
                raise RequestError(f"token id {token_id!r} is not a whole number from 0 to {vocab_size - 1}")

    def add(self, request: Request) -> None:
        """Queue a request; its first sample starts, the others follow once its prompt is computed and can be shared."""
        self.check(request)
        self._start_sample(request, 0)

    def cancel(self, request_id: str) -> None:
        """End all samples of the request now; nothing more comes of it. Unknown ids are ignored."""
        for seq_id in [i for i, sample in self._samples.items() if sample.request.request_id == request_id]:
            self.scheduler.cancel(seq_id)
            self._forget(seq_id)

    def step(self) -> list[Delta]:
        """Compute one batch; what is new of the text of its sequences."""
        started = monotonic()
        outputs = step(self.scheduler, self.runner, self.clock)
        done = self.runner.last_done
        if done is not None:
            self.runner.last_done = None
            self.ledger.record(done.batch.shape, monotonic() - started)
        return [delta for output in outputs for delta in self._take(output)]

    def encode_chat(self, messages: Sequence[Mapping[str, object]]) -> tuple[int, ...]:
        """Token ids of a conversation, rendered by the model's own template and open for the assistant's answer."""
        if self.template is None or self.tokenizer is None:
            raise ChatTemplateError("this model has no chat template", fix="use plain prompts (farthing run --raw)")
        text = self.template.render(messages)
        return tuple(self.tokenizer.encode(text, add_special=False, parse_special=True))

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of plain text, with the beginning-of-sequence token where the model wants one. Random weights may
        come without a tokenizer; then a byte is a token."""
        if self.tokenizer is None:
            return tuple(byte % self.plan.spec.vocab_size for byte in text.encode())  # random weights: any ids do
        if not text:
            raise RequestError("the prompt is empty", fix="give at least one character of text")
        return tuple(self.tokenizer.encode(text))

    def close(self) -> None:
        if self.template is not None:
            self.template.close()

    def _start_sample(self, request: Request, index: int) -> None:
        params = request.params
        seq_id, self._num_sequences = self._num_sequences, self._num_sequences + 1
        sequence = ScheduledSequence(
            seq_id,
            request.prompt_ids,
            max_output_tokens=params.max_tokens or self.plan.context,
            eos_token_ids=self.eos_ids,
            stop_token_ids=frozenset(params.stop_token_ids),
            min_output_tokens=params.min_tokens,
            ignore_eos=params.ignore_eos,
            priority=request.priority,
            salt=request.salt,
            arrival_time=self.clock.now(),
            use_prefix_cache=params.prompt_logprobs is None,
        )
        stop_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self.eos_ids)
        state = RequestState(
            params, seed=request.seed, sample_index=index, prompt_ids=request.prompt_ids, stop_ids=stop_ids
        )
        detokenizer = self.tokenizer and Detokenizer(
            self.tokenizer, prompt_ids=request.prompt_ids, stop=params.stop, min_tokens=params.min_tokens
        )
        self.scheduler.add(sequence)
        self.runner.add(seq_id, state, request.prompt_ids)
        self._sequences[seq_id] = sequence
        self._samples[seq_id] = Sample(request, index, seq_id, detokenizer)

    def _take(self, output: TokenOutput) -> list[Delta]:
        """A token from the scheduler into the text of its sample."""
        sample = self._samples.get(output.seq_id)
        if sample is None:
            return []
        sequence = self._sequences[output.seq_id]
        request, is_first = sample.request, sequence.num_output_tokens == 1
        delta = sample.delta(
            output.token_id,
            output.finish_reason,
            stop_token=sequence.stop_token,
            num_cached_tokens=sequence.num_cached_tokens if is_first and sample.index == 0 else 0,
            logprobs=self.runner.logprobs.get(output.seq_id),
            prompt_logprobs=self.runner.prompt_logprobs(output.seq_id) if is_first else (),
        )
        if is_first and sample.index == 0:
            shared = replace(request, params=replace(request.params, prompt_logprobs=None))
            for index in range(1, request.params.n):
                self._start_sample(shared, index)
        if delta.finish_reason is not None:
            self.scheduler.finish(output.seq_id)  # a stop string; the scheduler knows of the other ends
            self._forget(output.seq_id)
        return [delta]

    def _forget(self, seq_id: int) -> None:
        self.runner.remove(seq_id)
        del self._samples[seq_id], self._sequences[seq_id]


def _load_runner(plan: EnginePlan, progress: Progress) -> tuple[Memory, ModelRunner]:
    """Weights into memory, and the runner over them."""
    memory = Memory(plan.device)
    if plan.config.weights == "random":
        tensors, frequencies = random_weights(plan.spec, plan.config.weights_seed, memory)
    else:
        tensors, frequencies = load_weights(plan.spec, plan.path, memory, progress)
    return memory, ModelRunner(plan.spec, plan.memory, tensors, frequencies, plan.kernels, memory)


def _load_tokenizer(path: Path, *, required: bool) -> Tokenizer | None:
    """The tokenizer beside the weights; None if there is none and none is required."""
    if path.suffix == ".gguf":
        return tokenizer_from_gguf(read_gguf_header(path).metadata)
    if not required and not any((path / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        return None
    return load_tokenizer(path)


def _check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    if tokenizer.vocab_size > vocab_size:
        raise TokenizerError(
            f"the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model embeds {vocab_size} tokens",
            fix="use the tokenizer that belongs to these weights",
        )
