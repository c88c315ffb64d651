"""An output that is there already: whether it answers all of an input, which the ids of its rows tell; what it came to.

Knows no journal and no server.
"""

import json
from pathlib import Path

from farthing.client.batch_file import Reading
from farthing.client.batch_result import facts_of
from farthing.client.batch_tally import Tally


def tally_if_complete(output: Path, source: Path) -> Tally | None:
    """What the rows of `output` came to, if there is one for every one of `source`, in order; else None.

    Of cached tokens, engine time and dollars the output does not tell.
    """
    tally = Tally()
    rows = iter(Reading(source))
    with open(output, "rb") as file:
        for line in file:
            row = next(rows, None)
            try:
                value = json.loads(line)
                if row is None or value["id"] != row.id:
                    return None
                tally.add(facts_of(value))
            except (ValueError, KeyError, TypeError, RecursionError):
                return None
    tally.num_rows = tally.num_done
    return tally if next(rows, None) is None else None
