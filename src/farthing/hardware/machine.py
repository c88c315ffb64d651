"""What this machine has, asked without torch: memory, processor, GPUs.

Knows /proc, sysconf and nvidia-smi. What a running process takes is runtime/process_memory.py's.
"""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_CGROUP_LIMITS = (
    (_CGROUP / "memory.max", _CGROUP / "memory.current"),
    (_CGROUP / "memory/memory.limit_in_bytes", _CGROUP / "memory/memory.usage_in_bytes"),
)
_MATTERS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "i8mm",
)
CPP_COMPILERS = ("c++", "g++", "clang++")  # in the order of preference
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """As nvidia-smi tells: memory in bytes. `uuid` begins with "GPU-"."""

    name: str
    total_bytes: int
    free_bytes: int
    driver: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Processor:
    """`flags`: the instruction sets that matter here, as Linux names them; empty where it does not say."""

    name: str
    num_cores: int
    flags: tuple[str, ...]

    @property
    def multiplies_bf16(self) -> bool:
        return "avx512_bf16" in self.flags or any(flag.startswith("amx") for flag in self.flags)


def processor() -> Processor:
    """The processor of this machine, and the cores that this process may use."""
    has = cpu_flags()
    return Processor(cpu_name(), num_cores(), tuple(flag for flag in _MATTERS if flag in has))


def cpu_flags() -> frozenset[str]:
    """All instruction sets of the processor, as Linux names them; empty where it does not say."""
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return frozenset(flags[1].split()) if flags else frozenset()


def fast_dtype(kind: str, stored: str) -> str:
    """What the engine computes weights stored as `stored` in: 16 bits where this machine's processor ("cpu") or GPU
    ("cuda") multiplies them natively, else fp32."""
    if kind == "cuda":
        return "fp16" if stored == "fp16" else "bf16"
    return "bf16" if stored != "fp32" and processor().multiplies_bf16 else "fp32"


def cpp_compiler() -> str | None:
    """The C++ compiler of the system, by its path; none where PATH has none. CXX is not read."""
    return next((path for name in CPP_COMPILERS if (path := shutil.which(name))), None)


def num_cores() -> int:
    """Cores that this process may run on; a container or taskset may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """As the processor calls itself; on ARM under Linux, its codes."""
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    first = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    if "CPU implementer" in first:  # ARM tells codes, not a name
        return f"{platform.machine()} {first['CPU implementer']} {first.get('CPU part', '')}".strip()
    return first.get("model name") or platform.processor() or platform.machine()


def memory_bytes() -> tuple[int, int]:
    """Memory of the machine, and what of it can be taken now: less, where a container's limit is lower."""
    fields = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _text(Path("/proc/meminfo")), re.MULTILINE))
    total = int(fields["MemTotal"]) * 1024 if fields else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = int(fields["MemAvailable"]) * 1024 if "MemAvailable" in fields else total
    for limit_file, used_file in _CGROUP_LIMITS:
        limit, used = _text(limit_file).strip(), _text(used_file).strip()
        if limit.isdecimal() and used.isdecimal():
            total, available = min(total, int(limit)), min(available, max(0, int(limit) - int(used)))
    return total, available


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs; none where there is no driver."""
    figures = "name,memory.total,memory.free,driver_version,uuid"
    query = ["nvidia-smi", f"--query-gpu={figures}", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [[cell.strip() for cell in line.rsplit(",", 4)] for line in lines]
    return tuple(
        Gpu(name, int(total) * _MIB, int(free) * _MIB, driver, uuid)
        for name, total, free, driver, uuid in (row for row in rows if len(row) == 5)
        if total.isdecimal() and free.isdecimal()
    )


def freest(found: Sequence[Gpu]) -> Gpu:
    """That with the most free memory, the first among equals. `found`: at least one."""
    return max(found, key=lambda gpu: gpu.free_bytes)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
