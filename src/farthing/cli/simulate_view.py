"""How a simulated load looks in a terminal, and the line that tells how far it is. Knows no flags."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table
from rich.text import Text

from farthing.cli import output
from farthing.planner.simulation.simulation_report import SimulatedLoad, headline, latency_rows, lines
from farthing.planner.simulation.simulator import Progress

_LINE_EVERY_SECONDS = 5.0  # where there is no terminal
_SILENT_SECONDS = 2.0


def print_load(load: SimulatedLoad) -> None:
    """The line, the latencies, the rest and the assumptions to stdout."""
    show = output.stdout.print
    show(headline(load), soft_wrap=True)
    for caution in load.cautions():
        show(f"caution - {caution}", soft_wrap=True)
    show()
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    table.add_column("")
    for heading in ("mean", "p50", "p90", "p95", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in latency_rows(load):
        table.add_row(*row)
    show(table)
    show()
    for line in lines(load):
        show(line, soft_wrap=True)
    show("\nassumed (sources: farthing hardware NAME):", style="dim")
    for note in load.assumptions():
        show(f"  {note}", style="dim", soft_wrap=True)


@contextmanager
def telling() -> Iterator[Callable[[Progress], None]]:
    """A line that changes, in a terminal; a line now and then elsewhere. Nothing of what takes no two seconds."""
    if output.stderr.is_terminal:
        with Live(console=output.stderr, transient=True, auto_refresh=False) as live:
            yield lambda progress: _is_long(progress) and live.update(Text(_line(progress)), refresh=True)
        return
    told = 0.0

    def tell(progress: Progress) -> None:
        nonlocal told
        if _is_long(progress) and progress.real_seconds - told >= _LINE_EVERY_SECONDS:
            told = progress.real_seconds
            output.stderr.print(_line(progress), soft_wrap=True)

    yield tell


def _is_long(progress: Progress) -> bool:
    return progress.real_seconds >= _SILENT_SECONDS


def _line(progress: Progress) -> str:
    return (
        f"{progress.real_seconds:.0f} s · {progress.ended:,} of {progress.requests:,} requests ended · "
        f"{progress.simulated_seconds:,.0f} s simulated"
    )
