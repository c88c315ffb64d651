"""`farthing run`: chat with a model, or one answer to one prompt, streamed as it is computed.

Knows flags and what is printed where: the answer to stdout, plan line, progress and statistics to stderr. The engine
is loaded when it is needed.
"""

import sys
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from farthing import discover
from farthing.cli import output
from farthing.cli.model_argument import DownloadFlags, model_and_config, obtain
from farthing.cli.said import may_be_unsaid
from farthing.engine.config import EngineConfig
from farthing.errors import FarthingError, ModelNotFoundError, UsageError
from farthing.hub.cache import find_anywhere
from farthing.sampling_params import SamplingParams
from farthing.units import format_count

SCHEMA = "farthing.run/1"
_WEIGHTS_BAR_BYTES = 500_000_000  # more takes over two seconds to read


@dataclass(frozen=True, slots=True)
class RunFlags:
    """How to answer. What is not said comes from the model's generation_config.json, then from here."""

    prompt: Annotated[str | None, Parameter(alias="-p", help="The prompt; '-' or nothing reads it from a pipe.")] = None
    model: Annotated[
        str | None, Parameter(alias="-m", help="Folder, .gguf file, alias or org/name. Default: bundled.")
    ] = None
    raw: Annotated[bool, Parameter(help="Continue the prompt as plain text, without the chat template.")] = False
    system: Annotated[str | None, Parameter(help="System message of the conversation.")] = None
    max_tokens: Annotated[int | None, Parameter(help="Longest answer. Default: until the context is full.")] = None
    temperature: Annotated[float | None, Parameter(help="0 is greedy. Default: the model's, else 0.7.")] = None
    top_p: Annotated[float | None, Parameter(help="Draw from the most likely tokens of this total probability.")] = None
    top_k: Annotated[int | None, Parameter(help="Draw from this many most likely tokens.")] = None
    min_p: Annotated[float | None, Parameter(help="Drop tokens below this share of the most likely one.")] = None
    repetition_penalty: Annotated[float | None, Parameter(help="Above 1: repeat less.")] = None
    seed: Annotated[int | None, Parameter(help="The same seed gives the same answer.")] = None
    stop: Annotated[tuple[str, ...], Parameter(show_default=False, help="End before this text; may be repeated.")] = ()
    ignore_eos: Annotated[bool, Parameter(help="Go on past the model's end of text, to --max-tokens.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object with the answer and the figures.")] = False


SaidConfig = may_be_unsaid(EngineConfig, __name__)
_FLAGS, _CONFIG, _DOWNLOAD = RunFlags(), SaidConfig(), DownloadFlags()


def run(
    first: Annotated[
        str | None, Parameter(show=True, name="MODEL or PROMPT", help="With white space: the prompt.")
    ] = None,
    second: Annotated[str | None, Parameter(name="PROMPT", help="The prompt, behind a model.")] = None,
    /,
    *,
    flags: Annotated[RunFlags, Parameter(name="*")] = _FLAGS,
    engine: Annotated[SaidConfig, Parameter(name="*")] = _CONFIG,
    download: Annotated[DownloadFlags, Parameter(name="*")] = _DOWNLOAD,
) -> None:
    """Chat with a model, or answer one prompt."""
    model, prompt = _model_and_prompt(first, second, flags)
    model, config = model_and_config(model, engine)
    try:
        find_anywhere(model)  # a mistake in its name is told before anything is read
    except ModelNotFoundError as error:
        raise ModelNotFoundError(error.what, fix=f"{error.fix}; a prompt of one word goes behind -p") from None
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.buffer.read().decode("utf-8", errors="replace").strip()
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty", fix="give some text: farthing run 'Once upon a time'")
    if flags.json and prompt is None:
        raise UsageError("--json needs a prompt", fix="give one: farthing run --json 'Once upon a time'")
    _sampling_params(flags, SamplingParams())  # a mistake in the flags is told before the model is loaded
    obtain(model, config, download)
    llm = _load(model, config)
    try:
        session = _Session(llm, flags, bundled=model == "bundled")
        if prompt is None:
            session.chat()
        else:
            session.answer(prompt)
    finally:
        llm.close()


def _model_and_prompt(first: str | None, second: str | None, flags: RunFlags) -> tuple[str, str | None]:
    """One argument with white space is the prompt, one without is a model; -m and -p say it outright."""
    given = [text for text in (first, second) if text is not None]
    model, prompt = flags.model, flags.prompt
    if model is None and given and (len(given) == 2 or prompt is not None or not _is_prompt(given[0])):
        model = given.pop(0)
    if prompt is None and given:
        prompt = given.pop(0)
    if given:
        raise UsageError(f"{given[0]!r} is one argument too many", fix="give one model and one prompt; quote a prompt")
    return model or "bundled", None if prompt == "-" else prompt


def _is_prompt(text: str) -> bool:
    """White space makes a prompt; so does nothing at all, which no model is called."""
    return not text or any(character.isspace() for character in text)


def _load(model: str, config: EngineConfig) -> Any:
    """Plan, say what is planned, load. Returns farthing.engine.llm.LLM."""
    said_plan = discover.load("farthing.engine", "plan_line")
    plan = said_plan.measured(discover.load("farthing.engine", "plan").plan_engine(model, config))
    output.stderr.print(said_plan.plan_line(plan), soft_wrap=True)
    columns = (TextColumn("loading"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    hidden = not output.stderr.is_terminal or plan.memory.weights_bytes < _WEIGHTS_BAR_BYTES
    with Progress(*columns, console=output.stderr, transient=True, disable=hidden) as bar:
        task = bar.add_task("weights", total=plan.memory.weights_bytes)
        engine = discover.load("farthing.engine", "engine").Engine(
            plan, lambda done, total: bar.update(task, completed=done, total=total)
        )
    return discover.load("farthing.engine", "llm").LLM(engine=engine)


class _Session:
    """One loaded model and the conversation with it."""

    def __init__(self, llm: Any, flags: RunFlags, *, bundled: bool) -> None:
        self.llm, self.flags, self.bundled = llm, flags, bundled
        self.params = _sampling_params(flags, llm.engine.text.generation_defaults)
        self.messages = [{"role": "system", "content": flags.system}] if flags.system else []
        self.raw = flags.raw or llm.engine.text.template is None

    def answer(self, prompt: str) -> None:
        """One prompt, one answer, and what it took."""
        self._note_language(prompt)
        request = self._request(prompt)
        text, num_tokens, finish_reason = self._stream(request, quiet=self.flags.json)
        if self.flags.json:
            ledger = self.llm.engine.accountant.ledger
            output.print_json(
                {
                    "schema": SCHEMA,
                    "text": text,
                    "finish_reason": finish_reason,
                    "prompt_tokens": len(request.prompt_ids),
                    "output_tokens": num_tokens,
                    "prefill_tokens_per_second": ledger.prefill.tokens_per_second or None,
                    "decode_tokens_per_second": ledger.decode.tokens_per_second or None,
                    "share_of_measured_limit": ledger.decode.share_of_limit,
                }
            )
        self._print_statistics()

    def chat(self) -> None:
        """Until end of file, /exit or Ctrl-C; a mistake in one turn does not end the conversation."""
        output.stderr.print(
            "type a message; Ctrl-C ends an answer, /reset starts anew, /exit or Ctrl-D ends", style="dim"
        )
        while True:
            try:
                output.stderr.print("> ", end="")  # not by input(): answers alone go to stdout
                prompt = input().strip()
            except EOFError:
                output.stderr.print()
                return
            if prompt == "/exit":
                return
            if prompt == "/reset":
                self.messages = self.messages[:1] if self.flags.system else []
            elif prompt:
                try:
                    self._turn(prompt)
                except FarthingError as error:
                    output.print_error(error)
                    output.stderr.print("note: /reset starts the conversation anew", style="dim")

    def _turn(self, prompt: str) -> None:
        """One message and its answer. An answer that fails or is interrupted leaves no trace in the conversation."""
        self._note_language(prompt)
        before = list(self.messages)
        self.llm.engine.accountant.ledger.reset()
        try:
            text, _, finish_reason = self._stream(self._request(prompt), quiet=False)
        except (FarthingError, KeyboardInterrupt) as error:
            self.messages = before
            if isinstance(error, FarthingError):
                raise
            output.stdout.print()
            return
        if not self.raw:
            self.messages.append({"role": "assistant", "content": text})
        if finish_reason == "length":
            output.stderr.print("note: cut by --max-tokens or by the end of the context", style="dim")
        self._print_statistics()

    def _request(self, prompt: str) -> Any:
        if self.raw:
            return self.llm.request(prompt, self.params)
        self.messages.append({"role": "user", "content": prompt})
        return self.llm.chat_request(self.messages, self.params)

    def _stream(self, request: Any, *, quiet: bool) -> tuple[str, int, str | None]:
        """Print the answer as it comes; its text, number of tokens and finish reason."""
        parts: list[str] = []
        num_tokens, finish_reason = 0, None
        for delta in self.llm.iterate(request):
            parts.append(delta.text)
            num_tokens += len(delta.token_ids)
            finish_reason = delta.finish_reason
            if not quiet:
                sys.stdout.write(delta.text)
                sys.stdout.flush()
        if not quiet:
            sys.stdout.write("\n")
        return "".join(parts), num_tokens, finish_reason

    def _note_language(self, prompt: str) -> None:
        if self.bundled and not discover.load("farthing.engine", "language").looks_english(prompt):
            output.stderr.print("note: the bundled model knows only English; this prompt does not look like it")

    def _print_statistics(self) -> None:
        ledger = self.llm.engine.accountant.ledger
        parts = [
            f"{name} {format_count(phase.num_tokens)} tokens, {phase.tokens_per_second:,.1f} tok/s"
            + (f", {phase.share_of_limit:.0%} of the measured limit" if phase.share_of_limit else "")
            for name, phase in (("prefill", ledger.prefill), ("decode", ledger.decode))
            if phase.num_tokens
        ]
        if parts:
            output.stderr.print(" · ".join(parts), style="dim", soft_wrap=True)


def _sampling_params(flags: RunFlags, defaults: SamplingParams) -> SamplingParams:
    """Flags over the model's own defaults."""
    return SamplingParams(
        temperature=defaults.temperature if flags.temperature is None else flags.temperature,
        top_p=defaults.top_p if flags.top_p is None else flags.top_p,
        top_k=defaults.top_k if flags.top_k is None else flags.top_k,
        min_p=defaults.min_p if flags.min_p is None else flags.min_p,
        repetition_penalty=(
            defaults.repetition_penalty if flags.repetition_penalty is None else flags.repetition_penalty
        ),
        seed=flags.seed,
        max_tokens=flags.max_tokens,
        stop=flags.stop,
        ignore_eos=flags.ignore_eos,
    )
