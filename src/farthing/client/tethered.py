"""`python -m farthing.client.tethered COMMAND ...`: a command of Farthing that ends when whoever started it does.

Its standard input is a pipe that the parent holds open and writes nothing to. Knows no command.
"""

import ctypes
import os
import runpy
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs `farthing` with the same arguments."""
    if sys.platform == "linux":  # the kernel ends this process even if it is stopped or stuck
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_stdin, name="farthing-parent-watch", daemon=True).start()
    runpy.run_module("farthing", run_name="__main__")


def _end_with_stdin() -> None:
    """Elsewhere, and in case the parent died before: standard input ends with it."""
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
