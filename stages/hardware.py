"""What a process runs on; equal bytes are only promised on equal hardware and versions."""

import platform
import sys
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path


def hardware_class() -> str:
    """Return the name of the GPU that this process uses, such as "NVIDIA H200", or of its CPU."""
    torch = sys.modules.get("torch")  # a process that has not imported it uses no GPU
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return _cpu_model()


def environment_class() -> str:
    """Return what the bytes of a stage depend on beside the job: hardware, and library versions."""
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers")]
    return ", ".join([hardware_class(), *versions])


@lru_cache(maxsize=1)
def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return " ".join(value.split())
    return platform.processor() or platform.machine()
