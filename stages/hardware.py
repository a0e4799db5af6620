"""What a process computes on; the same bytes are promised within one class of hardware only."""

import platform
import sys
from functools import lru_cache
from pathlib import Path


def hardware_class() -> str:
    """A short name of what this process computes on.

    The GPU that it has used, such as "NVIDIA H200"; else the machine's CPU model.
    """
    torch = sys.modules.get("torch")  # a process that never imported it has used no GPU
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return _cpu_model()


@lru_cache(maxsize=1)
def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine()
