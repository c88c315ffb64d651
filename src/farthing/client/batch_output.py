"""An output that is there already: whether it answers all of an input, which the ids of its rows tell.

Knows no journal and no server.
"""

import json
from pathlib import Path

from farthing.client.batch_file import Reading


def num_failed_if_complete(output: Path, source: Path) -> int | None:
    """How many rows of `output` failed, if it has a row for every one of `source`, in order; else None."""
    num_failed = 0
    rows = iter(Reading(source))
    with open(output, "rb") as file:
        for line in file:
            row = next(rows, None)
            try:
                value = json.loads(line)
                if row is None or value["id"] != row.id:
                    return None
                num_failed += value["error"] is not None
            except (ValueError, KeyError, TypeError, RecursionError):
                return None
    return num_failed if next(rows, None) is None else None
