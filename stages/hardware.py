"""The hardware class of a process; equal bytes are only promised within one hardware class."""

import platform
import sys
from functools import lru_cache
from pathlib import Path


def hardware_class() -> str:
    """Return the name of the GPU that this process uses, such as "NVIDIA H200", or of its CPU."""
    torch = sys.modules.get("torch")  # a process that has not imported it uses no GPU
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
