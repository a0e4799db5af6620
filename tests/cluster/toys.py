"""Stages of a few lines that fail in every way a real one can."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from storyreel.stages.heartbeat import beat
from storyreel.stages.output.records import File
from storyreel.stages.output.storage import Output


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a toy is asked to write, and what goes wrong with it."""

    text: str
    trouble: str = ""


class CopyStage:
    """Publishes the text of an order, and notes every call in a file of its own."""

    def __init__(self, *, output_url: str) -> None:
        self._output = Output(output_url)
        self._calls = Path(output_url) / "calls"
        self._calls.mkdir(exist_ok=True)
        self._size = ""

    def smaller(self) -> "CopyStage":
        smaller = copy(self)
        smaller._size = "smaller"
        return smaller

    def __call__(self, order: Order) -> tuple[File, ...]:
        call = self._calls / f"{order.text}.{time.monotonic_ns()}.{os.getpid()}"
        call.write_text(str(os.getpid()))
        if not (self._size and order.trouble == "memory when large"):
            TROUBLES[order.trouble](self._output)
        name = f"{order.text}{self._size}"
        return (self._output.publish(f"copies/{name}.txt", name.encode()),)


class FlakyLoadStage(CopyStage):
    """Fails to load the first time."""

    def __init__(self, *, output_url: str) -> None:
        tried = Path(output_url) / "load-tried"
        if not tried.exists():
            tried.touch()
            raise OSError("the weights are on a slow disk")
        super().__init__(output_url=output_url)


class EnvironmentStage:
    """Publishes the variables of its process that fix the number of threads."""

    def __init__(self, *, output_url: str) -> None:
        self._output = Output(output_url)

    def __call__(self, order: Order) -> tuple[File, ...]:
        seen = f"{os.environ['OMP_NUM_THREADS']} {os.environ['MKL_NUM_THREADS']}"
        return (self._output.publish(f"{order.text}.txt", seen.encode()),)


class NodeStage:
    """Takes its time, notes the address of its node, and fails on nodes that are named as bad."""

    def __init__(self, *, output_url: str) -> None:
        self._output = Output(output_url)
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
        self._node = nodes[ray.get_runtime_context().get_node_id()]

    def __call__(self, order: Order) -> tuple[File, ...]:
        self._output.publish(f"calls/{order.text}.{time.monotonic_ns()}", self._node.encode())
        time.sleep(0.5)
        if self._output.exists(f"bad/{self._node}"):
            raise OSError("the disk of this node is broken")
        return (self._output.publish(f"copies/{order.text}.txt", order.text.encode()),)


class UnloadableStage:
    """Has lost its weights."""

    def __init__(self) -> None:
        raise OSError("no file named model.safetensors")


class LoadedOnceStage(CopyStage):
    """Loads in one process, and only when it has failed to in five others."""

    def __init__(self, *, output_url: str) -> None:
        if not _is_first(output_url):
            raise OSError("no file named model.safetensors")
        _wait_for_failures(Output(output_url), 5)
        super().__init__(output_url=output_url)


class HangingByTurnsStage:
    """Fails to load in one process, and hangs in the next one."""

    def __init__(self, *, output_url: str) -> None:
        _is_first(output_url)
        if len(list((Path(output_url) / "failures").iterdir())) % 2:
            time.sleep(600)
        raise OSError("no file named model.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledOnce:
    """Makes a stage whose package is missing in every process but one."""

    output_url: str

    def __call__(self) -> CopyStage:
        return CopyStage(output_url=self.output_url)

    def __reduce__(self) -> tuple[Any, ...]:
        return _import_once, (self.output_url,)


def _import_once(output_url: str) -> InstalledOnce:
    if not _is_first(output_url):
        raise ModuleNotFoundError("No module named 'storyreel'")
    return InstalledOnce(output_url=output_url)


def _is_first(output_url: str) -> bool:
    """Whether this process is the first of several that ask; the others are noted."""
    (failures := Path(output_url) / "failures").mkdir(exist_ok=True)
    try:
        (Path(output_url) / "first").touch(exist_ok=False)
    except FileExistsError:
        (failures / str(os.getpid())).touch()
        return False
    return True


def _wait_for_failures(output: Output, count: int) -> None:
    while len(output.names("failures")) < count:
        time.sleep(0.1)


def _raise(error: Exception) -> Callable[[Output], None]:
    def trouble(_: Output) -> None:
        raise error

    return trouble


def _work_step_by_step(_: Output) -> None:
    for _ in range(4):
        time.sleep(3)
        beat()


def _hang_in_c(_: Output) -> None:
    """Never give the interpreter lock back, as an extension may that waits for a driver."""
    ctypes.PyDLL(None).sleep(600)


def _die_when_idle(_: Output) -> None:
    threading.Timer(0.5, os._exit, args=[1]).start()


def _fail_once(output: Output) -> None:
    if not output.exists("failed-once"):
        output.publish("failed-once", b"")
        raise RuntimeError("CUDA error: device-side assert triggered")


TROUBLES: dict[str, Callable[[Output], None]] = {
    "": lambda _: None,
    "slow": lambda _: time.sleep(0.5),
    "slower": lambda _: time.sleep(3),
    "hang": lambda _: time.sleep(600),
    "exit": lambda _: os._exit(1),
    "bad": _raise(ValueError("panel 3: the character [Bob] is not known")),
    "error": _raise(RuntimeError("x" * 5000)),
    "memory": _raise(RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")),
    "memory when large": _raise(MemoryError("no memory for the batch")),
    "fail once": _fail_once,
    "steps": _work_step_by_step,
    "failures": lambda output: _wait_for_failures(output, 5),
    "hang in C": _hang_in_c,
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "die idle": _die_when_idle,
}
