"""Identifies a process across reboots and containers, so that another can check if it is alive."""

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
    """Identity of a process; its number alone is not enough, since numbers are reused.

    `machine` differs between hosts, between boots of a host and between containers on it: process
    numbers can only be compared within one of these. `started` is `None` if unknown.
    """

    host: str
    machine: str
    pid: int
    started: int | None

    @classmethod
    def current(cls) -> Self:
        """Return the identity of this process."""
        pid = os.getpid()
        return cls(host=socket.gethostname(), machine=_machine(), pid=pid, started=_started(pid))

    @property
    def is_near(self) -> bool:
        """True if the process runs, or ran, where this process can look it up."""
        return self.machine == _machine()

    @property
    def is_dead(self) -> bool:
        """True if the process is known to have ended; False for one that cannot be looked up."""
        return self.is_near and _started(self.pid) != self.started


def _started(pid: int) -> int | None:
    """Start of a process, comparable on one machine only; `None` if it does not exist any more."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if stat.is_file():
            # Clock ticks since the boot: they do not move when somebody sets the time of day.
            return int(stat.read_text(errors="replace").rpartition(")")[2].split()[19])
        return round(process.create_time())
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None


@lru_cache(maxsize=1)
def _machine() -> str:
    """Twelve hexadecimal digits for this boot of this host and this container on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    parts = [socket.gethostname()]
    if boot.is_file():
        parts += [boot.read_text().strip(), str(Path("/proc/self/ns/pid").stat().st_ino)]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]
