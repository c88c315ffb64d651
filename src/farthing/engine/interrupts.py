"""Ctrl-C kept until a piece of work is whole: in its middle it would leave the engine half way through a step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Interrupt:
    """`came`: Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.came = False


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """KeyboardInterrupt comes at the end of the block. Elsewhere than on the main thread, and where the program has a
    handler of its own, nothing is changed."""
    interrupt = Interrupt()
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupt
        return

    def note(number: int, frame: object) -> None:
        interrupt.came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupt.came:
        raise KeyboardInterrupt
