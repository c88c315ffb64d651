"""`farthing doctor`: what is installed, detected, missing or broken, and the command that mends it; the last incident.

Collects the findings of doctor_checks.py, doctor_cards.py and doctor_incident.py and prints them. Imports neither torch
nor an extra, so it works where nothing else does.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farthing import __version__
from farthing.cli import doctor_checks, output
from farthing.cli.doctor_cards import cards
from farthing.cli.doctor_incident import document, last_incidents, lines
from farthing.cli.finding import Finding
from farthing.engine.accounts.incident import last_incident
from farthing.errors import UsageError
from farthing.hub.cache import is_offline

SCHEMA = "farthing.doctor/1"
# What looks like a key or a token, should one have come into a path, a name or a line after all.
_SECRET = re.compile(r"\b(hf_|sk-|ghp_|Bearer )[\w-]{8,}|(?<=://)[^/\s@]+@")


@dataclass(frozen=True, slots=True)
class DoctorFlags:
    """What `farthing doctor` is told."""

    last: Annotated[bool, Parameter(help="Show the last incident of a server; exit code 1 if there is one.")] = False
    report: Annotated[bool, Parameter(help="Print one text for a bug report: findings and last incident.")] = False
    offline: Annotated[bool, Parameter(help="Do not ask whether the hub can be reached.")] = False
    json: Annotated[bool, Parameter(help="Print one JSON object.")] = False


_DEFAULTS = DoctorFlags()


def doctor(*, flags: Annotated[DoctorFlags, Parameter(name="*")] = _DEFAULTS) -> int:
    """Say what is installed, detected, missing and broken. Exit code 1 if something is broken."""
    if flags.report and (flags.last or flags.json):
        raise UsageError("--report is a text of its own", fix="leave --last and --json out: the last incident is in it")
    if flags.last:
        return _show_last(as_json=flags.json)
    found = [*_findings(flags.offline or is_offline(os.environ))]
    healthy = all(finding.mark != "problem" for finding in found)
    if flags.report:
        output.stdout.print("\n".join(map(_private, _report(found))), soft_wrap=True)
    elif flags.json:
        content = [asdict(finding) for finding in found]
        output.print_json({"schema": SCHEMA, "version": __version__, "healthy": healthy, "findings": content})
    else:
        for line in _told(found):
            output.stdout.print(line, soft_wrap=True)
    return 0 if healthy else 1


def _findings(offline: bool) -> Iterator[Finding]:
    yield from doctor_checks.installed()
    yield from doctor_checks.machine()
    yield from cards()
    yield from doctor_checks.folders()
    yield from doctor_checks.hub(offline)
    yield from last_incidents()


def _show_last(*, as_json: bool) -> int:
    incident = last_incident()
    if as_json:
        output.print_json(document(incident))
    else:
        for line in ["no incident is kept"] if incident is None else lines(incident):
            output.stdout.print(line, soft_wrap=True)
    return 0 if incident is None else 1


def _told(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        fix = f" - {finding.fix}" if finding.fix else ""
        yield f"{finding.mark:<8}{finding.name:<{width}}  {finding.text}{fix}"


def _report(findings: Sequence[Finding]) -> Iterator[str]:
    yield f"farthing {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    yield ""
    yield from _told(findings)
    incident = last_incident()
    if incident is not None:
        yield ""
        yield "## The last incident"
        yield ""
        yield from lines(incident)


def _private(line: str) -> str:
    """Without the name of the user's folder and without anything like a key."""
    home = str(Path.home())
    return _SECRET.sub("[withheld]", line if home == "/" else re.sub(rf"{re.escape(home)}(?!\w)", "~", line))
