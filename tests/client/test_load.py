"""Load on real servers, and on some of other makers: every request is accounted for, none waits for another."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from server_process import ServerProcess, serving

from farthing.client.connection import Server
from farthing.client.load import Finished, Load
from farthing.client.load_ledger import between, read_ledger, read_settled_ledger
from farthing.client.load_stats import Record, summarize
from farthing.client.load_target import ANY_VOCABULARY, Target, find_target
from farthing.client.load_work import Job, Prompts, Sizes, jobs_by_rate, jobs_on_demand, within
from farthing.errors import UsageError

STEP_SECONDS = 0.1
TOKEN = b'data: {"choices": [{"index": 0, "text": "a", "finish_reason": null}]}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The bundled model."""
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A tenth of a second a step, two sequences at a time; two requests may wait for their first token."""
    scripts = tmp_path_factory.mktemp("scripts") / "scripts.json"
    scripts.write_text(json.dumps({"default": "Once upon a time there was a fox. " * 4}))
    with serving(
        script="scripted.py", arguments=[str(scripts), str(STEP_SECONDS)], engine={"max_num_seqs": 2},
        max_queued_requests=2,
    ) as running:  # fmt: skip
        yield running


@contextmanager
def foreign_server(stream: bytes, *, status: int = 200, models_status: int = 200) -> Iterator[str]:
    """A server of another maker: it lists a model and answers every completion with `stream`; it has no more routes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/v1/models"
            self._answer(models_status if found else 404, b'{"data": [{"id": "theirs"}]}' if found else b"no such page")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            found = self.path == "/v1/completions"
            self._answer(status if found else 404, stream if found else b"no such page")

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


async def open_load(url: str, jobs: Iterator[Job]) -> Finished:
    server = Server.at(url)
    target = await find_target(server, None)
    return await Load(server, target.model, Prompts(target.vocabulary, 0), timeout=60).run_open(jobs)


def one_of(url: str, job: Job) -> Record:
    [record] = asyncio.run(open_load(url, iter([job]))).records
    return record


def numbered(times: int, seconds: float, tokens: int) -> Iterator[Job]:
    """Arrivals at even distances."""
    return iter([Job(index, seconds * index, 8, tokens) for index in range(times)])


def test_every_request_is_accounted_for_with_its_exact_lengths(server: ServerProcess):
    jobs = list(within(jobs_by_rate(20, Sizes(5, 60), Sizes(1, 12), 3), requests=25, seconds=None))
    finished = asyncio.run(open_load(server.url, iter(jobs)))
    assert [record.index for record in finished.records] == list(range(25)) and not finished.interrupted
    for job, record in zip(jobs, finished.records, strict=True):
        assert record.outcome == "answered" and record.scheduled == job.arrival
        assert (record.input_tokens, record.output_tokens) == (job.input_tokens, job.output_tokens)
        assert len(record.token_times) == job.output_tokens
        assert record.scheduled <= record.sent <= record.token_times[0] <= record.token_times[-1] <= record.ended
        assert record.token_times == sorted(record.token_times)
    summary = summarize(finished.records)
    assert summary.output_tokens == sum(job.output_tokens for job in jobs)
    assert finished.generator_share > 0


def test_the_ledger_of_the_server_counts_the_same_tokens(server: ServerProcess):
    async def measure() -> None:
        connection = Server.at(server.url)
        before = await read_ledger(connection)
        assert before is not None
        finished = await open_load(server.url, numbered(6, 0.05, 9))
        after = await read_settled_ledger(connection, before, 6 * 9)
        assert after is not None
        delta = between(before, after, summarize(finished.records).output_tokens)
        assert delta is not None
        assert (delta.output_tokens, delta.other_output_tokens) == (6 * 9, 0)
        assert delta.prefill.steps >= 1 and delta.decode.steps >= 8
        assert delta.prefill.tokens + delta.decode.tokens >= 6 * 8 + 6 * 8
        for phase in (delta.prefill, delta.decode):
            assert 0 < phase.limit_seconds <= phase.forecast_seconds and phase.seconds > 0

    asyncio.run(measure())


def test_an_open_loop_does_not_wait_for_answers(slow_server: ServerProcess):
    """Ten tokens take over a second; the third request leaves while the first two are still on their way."""
    finished = asyncio.run(open_load(slow_server.url, numbered(3, 2.5 * STEP_SECONDS, 10)))
    assert [record.outcome for record in finished.records] == ["answered"] * 3
    assert max(record.sent for record in finished.records) < min(record.ended for record in finished.records)


def test_refused_requests_are_counted_apart(slow_server: ServerProcess):
    finished = asyncio.run(open_load(slow_server.url, numbered(8, 0.01, 10)))
    summary = summarize(finished.records)
    assert summary.sent == 8 == summary.answered + summary.refused and summary.refused >= 4
    [reason] = summary.reasons
    assert (reason.reason, reason.requests) == ("HTTP 429 rate_limit_exceeded", summary.refused)
    assert "busy" in reason.example
    refused = [record for record in finished.records if record.outcome == "refused"]
    first_answered = min(record.ended for record in finished.records if record.outcome == "answered")
    assert all(record.ended < first_answered and not record.token_times for record in refused)
    assert summary.request_seconds.p50 is not None and summary.request_seconds.p50 > 9 * STEP_SECONDS


def test_users_of_a_closed_loop_wait_for_their_answers(server: ServerProcess):
    async def measure() -> Finished:
        connection = Server.at(server.url)
        target = await find_target(connection, None)
        load = Load(connection, target.model, Prompts(target.vocabulary, 1))
        jobs = within(jobs_on_demand(Sizes(8, 8), Sizes(6, 6), 0), requests=12, seconds=None)
        return await load.run_closed(jobs, users=3, seconds=None)

    records = asyncio.run(measure()).records
    assert sorted(record.index for record in records) == list(range(12))
    assert all(record.outcome == "answered" for record in records)
    running = [sum(other.sent <= record.sent < other.ended for other in records) for record in records]
    assert max(running) == 3


def test_users_stop_asking_when_the_time_is_over(server: ServerProcess):
    async def measure() -> Finished:
        connection = Server.at(server.url)
        target = await find_target(connection, None)
        load = Load(connection, target.model, Prompts(target.vocabulary, 1))
        return await load.run_closed(jobs_on_demand(Sizes(8, 8), Sizes(6, 6), 0), users=2, seconds=0.5)

    records = asyncio.run(measure()).records
    assert len(records) >= 2 and all(record.outcome == "answered" and record.sent < 0.5 for record in records)


def test_an_interrupted_load_keeps_what_it_has_and_cuts_the_rest(slow_server: ServerProcess):
    async def measure() -> Finished:
        running = asyncio.create_task(open_load(slow_server.url, iter([Job(0, 0, 8, 2), Job(1, 0.25, 8, 40)])))
        await asyncio.sleep(12 * STEP_SECONDS)
        running.cancel()
        return await running

    finished = asyncio.run(measure())
    assert finished.interrupted
    assert [record.outcome for record in finished.records] == ["answered", "cut"]


def test_a_target_says_its_model_context_and_ids(server: ServerProcess):
    target = asyncio.run(find_target(Server.at(server.url), None))
    assert (target.model, target.context, target.vocabulary_is_known) == ("bundled", 512, True)
    assert 0 <= target.vocabulary.low < target.vocabulary.high < 4096
    with pytest.raises(UsageError, match="serves bundled"):
        asyncio.run(find_target(Server.at(server.url), "other"))


def test_a_server_that_wants_a_key_says_which_flag_brings_it():
    with foreign_server(DONE, models_status=401) as url, pytest.raises(UsageError, match="--key-file"):
        asyncio.run(find_target(Server.at(url), None))


def test_a_server_of_another_maker_is_loaded_without_tokenizer_usage_or_ledger():
    with foreign_server(2 * TOKEN + DONE) as url:
        target = asyncio.run(find_target(Server.at(url), None))
        assert target == Target("theirs", None, ANY_VOCABULARY, False)
        assert asyncio.run(read_ledger(Server.at(url))) is None
        record = one_of(url, Job(0, 0.0, 7, 5))
    assert (record.outcome, record.input_tokens, record.output_tokens) == ("answered", 7, 2)
    assert summarize([record]).short == 1


@pytest.mark.parametrize(
    ("stream", "status", "reason"),
    [
        (TOKEN, 200, "the stream has no end"),
        (DONE, 200, "the stream has no tokens"),
        (TOKEN + b"data: {\n\n" + DONE, 200, "no JSON in the stream"),
        (TOKEN + b"data: 3\n\n" + DONE, 200, "no JSON in the stream"),
        (TOKEN + b'data: {"error": {"message": "broke", "code": "oops"}}\n\n' + DONE, 200, "HTTP 200 oops"),
        (b'{"error": {"message": "no", "type": "server_error"}}', 500, "HTTP 500 server_error"),
        (b"<html>", 502, "HTTP 502"),
    ],
)
def test_a_failed_answer_is_counted_with_its_reason(stream: bytes, status: int, reason: str):
    with foreign_server(stream, status=status) as url:
        record = one_of(url, Job(0, 0.0, 4, 2))
    assert (record.outcome, record.reason) == ("failed", reason)
    assert summarize([record]).failed == 1


def test_what_is_no_such_server_is_refused():
    with foreign_server(DONE) as url, pytest.raises(UsageError, match="does not serve"):
        asyncio.run(find_target(Server.at(url), "mine"))


def test_a_server_that_is_gone_makes_failures_and_no_exception(server: ServerProcess):
    async def measure() -> Finished:
        load = Load(Server.at("http://127.0.0.1:9"), "m", Prompts(ANY_VOCABULARY, 0))
        return await load.run_open(numbered(3, 0.0, 4))

    finished = asyncio.run(measure())
    assert [record.reason for record in finished.records] == ["no connection"] * 3
