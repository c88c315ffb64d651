"""What this process and machine have of memory: RssAnon on Linux (without mapped files), the resident set elsewhere."""

from pathlib import Path

import psutil

from farthing.hardware.machine import memory_bytes

_STATUS = Path("/proc/self/status")


def process_bytes() -> int:
    """Memory that this process itself holds; mapped checkpoint files, which the system can drop, do not count."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def available_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or the container's if that is less."""
    return min(int(psutil.virtual_memory().available), memory_bytes()[1])
