"""What the server adds to the engine: CPU time and latency a streamed token, and throughput beside the engine alone.

    python benchmarks/server/overhead.py [PAGE.md] [--rounds 3]

One run on one machine, all sides in turn: the server, `LLM` in one process, and the engine stepped on the main thread
of a process, as the server's engine is; `LLM` steps it on a second thread. The client is a process of its own with raw
sockets, so that it takes little of the two cores that client, server and engine share. CPU time of the API process is
getrusage's (user and system, all threads), that of the engine's side of the sockets is what its thread spends in
reading and writing them.
"""

import argparse
import json
import os
import platform
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from server_process import ServerProcess, serving  # noqa: E402

from farthing import LLM, SamplingParams  # noqa: E402
from farthing.engine.config import EngineConfig  # noqa: E402
from farthing.engine.engine import Engine  # noqa: E402
from farthing.engine.plan import plan_engine  # noqa: E402
from farthing.engine.request import Request  # noqa: E402

NUM_STREAMS = 16
SMOLLM2_135M = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "head_dim": 64,
    "max_position_embeddings": 8192, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
    "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16",
}  # fmt: skip


def stream_all(url: str, num_streams: int, num_tokens: int) -> dict[str, Any]:
    """Streams of completions over raw sockets; when their chunks came (monotonic), of the first stream."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"prompt": "Once upon a time", "max_tokens": num_tokens, "ignore_eos": True, "stream": True,
                       "temperature": 0, "seed": 1}).encode()  # fmt: skip
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
    request = head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body
    selector, arrivals, num_chunks, tails = selectors.DefaultSelector(), [], 0, {}
    for index in range(num_streams):
        connection = socket.create_connection((host, int(port)))
        connection.sendall(request)
        selector.register(connection, selectors.EVENT_READ, index)
        tails[index] = b""
    started, running = time.monotonic(), num_streams
    while running:
        for key, _ in selector.select(60):
            data = key.fileobj.recv(65536)
            now = time.monotonic()
            chunks = data.count(b"data: {")
            num_chunks += chunks
            if key.data == 0:
                arrivals += [now] * chunks
            tails[key.data] = (tails[key.data] + data)[-64:]
            if not data or b"[DONE]" in tails[key.data]:
                assert data, "a stream was cut"
                selector.unregister(key.fileobj)
                key.fileobj.close()
                running -= 1
    return {"seconds": time.monotonic() - started, "num_chunks": num_chunks, "arrivals": arrivals}


def engine_alone(model: str, engine: dict[str, Any], num_tokens: int) -> float:
    """Tokens per second of the engine on this thread, which is to be the main one."""
    alone = Engine(plan_engine(model, EngineConfig(**engine)))
    params = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True, seed=1)
    prompt = alone.text.encode("Once upon a time")
    seconds = 0.0
    for turn, of_turn in (("warm", replace(params, max_tokens=8)), ("timed", params)):
        for index in range(NUM_STREAMS):
            alone.add(Request(f"{turn}-{index}", prompt, of_turn, 1))
        started = time.monotonic()
        while alone.has_unfinished:
            alone.step()
        seconds = time.monotonic() - started
    alone.close()
    return NUM_STREAMS * num_tokens / seconds


def in_own_process(*arguments: str) -> Any:
    """What this file prints as JSON in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def client(url: str, num_streams: int, num_tokens: int) -> dict[str, Any]:
    """`stream_all` in a process of its own."""
    figures: dict[str, Any] = in_own_process("--client", url, str(num_streams), str(num_tokens))
    return figures


@contextmanager
def measured_server(model: Path | str, engine: dict[str, Any], folder: Path) -> Iterator[tuple[ServerProcess, Path]]:
    """A server whose engine writes what its sockets cost, and when it sent what, to a file when SIGUSR1 comes."""
    figures = folder / "figures.json"
    with serving(model, engine=engine, script="measured.py", arguments=[str(figures)]) as server:
        yield server, figures


def engine_figures(server: ServerProcess, figures: Path) -> dict[str, Any]:
    figures.unlink(missing_ok=True)
    os.kill(server.engine_pid(), signal.SIGUSR1)
    while not figures.exists():
        time.sleep(0.01)
    return json.loads(figures.read_text())


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def overhead(model: Path | str, engine: dict[str, Any], num_tokens: int, rounds: int) -> dict[str, Any]:
    """Of a served model: CPU time and latency a token; and its throughput beside LLM's, in turn."""
    rows: list[dict[str, float]] = []
    in_process: list[float] = []
    on_main_thread: list[float] = []
    added: list[float] = []
    llm = LLM(str(model), EngineConfig(**engine))
    params = SamplingParams(temperature=0, max_tokens=num_tokens, ignore_eos=True, seed=1)
    with tempfile.TemporaryDirectory() as temporary, measured_server(model, engine, Path(temporary)) as (server, file):
        api = psutil.Process(server.process.pid)
        client(server.url, NUM_STREAMS, 8)
        llm.generate(["Once upon a time"] * NUM_STREAMS, params)
        for _ in range(rounds):
            started = time.monotonic()
            outputs = llm.generate(["Once upon a time"] * NUM_STREAMS, params)
            in_process.append(sum(len(o.completions[0].token_ids) for o in outputs) / (time.monotonic() - started))
            on_main_thread.append(in_own_process("--engine", str(model), json.dumps(engine), str(num_tokens)))
            before, before_engine = cpu_seconds(api), engine_figures(server, file)
            seen = client(server.url, NUM_STREAMS, num_tokens)
            after, after_engine = cpu_seconds(api), engine_figures(server, file)
            tokens = NUM_STREAMS * num_tokens
            rows.append(
                {
                    "api_us": 1e6 * (after - before) / tokens,
                    "ipc_us": 1e6 * (after_engine["ipc_seconds"] - before_engine["ipc_seconds"]) / tokens,
                    "tokens_per_second": tokens / seen["seconds"],
                }
            )
            seen = client(server.url, 1, num_tokens)
            sent = engine_figures(server, file)["sent"][-len(seen["arrivals"]) :]
            added += [arrived - left for arrived, left in zip(seen["arrivals"], sent, strict=True)]
    llm.close()
    return {
        "api_us": statistics.median(row["api_us"] for row in rows),
        "ipc_us": statistics.median(row["ipc_us"] for row in rows),
        "served": statistics.median(row["tokens_per_second"] for row in rows),
        "in_process": statistics.median(in_process),
        "ratio": statistics.median(row["tokens_per_second"] / own for row, own in zip(rows, in_process, strict=True)),
        "on_main_thread": statistics.median(on_main_thread),
        "ratio_on_main_thread": statistics.median(
            row["tokens_per_second"] / own for row, own in zip(rows, on_main_thread, strict=True)
        ),
        "added_ms": 1e3 * statistics.median(added),
        "added_p99_ms": 1e3 * sorted(added)[int(0.99 * len(added))],
    }


def page(results: dict[str, dict[str, Any]], rounds: int) -> str:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    lines = [
        "# What the server adds to the engine",
        "",
        f"{datetime.now(UTC):%Y-%m-%d} · commit {commit.strip()} · {platform.machine()}, {os.cpu_count()} cores · "
        f"Python {platform.python_version()}",
        "",
        f"Command: `python benchmarks/server/overhead.py PAGE.md --rounds {rounds}`. {NUM_STREAMS} streams of "
        "completions over raw sockets from a process of its own; medians of the rounds, in which the engine alone and "
        "the server take turns. CPU time of the API process is all of it (user and system, every thread); IPC is what "
        "the engine's thread spends on its sockets. Added latency is from the moment the engine has a step's tokens to "
        "the moment "
        "the client has read them, at one stream.",
        "",
        "| | limit | " + " | ".join(results) + " |",
        "|---|---|" + "---|" * len(results),
    ]
    rows = (
        ("API process, µs of CPU a token", "", lambda r: f"{r['api_us']:.0f}"),
        ("IPC in the engine, µs of CPU a token", "", lambda r: f"{r['ipc_us']:.0f}"),
        ("both together", "150", lambda r: f"**{r['api_us'] + r['ipc_us']:.0f}**"),
        ("added latency at one stream, median ms", "1", lambda r: f"**{r['added_ms']:.2f}**"),
        ("added latency, p99 ms", "", lambda r: f"{r['added_p99_ms']:.2f}"),
        (f"served, {NUM_STREAMS} streams, tokens/s", "", lambda r: f"{r['served']:,.0f}"),
        (f"`LLM` in one process, batch {NUM_STREAMS}, tokens/s", "", lambda r: f"{r['in_process']:,.0f}"),
        ("engine on a main thread, tokens/s", "", lambda r: f"{r['on_main_thread']:,.0f}"),
        ("served / `LLM` in one process", "0.9 (135M)", lambda r: f"**{r['ratio']:.2f}**"),
        ("served / engine on a main thread", "", lambda r: f"**{r['ratio_on_main_thread']:.2f}**"),
    )
    lines += [
        f"| {name} | {limit} | " + " | ".join(show(r) for r in results.values()) + " |" for name, limit, show in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", nargs=3, metavar=("URL", "STREAMS", "TOKENS"), help=argparse.SUPPRESS)
    parser.add_argument("--engine", nargs=3, metavar=("MODEL", "OPTIONS", "TOKENS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        model, options, tokens = arguments.engine
        print(json.dumps(engine_alone(model, json.loads(options), int(tokens))))
        return
    if arguments.client:
        url, streams, tokens = arguments.client
        print(json.dumps(stream_all(url, int(streams), int(tokens))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        random_model = Path(temporary) / "smollm2-135m"
        random_model.mkdir()
        (random_model / "config.json").write_text(json.dumps(SMOLLM2_135M))
        results = {
            "bundled (3.5M)": overhead("bundled", {"threads": 1}, 400, arguments.rounds),
            "SmolLM2-135M shape, random": overhead(random_model, {"weights": "random"}, 128, arguments.rounds),
        }
    text = page(results, arguments.rounds)
    print(text)
    if arguments.page is not None:
        arguments.page.write_text(text)


if __name__ == "__main__":
    main()
