"""What this process and machine have of memory: RssAnon on Linux (without mapped files), the resident set elsewhere."""

from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CGROUP = Path("/sys/fs/cgroup")
_CGROUPS = (
    (_CGROUP / "memory.max", _CGROUP / "memory.current"),
    (_CGROUP / "memory/memory.limit_in_bytes", _CGROUP / "memory/memory.usage_in_bytes"),
)


def process_bytes() -> int:
    """Memory that this process itself holds; mapped checkpoint files, which the system can drop, do not count."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def available_bytes() -> int:
    """Memory that can be taken without swapping: the machine's, or the container's (cgroup v2, v1) if that is less."""
    return min(int(psutil.virtual_memory().available), *(_room(limit, used) for limit, used in _CGROUPS))


def _room(limit_file: Path, used_file: Path) -> int:
    """What is left of a control group's memory; without bound where there is no group or no limit."""
    try:
        limit = int(limit_file.read_text())  # cgroup v2 writes "max" for none
        return max(0, limit - int(used_file.read_text()))
    except (OSError, ValueError):
        return 2**63
