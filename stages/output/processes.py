"""Names a process for good, so that another one can tell whether it is still there."""

import hashlib
import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessId:
    """A process, by more than its number, which another one is given later.

    `machine` tells apart hosts, their boots and the containers on them: only within one of these do
    process numbers mean anything.
    """

    host: str
    machine: str
    pid: int
    started: int | None

    @classmethod
    def current(cls) -> Self:
        """This process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), machine=_machine(), pid=pid, started=_started(pid))

    @property
    def is_near(self) -> bool:
        """Whether the process runs, or ran, where this one can see it."""
        return self.machine == _machine()

    @property
    def is_dead(self) -> bool:
        """Whether the process is known to be gone; of a far one nothing is known."""
        return self.is_near and _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    """When a process started, in a unit of its own; none if it is gone."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.is_file():
            # Clock ticks since the boot: unlike the time of day, nobody sets them.
            return int(stat.read_text(errors="replace").rpartition(")")[2].split()[19])
        return round(process.create_time())
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


@lru_cache(maxsize=1)
def _machine() -> str:
    """Twelve hexadecimal digits for this host since its boot, and for this container on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    parts = [socket.gethostname()]
    if boot.is_file():
        parts += [boot.read_text().strip(), str(Path("/proc/self/ns/pid").stat().st_ino)]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]
