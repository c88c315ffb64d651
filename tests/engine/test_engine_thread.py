"""One engine for callers on several threads: whoever only waits steps it himself while nobody else uses it."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.llm import LLM
from farthing.sampling_params import SamplingParams

GREEDY = SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True)
PROMPTS = ["Once upon a time", "There was a dog", "The rain fell", "A small boat"]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM("bundled", EngineConfig(max_num_seqs=4)) as llm:
        yield llm


def test_a_call_alone_is_computed_on_its_own_thread(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, step = set(), llm.engine.step
    monkeypatch.setattr(llm.engine, "step", lambda: (threads.add(threading.current_thread()), step())[1])
    llm.generate(PROMPTS[0], GREEDY)
    assert threads == {threading.current_thread()}


def test_calls_of_several_threads_are_answered_as_if_each_were_alone(llm: LLM) -> None:
    alone = {prompt: llm.generate(prompt, GREEDY).text for prompt in PROMPTS}
    found: dict[str, list[str]] = {prompt: [] for prompt in PROMPTS}

    def ask(prompt: str) -> None:
        for _ in range(4):
            found[prompt].append(llm.generate(prompt, GREEDY).text)

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in PROMPTS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert found == {prompt: [text] * 4 for prompt, text in alone.items()}


def test_a_call_beside_a_stream_leaves_both_whole(llm: LLM) -> None:
    alone = [llm.generate(prompt, GREEDY).text for prompt in PROMPTS[:2]]
    stream = llm.iterate(llm.request(PROMPTS[0], GREEDY))
    text = next(stream).text
    assert llm.generate(PROMPTS[1], GREEDY).text == alone[1]
    assert text + "".join(delta.text for delta in stream) == alone[0]


def test_ctrl_c_ends_a_call_and_leaves_the_engine_whole(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = llm.generate(PROMPTS[0], GREEDY).text
    step, steps = llm.engine.step, iter(range(10**6))

    def interrupted():
        if next(steps) == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step()

    monkeypatch.setattr(llm.engine, "step", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever other tests have left
    try:
        with pytest.raises(KeyboardInterrupt):
            llm.generate(PROMPTS[0], SamplingParams(max_tokens=400, temperature=0.0, ignore_eos=True))
    finally:
        signal.signal(signal.SIGINT, before)
    assert llm.generate(PROMPTS[0], GREEDY).text == expected
    assert not llm.engine.has_unfinished
