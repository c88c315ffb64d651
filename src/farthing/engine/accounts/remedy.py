"""What to do about an engine that was lost: one line, from how it ended and what its last steps took.

Knows incidents (incident.py) and exit codes. Looks at nothing of this machine; `farthing doctor` does.
"""

import signal
from collections.abc import Mapping
from statistics import median

from farthing.engine.accounts.incident import Incident

_REPORT = "report it with what `farthing doctor --report` prints"
_KERNEL_LOG = "`dmesg` or `journalctl -k` tells"
_NATIVE = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE"}
_LONG = 0.25  # of the stall limit: what a step takes that may well take four times as long


def remedy(incident: Incident) -> str:
    """One line: what to do."""
    after = "; it was not started again, so start the server when that is done" if incident.kind == "failed" else ""
    return _advice(incident) + after


def signal_name(exit_code: int | None) -> str:
    """ "SIGKILL" of -9; "" of what is no signal."""
    try:
        return signal.Signals(-exit_code).name if exit_code is not None and exit_code < 0 else ""
    except ValueError:
        return ""


def longest_step_seconds(incident: Incident) -> float:
    """Of the steps that are kept; 0 without any."""
    return max((step_seconds(step) for step in incident.steps), default=0.0)


def step_seconds(step: Mapping[str, object]) -> float:
    value = step.get("seconds")
    return float(value) if isinstance(value, int | float) else 0.0


def _advice(incident: Incident) -> str:
    name, code = signal_name(incident.exit_code), incident.exit_code
    if name == "SIGKILL":
        memory = f"the kernel's memory killer, probably ({_KERNEL_LOG}): lower --memory or --context"
        return f"{memory}, or give the machine or container more"
    if name in _NATIVE:
        return f"native code crashed ({name}): {_REPORT}; a driver or torch of another version may help"
    if name == "SIGILL":
        return "the processor lacks an instruction that torch was built with: install a torch made for it"
    if name:
        return f"somebody ended it with {name}: nothing of its own is wrong; look at who did"
    if code is not None and code != 0:
        return f"a Python error: its traceback stands in the server's output just before; {_REPORT}"
    if code == 0 and "exit code" not in incident.reason:
        return "it refused to load the model: the reason says what to change"
    if code == 0:
        return f"it ended without an error, which it never should: {_REPORT}"
    if incident.kind == "stall" or "no step" in incident.reason:
        return _advice_on_stall(incident)
    return f"it could not be started or understood: look at the reason, the space in /tmp and memory; else {_REPORT}"


def _advice_on_stall(incident: Incident) -> str:
    longest, limit = longest_step_seconds(incident), incident.stall_seconds
    if limit is not None and longest > limit * _LONG:
        wanted = max(60, round(4 * longest, -1))
        raised = f"raise --stall-seconds to {wanted:.0f}, or lower --max-batch-tokens"
        return f"steps took up to {longest:.3g} s here: {raised}"
    usual = median([step_seconds(step) for step in incident.steps] or [0.0])
    steps = f"steps took {usual:.3g} s before it" if usual else "no step was finished before it"
    return f"{steps}, so one hung: a throttled or hung device, a stopped process, swapping; `farthing doctor`, `dmesg`"
