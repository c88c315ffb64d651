"""The composition root: description, weights, scheduler, runner, tokenizer and chat template made into one engine.

Requests go in, deltas of text come out, a step at a time, on the thread of the caller (engine_thread.py gives it one of
its own). Nothing below sees EngineConfig.
"""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from farthing.engine.accounts.accountant import Accountant
from farthing.engine.accounts.step_price import StepPricer
from farthing.engine.accounts.step_record import Owner
from farthing.engine.accounts.stopwatch import Stopwatch
from farthing.engine.config import SMALL_MODEL_BYTES
from farthing.engine.grammars.grammar import GrammarCompiler, GrammarMatcher
from farthing.engine.model_text import load_model_text
from farthing.engine.plan import EnginePlan
from farthing.engine.request import Delta, Request, check_request
from farthing.engine.sample import Sample
from farthing.engine.speculation import draft_policy
from farthing.engine.tokenization.detokenizer import Detokenizer
from farthing.engine.tokenization.tokenizer import Tokenizer
from farthing.errors import FarthingError, RequestError
from farthing.runtime.device import Memory, use_threads
from farthing.runtime.inputs import Limits
from farthing.runtime.loader import load_weights, random_weights
from farthing.runtime.model_runner import ModelRunner
from farthing.runtime.sampler import RequestState
from farthing.sampling_params import Grammar, SamplingParams
from farthing.scheduler.batch import TokenOutput
from farthing.scheduler.loop import RealClock, step
from farthing.scheduler.scheduler import Scheduler
from farthing.scheduler.sequence import Sequence as ScheduledSequence

Progress = Callable[[int, int], None]

_COMPILING_SECONDS = 0.01  # of waiting, when there is nothing else to do, before commands are looked at again


class Engine:
    """Not thread-safe. `progress(done_bytes, all_bytes)` is called while weights are read or drawn.
    `with_template=False`: the conversations are rendered elsewhere, and no helper process is started for it."""

    def __init__(
        self,
        plan: EnginePlan,
        progress: Progress = lambda done, total: None,
        *,
        with_template: bool = True,
        runner_type: type[ModelRunner] = ModelRunner,
    ) -> None:
        self.plan = plan
        config, spec = plan.config, plan.spec
        use_threads(plan.num_threads)
        self.text = load_model_text(
            plan.path,
            plan.model_config,
            spec.vocab_size,
            needs_tokenizer=config.weights != "random",
            with_template=with_template,
        )
        self._policy = draft_policy(plan)
        overlaps = plan.device.type == "cuda" and self._policy is None
        self._compiler = ThreadPoolExecutor(1, thread_name_prefix="farthing-grammar")
        try:
            self.memory, self.runner = _load_runner(plan, progress, runner_type, depth=1 + overlaps)
        except BaseException:
            self.close()  # the template's process must not outlive an engine that never was
            raise
        self.scheduler = Scheduler(
            num_blocks=plan.memory.num_blocks,
            block_size=plan.memory.block_size,
            max_num_seqs=config.sizes.max_num_seqs,
            max_batch_tokens=config.sizes.max_batch_tokens,
            max_model_len=plan.context,
            max_tokens_in_flight=self.runner.depth - 1,
            enable_prefix_caching=config.prefix_caching,
            draft_policy=self._policy,
        )
        self._executor = Stopwatch(self.runner)
        self.accountant = Accountant(_pricer(plan), self.scheduler)
        self.clock = RealClock()
        self._samples: dict[int, Sample] = {}
        self._sequences: dict[int, ScheduledSequence] = {}
        self._seq_ids: dict[str, set[int]] = {}  # of the running samples of each request
        self._grammars: GrammarCompiler | None = None  # made for the first grammar: it takes a second
        self._compiling: dict[str, tuple[Request, Future[GrammarMatcher]]] = {}
        self._num_sequences = 0

    @property
    def has_unfinished(self) -> bool:
        return bool(self._samples or self._compiling or self.runner.in_flight)

    def knows(self, request_id: str) -> bool:
        """Whether a request of this id is waiting or running."""
        return request_id in self._seq_ids or request_id in self._compiling

    def check(self, request: Request) -> None:
        """RequestError if the request can never be served."""
        check_request(request, context=self.plan.context, vocab_size=self.plan.spec.vocab_size)

    def add(self, request: Request) -> None:
        """Queue a request; its first sample starts, the others follow once its prompt is computed and can be shared."""
        self.check(request)
        grammar = request.params.grammar
        if grammar is None:
            self._start_sample(request, 0, None)
        elif self.text.tokenizer is None:
            raise RequestError("this model has no tokenizer, so its answers can't follow a grammar", fix="leave it out")
        else:  # beside the steps of others; the request starts when it is done
            future = self._compiler.submit(self._compile, self.text.tokenizer, grammar)
            self._compiling[request.request_id] = (request, future)

    def cancel(self, request_id: str) -> None:
        """End all samples of the request now; nothing more comes of it. Unknown ids are ignored."""
        self._compiling.pop(request_id, None)
        for seq_id in list(self._seq_ids.get(request_id, ())):
            self.scheduler.cancel(seq_id)
            self._forget(seq_id)
        if self._samples:
            self.accountant.settle()
        else:
            self.accountant.rest()

    def step(self) -> list[Delta]:
        """Compute one batch; what is new of the text of its sequences."""
        self.accountant.begin()
        failed = self._start_compiled()
        outputs = step(self.scheduler, self._executor, self.clock)
        seconds, done = self._executor.lap()
        if done is not None:
            self.accountant.computed(done.batch, seconds, self._owner)
            if self._policy is not None:
                self._policy.observe(done.batch, seconds)
        deltas = [*failed]
        num_outputs = 0
        for output in outputs:
            news = self._take(output)
            num_outputs += bool(news) and output.token_id is not None
            deltas += news
        ended = any(delta.finish_reason is not None for delta in deltas)
        self.accountant.end(more=bool(self._samples), ended=ended, num_outputs=num_outputs)
        return deltas

    def close(self) -> None:
        self._compiler.shutdown(wait=False, cancel_futures=True)
        self.text.close()

    def _compile(self, tokenizer: Tokenizer, grammar: Grammar) -> GrammarMatcher:
        """On the compiler's thread, which is one."""
        if self._grammars is None:
            vocab_size = self.plan.spec.vocab_size
            self._grammars = GrammarCompiler(tokenizer, eos_ids=self.text.eos_ids, vocab_size=vocab_size)
        return self._grammars.compile(grammar)

    def _start_compiled(self) -> list[Delta]:
        """Start the requests whose grammars are compiled by now. The ends of those whose grammar can't be used."""
        if self._compiling and not self._samples:
            wait((future for _, future in self._compiling.values()), _COMPILING_SECONDS, FIRST_COMPLETED)
        failed: list[Delta] = []
        for request, future in [pair for pair in self._compiling.values() if pair[1].done()]:
            del self._compiling[request.request_id]
            try:
                self._start_sample(request, 0, future.result())
            except FarthingError as error:
                failed += _failures(request, str(error))
        return failed

    def _start_sample(self, request: Request, index: int, grammar: GrammarMatcher | None) -> None:
        params = request.params
        seq_id, self._num_sequences = self._num_sequences, self._num_sequences + 1
        sequence = ScheduledSequence(
            seq_id,
            request.prompt_ids,
            max_output_tokens=params.max_tokens or self.plan.context,
            eos_token_ids=self.text.eos_ids,
            stop_token_ids=frozenset(params.stop_token_ids),
            min_output_tokens=0 if grammar else params.min_tokens,  # the sampler sees to both where a grammar rules
            ignore_eos=params.ignore_eos and grammar is None,
            priority=request.priority,
            salt=request.salt,
            arrival_time=self.clock.now(),
            use_prefix_cache=params.prompt_logprobs is None,
            may_draft=self._policy is not None and _may_draft(params),
        )
        stop_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_eos else self.text.eos_ids)
        state = RequestState(
            params,
            seed=request.seed,
            sample_index=index,
            prompt_ids=request.prompt_ids,
            stop_ids=stop_ids,
            constraint=grammar and grammar.copy(),
            room=self.plan.context - len(request.prompt_ids),
        )
        detokenizer = None
        if self.text.tokenizer is not None:
            detokenizer = Detokenizer(
                self.text.tokenizer,
                prompt_ids=request.prompt_ids,
                stop=params.stop,
                visible_ids=request.visible_ids,
                min_tokens=params.min_tokens,
            )
        self.scheduler.add(sequence)
        self.runner.add(seq_id, state, request.prompt_ids)
        self._sequences[seq_id] = sequence
        self._samples[seq_id] = Sample(request, index, seq_id, detokenizer, grammar)
        self._seq_ids.setdefault(request.request_id, set()).add(seq_id)

    def _take(self, output: TokenOutput) -> list[Delta]:
        """A token from the scheduler into the text of its sample."""
        sample = self._samples.get(output.seq_id)
        if sample is None:
            return []
        sequence = self._sequences[output.seq_id]
        request, is_first = sample.request, sequence.num_output_tokens == 1
        if output.finish_reason == "error":
            started = sequence.num_output_tokens > 0 or sample.index > 0
            self._forget(output.seq_id)
            return _failures(request, str(output.error), index=sample.index if started else None)
        delta = sample.delta(
            output.token_id,
            output.finish_reason,
            stop_token=sequence.stop_token if output.finish_reason is not None else None,
            num_cached_tokens=sequence.num_cached_tokens if is_first and sample.index == 0 else 0,
            logprobs=self.runner.logprobs.get(output.seq_id),
            prompt_logprobs=self.runner.prompt_logprobs(output.seq_id) if is_first else (),
        )
        if is_first and sample.index == 0:
            shared = replace(request, params=replace(request.params, prompt_logprobs=None))
            for index in range(1, request.params.n):
                self._start_sample(shared, index, sample.grammar)
        if delta.finish_reason is not None:
            self.scheduler.finish(output.seq_id)  # a stop string; the scheduler knows of the other ends
            self._forget(output.seq_id)
        return [delta]

    def _owner(self, seq_id: int) -> Owner:
        """Nobody, if the sequence was cancelled while it was computed."""
        sample = self._samples.get(seq_id)
        if sample is None:
            return Owner("", "")
        sequence, request = self._sequences[seq_id], sample.request
        waited = (sequence.first_scheduled_time or sequence.arrival_time) - sequence.arrival_time
        return Owner(request.request_id, request.salt, waited)

    def _forget(self, seq_id: int) -> None:
        self.runner.remove(seq_id)
        request_id = self._samples.pop(seq_id).request.request_id
        del self._sequences[seq_id]
        self._seq_ids[request_id].discard(seq_id)
        if not self._seq_ids[request_id]:
            del self._seq_ids[request_id]


def _may_draft(params: SamplingParams) -> bool:
    """Grammars step from token to token, and log-probabilities are kept for one row of a sequence."""
    return params.grammar is None and params.logprobs is None and params.prompt_logprobs is None


def _pricer(plan: EnginePlan) -> StepPricer | None:
    """What prices the steps; None if nothing is to be measured."""
    if not plan.config.measure:
        return None
    fewer = plan.num_threads < plan.key.num_cores and plan.spec.weight_bytes >= SMALL_MODEL_BYTES
    return StepPricer(plan.spec, plan.calibration, num_threads=plan.num_threads, threads_matter=fewer)


def _load_runner(
    plan: EnginePlan, progress: Progress, runner_type: type[ModelRunner], *, depth: int
) -> tuple[Memory, ModelRunner]:
    """Weights into memory, and the runner over them."""
    memory = Memory(plan.device)
    if plan.config.weights == "random":
        tensors, frequencies = random_weights(plan.spec, plan.config.weights_seed, memory, plan.kernels, progress)
    else:
        tensors, frequencies = load_weights(
            plan.spec, plan.path, memory, progress, plan.kernels, cache=plan.config.cache
        )
    limits = Limits(plan.config.sizes.max_batch_tokens, plan.config.sizes.max_num_seqs, plan.context)
    return memory, runner_type(plan.spec, plan.memory, tensors, frequencies, plan.kernels, memory, limits, depth=depth)


def _failures(request: Request, reason: str, *, index: int | None = None) -> list[Delta]:
    """The end of sample `index` of a request, or of all of them."""
    indices = range(request.params.n) if index is None else (index,)
    return [Delta(request.request_id, i, "", (), "error", reason) for i in indices]
