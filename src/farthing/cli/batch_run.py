"""An order of `farthing batch` carried out: forecast, server, rows, output; and how it ends.

It ends with the output written, or with the journal kept: when its time is up, when it is told to, when the server
stays away. Knows exit codes and what a person is told; no flag's spelling and no HTTP.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from farthing.cli import output
from farthing.cli.batch_plan import PlannedRates, planned_here, tokenizer_here
from farthing.cli.batch_view import BatchView, end_line, forecast_line, forecast_object, result_object, say
from farthing.cli.model_argument import DownloadFlags, obtain
from farthing.client.batch import Batch, KeyRefusedError, Terms, refuse_rows
from farthing.client.batch_file import Reading, Row
from farthing.client.batch_forecast import (
    CountTokens,
    Forecast,
    Rates,
    Survey,
    count_by,
    count_texts,
    forecast,
    survey,
)
from farthing.client.batch_journal import Head, Journal, JournalError
from farthing.client.batch_tally import Tally
from farthing.client.connection import Server
from farthing.client.presence import Presence, ServerAwayError
from farthing.client.private_server import private_server
from farthing.engine.config import EngineConfig
from farthing.engine.fit import sequences_here
from farthing.errors import FarthingError, UsageError
from farthing.server.config import ServerConfig

SCHEMA = "farthing.batch/1"
_EXIT_FAILED, _EXIT_INTERRUPTED, _EXIT_TERMINATED = 1, 130, 143
_ROWS_AT_A_SERVER = 16
_NO_TIMEOUT = "1000000"  # seconds: nobody waits for a row of the night
_END_SECONDS = 2.0  # that a server of one's own takes to end
_GRACE_SECONDS = 1.0
_GOES_ON = "the same command goes on"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Of the engine's options those that answers depend on: a batch is not gone on with under others.
_CHANGES_ANSWERS = ("format", "kv_format", "context", "weights", "weights_seed", "batch_invariant")


@dataclass(frozen=True, slots=True)
class Order:
    """`server`: None for one of its own, which is started with `serve_arguments`. `until`: as time.time()."""

    source: Path
    server: Server | None
    model: str
    config: EngineConfig
    serve_arguments: tuple[str, ...]
    served_names: tuple[str, ...]
    concurrency: int | None
    price_per_hour: float | None
    until: float | None
    download: DownloadFlags
    json: bool

    def width(self, found: Survey) -> int:
        """Rows asked at a time. Twice what runs at a time keeps the queue of one's own server from running dry."""
        asked = self.concurrency
        if asked is None:
            asked = 2 * sequences_here(self.config) if self.server is None else _ROWS_AT_A_SERVER
        return max(1, min(asked, found.num_to_ask))


def dry_run(order: Order, journal: Journal | None = None) -> int:
    """Prints the forecast of what is not done. Without a server none is started: tokens are counted here, where the
    model is."""
    reading = Reading(order.source)
    found = survey(reading) if journal is None else survey(reading, journal.is_done)
    return _until_told(_tell_forecast(order, found, _head(order, reading), journal))


def answer(order: Order, journal: Journal) -> int:
    """Asks what is not done, and writes the output if all is. The exit code."""
    reading = Reading(order.source)
    found = survey(reading, journal.is_done)
    if not found.num_rows:
        raise UsageError(f"{order.source} has no rows", fix="write one request a line")
    journal.tally.num_rows = found.num_rows
    try:
        return _until_told(_Answering(order, journal, found, _head(order, reading)).run())
    except (ServerAwayError, KeyRefusedError, JournalError) as error:
        fix = f"{error.fix}; {_GOES_ON}" if error.fix else f"what is done is kept; {_GOES_ON}"
        output.print_error(FarthingError(error.what, fix=fix))
        return _EXIT_FAILED


def tell_complete(order: Order, answers: Path, tally: Tally) -> int:
    """Of an output that an earlier batch has written. The exit code, which is that batch's."""
    failed = f" ({tally.num_failed:,} rows failed)" if tally.num_failed else ""
    say(f"{answers} is complete already{failed}; --restart asks all rows anew")
    if order.json:
        figures = result_object(tally, 0.0, 0, None) | {"cached_tokens": None}
        output.print_json({"schema": SCHEMA, "output": str(answers), **figures, "forecast": None})
    return _exit_code(tally)


def _exit_code(tally: Tally) -> int:
    return _EXIT_FAILED if tally.num_failed else 0


def _head(order: Order, reading: Reading) -> Head:
    """As far as the input makes it, and, for a server of its own, model and options."""
    status = order.source.stat()
    head = Head(reading.whole_sha256(), status.st_size, int(status.st_mtime), model="")
    if order.server is not None:
        return head
    usual = EngineConfig()
    options = {name: getattr(order.config, name) for name in _CHANGES_ANSWERS}
    options = {name: value for name, value in options.items() if value != getattr(usual, name)}
    path = Path(order.model)
    return replace(head, model=str(path.resolve()) if path.exists() else order.model, options=options)


def _head_at_server(head: Head, models: list[str]) -> Head:
    return replace(head, model=models[0], options={"server": True})


def _is_gone_on_with(journal: Journal, head: Head) -> bool:
    """False where nothing is done. UsageError if what is done is of another batch."""
    if journal.head is None or not journal.tally.num_done:
        return False
    if (difference := journal.head.difference(head)) is not None:
        raise UsageError(f"{journal.path} keeps answers of {difference}", fix="name another output, or --restart")
    return True


def _until_told(work: Coroutine[Any, Any, int]) -> int:
    """The exit code. The first signal ends the work, which keeps what is done; the second one ends the process."""
    codes: list[int] = []

    def end(code: int, task: asyncio.Task[int]) -> None:
        if codes:
            os._exit(code)  # a server of one's own ends with its parent
        codes.append(code)
        task.cancel()

    async def working() -> int:
        task = asyncio.create_task(work)
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGINT, _EXIT_INTERRUPTED), (signal.SIGTERM, _EXIT_TERMINATED)):
            loop.add_signal_handler(number, end, code, task)
        return await task

    try:
        return asyncio.run(working())
    except asyncio.CancelledError:
        say(f"ended early: what is done is kept; {_GOES_ON}")
        return codes[0]


class _Answering:
    """`head`: as `_head` makes it."""

    def __init__(self, order: Order, journal: Journal, found: Survey, head: Head) -> None:
        self._order, self._journal, self._found, self._head = order, journal, found, head

    async def run(self) -> int:
        until = self._order.until
        try:
            async with asyncio.timeout(None if until is None else until + _GRACE_SECONDS - time.time()):
                if self._order.server is not None:
                    return await self._at(self._order.server)
                return await self._at_own()
        except TimeoutError:  # the server took that long to begin
            return self._not_all()

    async def _at(self, server: Server) -> int:
        models = await _served_models(server)
        self._begin(_head_at_server(self._head, models))
        return await self._ask(server, models, until=self._order.until)

    async def _at_own(self) -> int:
        order = self._order
        self._begin(self._head)
        if not self._found.num_to_ask:
            rows = Reading(order.source)
            refuse_rows(rows, self._journal)
            return self._end(rows, None, 0.0)
        obtain(order.model, order.config, order.download)
        async with private_server(_serve_arguments(order, self._found), say) as own:
            until = None if order.until is None else order.until - _END_SECONDS
            return await self._ask(own.server, await _served_models(own.server), until=until, gone=own.gone)

    def _begin(self, head: Head) -> None:
        if not _is_gone_on_with(self._journal, head):
            self._journal.begin(head)

    async def _ask(
        self,
        server: Server,
        models: list[str],
        *,
        until: float | None,
        gone: Callable[[], str | None] = lambda: None,
    ) -> int:
        order, found = self._order, self._found
        for name, count in found.models.items():
            if name not in models:
                fix = "" if order.server else f"; --served-model-name {name!r:.80} makes it answer to that name"
                say(f"note: {count:,} rows ask for {name!r:.80} and the server has {' and '.join(models)}{fix}")
        expected = await _forecast(order, found, count_by(server), server)
        say(forecast_line(found, expected))
        terms = Terms(order.width(found), idle=order.server is not None, until=until)
        presence = Presence(server, away_seconds=terms.away_seconds, gone=gone, say=say)
        rows = Reading(order.source)
        with BatchView(self._journal.tally, order.price_per_hour) as view:
            await Batch(server, iter(rows), self._journal, terms, presence, view.update).run()
        return self._end(rows, expected, view.seconds, view.num_output_tokens)

    def _end(self, rows: Reading, expected: Forecast | None, seconds: float, num_output_tokens: int = 0) -> int:
        order, tally = self._order, self._journal.tally
        written = ""
        if (rows.ended or tally.num_left <= 0) and rows.whole_sha256() != self._head.sha256:
            raise UsageError(f"{order.source} was changed while its rows were asked", fix="begin anew: --restart")
        if tally.num_left:
            code = self._not_all()
        else:
            self._journal.write_output()
            code, written = _exit_code(tally), f" -> {self._journal.output}"
        dollars = tally.dollars(order.price_per_hour)
        say(end_line(tally, seconds, num_output_tokens, dollars) + written)
        if order.json:
            figures = result_object(tally, seconds, num_output_tokens, dollars)
            told = None if expected is None else forecast_object(self._found, expected)
            output.print_json({"schema": SCHEMA, "output": str(self._journal.output), **figures, "forecast": told})
        return code

    def _not_all(self) -> int:
        say(f"the time is up: {self._journal.tally.num_left:,} rows are left; {_GOES_ON}")
        return 0


def _serve_arguments(order: Order, found: Survey) -> list[str]:
    """Of `farthing serve`. The model is here by now."""
    arguments = [*order.serve_arguments, "--offline", "--request-timeout", _NO_TIMEOUT]
    arguments += ["--max-queued-requests", str(max(ServerConfig().max_queued_requests, order.width(found)))]
    for name in order.served_names:
        arguments += ["--served-model-name", name]
    if order.price_per_hour is not None:
        arguments += ["--price-per-hour", str(order.price_per_hour)]
    return arguments


async def _served_models(server: Server) -> list[str]:
    """Their names. UsageError, before anything is begun, if the server takes no requests of ours."""
    status, answer = await server.ask("GET", "/v1/models")
    if status in (401, 403):
        raise UsageError(f"{server.url} asks for a key", fix="name a file with one: --key-file FILE")
    try:
        names = [str(model["id"]) for model in answer["data"]]
    except (TypeError, KeyError):
        names = []
    if not names:
        raise UsageError(f"{server.url} is no server of models (status {status})", fix="start one: farthing serve")
    return names


async def _tell_forecast(order: Order, found: Survey, head: Head, journal: Journal | None) -> int:
    if order.server is not None:
        head = _head_at_server(head, await _served_models(order.server))
    if journal is not None:
        _is_gone_on_with(journal, head)
    if order.server is not None:
        count = count_by(order.server)
    else:
        tokenize = tokenizer_here(order.model)
        count = _no_count if tokenize is None else count_texts(tokenize)
    expected = await _forecast(order, found, count, order.server)
    if order.server is None:
        expected = replace(expected, notes=("prompts as no chat template has written them", *expected.notes))
    if order.json:
        output.print_json({"schema": SCHEMA, "forecast": forecast_object(found, expected)})
    else:
        output.stdout.print(forecast_line(found, expected), soft_wrap=True)
    return 0


async def _no_count(row: Row) -> None:
    """Where there is no tokenizer."""


async def _forecast(order: Order, found: Survey, count: CountTokens, server: Server | None) -> Forecast:
    """At the speed that was measured where there is one, else as this machine is planned; and the price likewise."""
    ledger: dict[str, Any] = {}
    if server is not None:
        status, answered = await server.ask("GET", "/farthing/ledger")
        ledger = answered if status == 200 and isinstance(answered, dict) else {}
    rates, price = _measured(ledger), order.price_per_hour
    if price is None:
        price = ledger.get("price_dollars_per_hour")
    expected = await forecast(found, count, rates, price)
    if rates is None:
        planned = _planned(order, ledger, found, expected.prompt_tokens)
        price = planned.price_per_hour if price is None else price
        expected = expected.at(planned.rates, price)
        if planned.rates is None:
            return replace(expected, notes=(*expected.notes, f"no time: {planned.reason}"))
    if price is None:
        note = "no cost: the price of the machine is not known (--price-per-hour says it)"
        expected = replace(expected, notes=(*expected.notes, note))
    return expected


def _planned(order: Order, ledger: dict[str, Any], found: Survey, prompt_tokens: int) -> PlannedRates:
    """Where nothing was measured, and where it is this machine that computes."""
    model = order.model
    if order.server is not None:
        if urlsplit(order.server.url).hostname not in _LOOPBACK:
            return PlannedRates(None, None, "the server has not computed anything yet")
        if not (model := str(ledger.get("model") or "")):
            return PlannedRates(None, None, "the server does not say what it serves")
    return planned_here(model, order.config, found, order.width(found), prompt_tokens=prompt_tokens)


def _measured(ledger: dict[str, Any]) -> Rates | None:
    """What the server has computed by now, if it has computed both phases."""
    total = ledger.get("total") or {}
    prefill, decode = ((total.get(phase) or {}).get("tokens_per_second") for phase in ("prefill", "decode"))
    if not (prefill and decode):
        return None
    return Rates(prefill, decode, "as fast as the server has been since its start")
