"""Cards are read on a thread of their own: whoever looks never waits for a driver."""

import threading
import time
from collections.abc import Iterator
from dataclasses import make_dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from farthing import discover
from farthing.errors import UnsupportedError
from farthing.server import gpus

Reading = make_dataclass("Reading", [("index", int)])


class Driver:
    """Answers, refuses or hangs as it is told."""

    def __init__(self) -> None:
        self.answers, self.free = True, threading.Event()
        self.free.set()

    def read_gpus(self) -> tuple[Any, ...]:
        self.free.wait()
        if not self.answers:
            raise UnsupportedError("the driver does not answer", fix="restart the machine")
        return (Reading(0), Reading(1))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver()
    monkeypatch.setattr(discover, "load", lambda *names: SimpleNamespace(read_gpus=made.read_gpus))
    monkeypatch.setattr(gpus, "_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(gpus, "_KEPT_SECONDS", 0.5)
    yield made
    made.free.clear()  # the thread reads no more


def await_rows(cards: gpus.Gpus, wanted: list[dict[str, int]]) -> None:
    deadline = time.monotonic() + 10
    while cards.rows != wanted:
        assert time.monotonic() < deadline, cards.rows
        time.sleep(0.01)


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "refuses"])
def test_a_driver_that_answers_no_more_is_forgotten_and_one_that_comes_back_is_heard(driver: Driver, hangs: bool):
    cards = gpus.Gpus()
    assert cards.rows == []
    cards.start()
    await_rows(cards, [{"index": 0}, {"index": 1}])
    if hangs:
        driver.free.clear()
    else:
        driver.answers = False
    await_rows(cards, [])
    driver.answers = True
    driver.free.set()
    await_rows(cards, [{"index": 0}, {"index": 1}])


def test_without_the_package_nothing_is_known(monkeypatch: pytest.MonkeyPatch):
    def missing(*names: str) -> Any:
        raise ImportError("no pynvml")

    monkeypatch.setattr(discover, "load", missing)
    cards = gpus.Gpus()
    cards._watch()
    assert cards.rows == []
