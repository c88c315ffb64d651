"""LLM, the Python API: `LLM("bundled").generate("Once upon a time").text`, `.chat()`, `.stream()`, `.iterate()`.

Blocking, iterating and asynchronous calls share one engine on a thread of its own and may be mixed. Knows no HTTP.
"""

import asyncio
import atexit
import itertools
import queue
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.engine_thread import EngineThread
from farthing.engine.plan import plan_engine
from farthing.engine.request import Delta, Request, RequestOutput, empty_output
from farthing.errors import RequestError, RequestFailedError
from farthing.sampling_params import SamplingParams

Prompt = str | Sequence[int]
Messages = Sequence[Mapping[str, object]]


class LLM:
    """A model, loaded and ready. A context manager; `close()` frees its thread.

    `model`: a folder with config.json, a .gguf file, an alias ("bundled") or a pulled "org/name" of a hub; nothing
    is downloaded here. FarthingError if it can't be run.
    Calls without params sample as the model's generation_config.json says.
    """

    def __init__(
        self, model: str | Path = "bundled", config: EngineConfig | None = None, *, engine: Engine | None = None
    ) -> None:
        self.engine = engine or Engine(plan_engine(str(model), config or EngineConfig()))
        self._thread = EngineThread(self.engine)
        self._request_ids = (f"request-{number}" for number in itertools.count())
        atexit.register(self.close)  # a thread inside torch must not outlive the interpreter

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the engine; requests still running raise EngineStoppedError where they are waited for."""
        atexit.unregister(self.close)
        self._thread.close()

    def generate(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> RequestOutput | list[RequestOutput]:
        """Continue one prompt (text or token ids), or a list of them, computed together; outputs in their order.

        `params` of all prompts, or a list with those of each.
        """
        if isinstance(prompts, str) or (prompts and isinstance(prompts[0], int)):
            return self._complete([self.request(prompts, params)])[0]  # type: ignore[arg-type]
        each = [params] * len(prompts) if params is None or isinstance(params, SamplingParams) else params
        if len(each) != len(prompts):
            raise RequestError(f"there are {len(prompts)} prompts and {len(each)} params", fix="give one for each")
        return self._complete([self.request(*pair) for pair in zip(prompts, each, strict=True)])  # type: ignore[arg-type]

    def chat(self, messages: Messages, params: SamplingParams | None = None) -> RequestOutput:
        """Answer a conversation: `[{"role": "user", "content": "..."}]`."""
        return self._complete([self.chat_request(messages, params)])[0]

    def iterate(self, request: Request) -> Iterator[Delta]:
        """Deltas as they come, from a blocking iterator; leaving it early cancels the request."""
        deltas: queue.SimpleQueue[Delta | BaseException] = queue.SimpleQueue()
        self._thread.submit(request, deltas.put)
        unfinished = request.params.n
        try:
            while unfinished:
                delta = _sound(deltas.get())
                unfinished -= delta.finish_reason is not None
                yield delta
        finally:
            self._thread.cancel(request.request_id)

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        """Deltas as they come, without blocking the event loop; leaving it early cancels the request."""
        loop = asyncio.get_running_loop()
        deltas: asyncio.Queue[Delta | BaseException] = asyncio.Queue()

        def hand_over(delta: Delta | BaseException) -> None:
            loop.call_soon_threadsafe(deltas.put_nowait, delta)

        self._thread.submit(request, hand_over)
        unfinished = request.params.n
        try:
            while unfinished:
                delta = _sound(await deltas.get())
                unfinished -= delta.finish_reason is not None
                yield delta
        finally:
            self._thread.cancel(request.request_id)

    def request(self, prompt: Prompt, params: SamplingParams | None = None) -> Request:
        """A request for `iterate` or `stream` that continues a prompt; RequestError if it can't be served."""
        return self._request(self.engine.text.encode(prompt) if isinstance(prompt, str) else tuple(prompt), params)

    def chat_request(self, messages: Messages, params: SamplingParams | None = None) -> Request:
        """A request for `iterate` or `stream` that answers a conversation."""
        return self._request(self.engine.text.encode_chat(messages), params)

    def _request(self, prompt_ids: tuple[int, ...], params: SamplingParams | None) -> Request:
        params = params or self.engine.text.generation_defaults
        seed = params.seed if params.seed is not None else secrets.randbits(63)
        request = Request(next(self._request_ids), prompt_ids, params, seed)
        self.engine.check(request)
        return request

    def _complete(self, requests: Sequence[Request]) -> list[RequestOutput]:
        outputs = {request.request_id: empty_output(request) for request in requests}
        deltas: queue.SimpleQueue[Delta | BaseException] = queue.SimpleQueue()
        num_left = sum(request.params.n for request in requests)

        def take(delta: Delta | BaseException) -> None:
            nonlocal num_left
            sound = _sound(delta)
            outputs[sound.request_id].add(sound)
            num_left -= sound.finish_reason is not None

        def finished() -> bool:
            while not deltas.empty():
                take(deltas.get())
            return num_left == 0

        try:
            self._thread.compute(requests, deltas.put, finished)
            while num_left:
                take(deltas.get())
        finally:
            for request in requests:
                self._thread.cancel(request.request_id)
        return list(outputs.values())


def _sound(delta: Delta | BaseException) -> Delta:
    """The delta; raises what went wrong instead."""
    if isinstance(delta, BaseException):
        raise delta
    if delta.finish_reason == "error":
        raise RequestFailedError(str(delta.stop_reason))
    return delta
