"""`farthing batch`: flags to an order. How it is carried out is batch_run's, how rows are asked farthing.client's.

Knows flags, and what of them makes no sense together.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from farthing.cli.batch_run import Order, answer, dry_run, tell_complete
from farthing.cli.model_argument import DownloadFlags, model_and_config
from farthing.cli.said import may_be_unsaid, said
from farthing.client.batch_file import check_input
from farthing.client.batch_journal import Journal
from farthing.client.batch_output import tally_if_complete
from farthing.client.connection import Server
from farthing.engine.config import EngineConfig
from farthing.errors import UsageError

_MAX_CONCURRENCY, _MAX_DOLLARS = 4096, 10**6


@dataclass(frozen=True, slots=True)
class BatchFlags:
    """What to do with a file of requests."""

    output: Annotated[Path | None, Parameter(alias="-o", help="File for the answers, in the order of the rows.")] = None
    model: Annotated[
        str | None, Parameter(alias="-m", help="Folder, .gguf file, alias, org/name or plan file. Default: bundled.")
    ] = None
    server: Annotated[
        str | None,
        Parameter(help="Address of a server that runs: rows are computed where its users are not disturbed."),
    ] = None
    key_file: Annotated[Path | None, Parameter(help="File with the key for --server.")] = None
    dry_run: Annotated[bool, Parameter(help="Say what is expected, and ask nothing.")] = False
    until: Annotated[str | None, Parameter(help="Run until HH:MM at most; the same command goes on later.")] = None
    concurrency: Annotated[
        int | None, Parameter(help="Rows asked at a time. Default: twice --max-num-seqs; 16 at a --server.")
    ] = None
    price_per_hour: Annotated[float | None, Parameter(help="Dollars per hour of the machine.")] = None
    served_model_name: Annotated[
        tuple[str, ...], Parameter(show_default=False, help="Name by which rows ask for the model; may be repeated.")
    ] = ()
    restart: Annotated[bool, Parameter(help="Drop what an earlier batch has left under the same output.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object with the figures.")] = False


SaidEngine = may_be_unsaid(EngineConfig, __name__)
_FLAGS, _ENGINE, _DOWNLOAD = BatchFlags(), SaidEngine(), DownloadFlags()


def batch(
    source: Annotated[Path, Parameter(name="FILE", help="Requests, one JSON object a line.")],
    /,
    *,
    flags: Annotated[BatchFlags, Parameter(name="*")] = _FLAGS,
    engine: Annotated[SaidEngine, Parameter(name="*")] = _ENGINE,
    download: Annotated[DownloadFlags, Parameter(name="*")] = _DOWNLOAD,
) -> int:
    """Answer a file of requests, in OpenAI's batch format."""
    check_input(source)
    order = _order(source, flags, engine, download)
    if flags.output is None:
        if flags.dry_run:
            return dry_run(order)
        raise UsageError("there is no file for the answers", fix="name one: -o out.jsonl")
    if flags.output.exists() and flags.output.samefile(source):
        raise UsageError(f"-o {flags.output} is the input itself", fix="name another file")
    with Journal(flags.output, restart=flags.restart) as journal:
        if journal.head is None and journal.output.exists() and not flags.restart:
            return _already_there(order, journal.output)
        return dry_run(order, journal) if flags.dry_run else answer(order, journal)


def _order(source: Path, flags: BatchFlags, engine: Any, download: DownloadFlags) -> Order:
    """UsageError for flags that make no sense."""
    if flags.concurrency is not None and not 1 <= flags.concurrency <= _MAX_CONCURRENCY:
        raise UsageError(f"--concurrency is {flags.concurrency}", fix=f"it must lie between 1 and {_MAX_CONCURRENCY:,}")
    if flags.price_per_hour is not None and not 0 <= flags.price_per_hour <= _MAX_DOLLARS:
        raise UsageError(
            f"--price-per-hour is {flags.price_per_hour}", fix=f"a price lies between 0 and {_MAX_DOLLARS:,} dollars"
        )
    if flags.server is None and flags.key_file is not None:
        raise UsageError("--key-file is for --server", fix="leave it out: a server of its own has a key of its own")
    if flags.dry_run and flags.until is not None:
        raise UsageError("--until is for a batch that runs", fix="leave it out: a dry run says when it would end")
    if flags.dry_run and flags.restart:
        raise UsageError("--restart is for a batch that runs", fix="leave out -o, too: then every row counts")
    own = [*said(engine), *(name for name in ("model", "served_model_name") if getattr(flags, name))]
    own += [name for name in ("yes", "offline") if getattr(download, name)]
    if flags.server is not None and own:
        name = own[0].replace("_", "-")
        raise UsageError(f"--{name} is for a server of its own", fix="leave it out, or leave out --server")
    argument = flags.model or "bundled"
    model, config = model_and_config(argument, engine)
    return Order(
        source=source,
        server=None if flags.server is None else Server.at(flags.server, key_file=flags.key_file),
        model=model,
        config=config,
        serve_arguments=(argument, *_spelled(said(engine))),
        served_names=flags.served_model_name,
        concurrency=flags.concurrency,
        price_per_hour=flags.price_per_hour,
        until=None if flags.until is None else next_moment(flags.until, datetime.now()),
        download=download,
        json=flags.json,
    )


def _already_there(order: Order, answers: Path) -> int:
    """An output without a journal: the answers to this input, or a file of somebody else's."""
    tally = tally_if_complete(answers, order.source)
    if tally is None:
        fix = "name another, or --restart"
        raise UsageError(f"{answers} is there, and is not the answers to {order.source}", fix=fix)
    return tell_complete(order, answers, tally)


def next_moment(text: str, now: datetime) -> float:
    """Of a time of day HH:MM the next one, as time.time(). UsageError for what is none."""
    try:
        asked = datetime.strptime(text.strip(), "%H:%M").time()
    except ValueError:
        raise UsageError(f"--until is {text!r:.40}", fix="write a time of day as HH:MM, such as 06:30") from None
    moment = datetime.combine(now.date(), asked)
    return (moment if moment > now else moment + timedelta(days=1)).timestamp()


def _spelled(options: dict[str, Any]) -> list[str]:
    """Flags as they are typed."""
    spelled = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        spelled.append(f"--{flag}={value}" if not isinstance(value, bool) else f"--{flag}" if value else f"--no-{flag}")
    return spelled
