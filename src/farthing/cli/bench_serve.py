"""`farthing bench serve`: load on a server, and what its users wait.

Knows flags and the order of things; client/load.py sends, client/load_stats.py counts, bench_serve_view.py shows.
"""

import asyncio
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.live import Live
from rich.text import Text

from farthing import discover
from farthing.cli import output
from farthing.cli.bench_serve_view import print_report
from farthing.cli.saved_file import check_writable, save_json, telling
from farthing.client.connection import DEFAULT_URL, Server
from farthing.client.load import Finished, Load, Tell
from farthing.client.load_ledger import between, read_ledger, read_settled_ledger
from farthing.client.load_report import Asked, LoadReport
from farthing.client.load_stats import summarize
from farthing.client.load_target import Target, find_target
from farthing.client.load_trace import TraceLine, read_trace
from farthing.client.load_work import Job, Prompts, Sizes, jobs_by_rate, jobs_of_trace, jobs_on_demand, within
from farthing.errors import FarthingError, UsageError

_EXIT_INTERRUPTED = 130
_INPUT, _OUTPUT, _SECONDS = "128", "64", 30.0
_MOST_FILES = 65_536
_PICTURES = (".png", ".svg", ".pdf")
_LINE_EVERY = 20  # tellings, two a second, where there is no terminal


@dataclass(frozen=True, slots=True)
class LoadFlags:
    """How the server is loaded, and what is told of it."""

    rate: Annotated[
        float | None, Parameter(help="Requests a second, arriving at random (Poisson), answered or not.")
    ] = None
    concurrency: Annotated[
        int | None, Parameter(help="So many users instead, each asking again when answered. Default: 1.")
    ] = None
    trace: Annotated[
        Path | None, Parameter(help="Arrivals from a file: JSONL or CSV of arrival in s, input and output tokens.")
    ] = None
    requests: Annotated[int | None, Parameter(help="End after so many requests.")] = None
    seconds: Annotated[float | None, Parameter(help="Send requests for so long. Default: 30, or the whole trace.")] = (
        None
    )
    input_tokens: Annotated[str | None, Parameter(help="Tokens of a prompt: 128 or 'U(32,512)'. Default: 128.")] = None
    output_tokens: Annotated[str | None, Parameter(help="Tokens of an answer: 64 or 'U(8,128)'. Default: 64.")] = None
    prefix_tokens: Annotated[int, Parameter(help="The first so many tokens of every prompt are the same.")] = 0
    seed: Annotated[int, Parameter(help="The same seed sends the same prompts at the same moments.")] = 0
    ttft: Annotated[float | None, Parameter(help="Objective, in seconds, for the time to the first token.")] = None
    tpot: Annotated[float | None, Parameter(help="Objective, in seconds, for each further token.")] = None
    model: Annotated[str | None, Parameter(help="Name of the model. Default: the first that is served.")] = None
    key_file: Annotated[Path | None, Parameter(help="File with the server's key.")] = None
    timeout: Annotated[float, Parameter(help="Seconds after which a request is given up.")] = 600.0
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False
    records: Annotated[bool, Parameter(help="Each request in the JSON, with the time of every token.")] = False
    save: Annotated[Path | None, Parameter(help="Write the JSON to this file.")] = None
    plot: Annotated[Path | None, Parameter(help="Draw what users waited, and tokens/s over time: FILE.png.")] = None

    def __post_init__(self) -> None:
        if sum(value is not None for value in (self.rate, self.concurrency, self.trace)) > 1:
            raise UsageError("--rate, --concurrency and --trace are three kinds of load", fix="choose one")
        for name in ("rate", "seconds", "ttft", "tpot", "timeout", "concurrency", "requests"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                raise UsageError(f"--{name} is {value}", fix="it must be above 0")
        if self.prefix_tokens < 0:
            raise UsageError(f"--prefix-tokens is {self.prefix_tokens}", fix="it must be at least 0")
        if self.records and not (self.json or self.save):
            raise UsageError("--records is about the JSON", fix="ask for it: --json or --save FILE")
        if self.trace is not None and (self.input_tokens, self.output_tokens) != (None, None):
            raise UsageError("a trace has its own lengths", fix="leave out --input-tokens and --output-tokens")


_FLAGS = LoadFlags()


def bench_serve(
    url: Annotated[str, Parameter(name="URL", help="Address of the server.")] = DEFAULT_URL,
    /,
    *,
    flags: Annotated[LoadFlags, Parameter(name="*")] = _FLAGS,
) -> int:
    """Load a server and tell what its users wait."""
    server = Server.at(url, key_file=flags.key_file)
    work = _Work.of(flags)
    if flags.plot is not None and flags.plot.suffix.lower() not in _PICTURES:
        fix = f"name a file with {', '.join(_PICTURES)}"
        raise UsageError(f"--plot {flags.plot} is no picture that can be drawn", fix=fix)
    check_writable("--save", flags.save)
    check_writable("--plot", flags.plot)
    plot = None if flags.plot is None else discover.load("farthing.cli", "bench_plot")
    _allow_many_connections()
    report = asyncio.run(_measure(server, work, flags))
    if flags.json:
        output.print_json(report.to_json_object(records=flags.records))
    else:
        print_report(report)
    for caution in report.cautions():
        output.stderr.print(f"caution - {caution}", soft_wrap=True)
    if flags.save is not None:
        save_json(flags.save, report.to_json_object(records=flags.records))
    if plot is not None and flags.plot is not None:
        with telling(flags.plot):
            plot.draw(report, flags.plot)
        output.stderr.print(f"drawn in {flags.plot}", soft_wrap=True)
    return _EXIT_INTERRUPTED if report.interrupted else 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be sent. `trace`: its lines, already cut to what is asked for."""

    asked: Asked
    inputs: Sizes
    outputs: Sizes
    trace: list[TraceLine]

    @classmethod
    def of(cls, flags: LoadFlags) -> "_Work":
        by_default = flags.requests is None and flags.seconds is None and flags.trace is None
        closed = flags.rate is None and flags.trace is None
        inputs = Sizes.parse(flags.input_tokens or _INPUT, "--input-tokens")
        outputs = Sizes.parse(flags.output_tokens or _OUTPUT, "--output-tokens")
        lines = [] if flags.trace is None else read_trace(flags.trace)
        asked = Asked(
            rate=flags.rate,
            concurrency=(flags.concurrency or 1) if closed else None,
            trace=None if flags.trace is None else flags.trace.name,
            requests=flags.requests,
            seconds=_SECONDS if by_default else flags.seconds,
            input_tokens=None if lines else str(inputs),
            output_tokens=None if lines else str(outputs),
            prefix_tokens=flags.prefix_tokens,
            seed=flags.seed,
        )
        return cls(asked, inputs, outputs, lines)

    def jobs(self) -> Iterator[Job]:
        asked = self.asked
        if self.trace:
            every = jobs_of_trace(self.trace)
        elif asked.rate is not None:
            every = jobs_by_rate(asked.rate, self.inputs, self.outputs, asked.seed)
        else:
            every = jobs_on_demand(self.inputs, self.outputs, asked.seed)
        return within(every, requests=asked.requests, seconds=asked.seconds)

    def check_against(self, target: Target) -> None:
        """UsageError if a request is longer than the model's context."""
        longest = self.inputs.high + self.outputs.high
        if self.trace:
            longest = max(job.input_tokens + job.output_tokens for job in self.jobs())
        if target.context is not None and longest > target.context:
            raise UsageError(
                f"requests of {longest:,} tokens, input and output, exceed the context of {target.model}, "
                f"{target.context:,}",
                fix="ask for fewer tokens, or start the server with a longer --context",
            )


async def _measure(server: Server, work: _Work, flags: LoadFlags) -> LoadReport:
    target = await find_target(server, flags.model)
    work.check_against(target)
    prompts = Prompts(target.vocabulary, flags.seed, flags.prefix_tokens)
    await _try_once(server, target, flags)
    before = await read_ledger(server)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    with _telling() as tell:
        load = Load(server, target.model, prompts, timeout=flags.timeout, tell=tell)
        finished = await _run(load, work)
    summary = summarize(finished.records, ttft=flags.ttft, tpot=flags.tpot)
    ledger = None
    if before is not None and (after := await read_settled_ledger(server, before, summary.output_tokens)) is not None:
        ledger = between(before, after, summary.output_tokens)
    return LoadReport(
        date=date,
        url=server.url,
        model=target.model,
        asked=work.asked,
        summary=summary,
        records=finished.records,
        interrupted=finished.interrupted,
        generator_share=finished.generator_share,
        vocabulary_is_known=target.vocabulary_is_known,
        ledger=ledger,
    )


async def _run(load: Load, work: _Work) -> Finished:
    if work.asked.concurrency is None:
        return await load.run_open(work.jobs())
    return await load.run_closed(work.jobs(), users=work.asked.concurrency, seconds=work.asked.seconds)


async def _try_once(server: Server, target: Target, flags: LoadFlags) -> None:
    """One short request ahead, which is not counted: FarthingError if the server does not take such requests."""
    prompts = Prompts(target.vocabulary, flags.seed)
    load = Load(server, target.model, prompts, timeout=flags.timeout)
    finished = await load.run_closed(iter([Job(-1, None, 8, 2)]), users=1, seconds=None)
    if finished.interrupted:
        raise asyncio.CancelledError
    record = finished.records[0]
    if record.outcome == "failed":
        raise FarthingError(
            f"{server.url} does not answer a request for a completion: {record.reason} {record.detail}",
            fix="it must speak OpenAI's /v1/completions with token ids as prompt",
        )


@contextmanager
def _telling() -> Iterator[Tell]:
    """A line that changes, in a terminal; a line now and then elsewhere."""
    if output.stderr.is_terminal:
        with Live(console=output.stderr, transient=True, auto_refresh=False) as live:
            yield lambda load: live.update(Text(_line(load)), refresh=True)
    else:
        num_told = 0

        def tell(load: Load) -> None:
            nonlocal num_told
            num_told += 1
            if num_told % _LINE_EVERY == 0:
                output.stderr.print(_line(load), soft_wrap=True)

        yield tell


def _line(load: Load) -> str:
    counts = load.outcomes
    return (
        f"{load.seconds:.0f} s · {len(load.records):,} sent · {load.num_running:,} running · "
        f"{counts['answered']:,} answered · {counts['refused']:,} refused · {counts['failed']:,} failed · "
        f"{load.num_tokens / load.seconds:,.0f} tokens/s"
    )


def _allow_many_connections() -> None:
    """Each running request is an open file, and an overloaded server has thousands of them waiting."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
