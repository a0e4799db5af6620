"""A command that ends with the process that started it, together with all that it started.

`python -m storyreel.flows.server.tether COMMAND...` runs COMMAND until its own standard input ends,
which happens even when the process at the other end is killed. The command is then asked to stop,
and whatever is left of it and of its children after a while is killed.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Self

import psutil

GRACE_S = 20.0
KILL_S = 10.0


class Tethered:
    """A running command that ends with this process; use as a context."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start `command`, in a session of its own so that Ctrl-C does not reach it."""
        self._process = subprocess.Popen(  # noqa: S603, our own module
            # -P: a file in the user's folder must not take the place of a module.
            [sys.executable, "-P", "-m", "storyreel.flows.server.tether", *command],
            stdin=subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,
        )

    @property
    def is_running(self) -> bool:
        """True while the command runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the command and wait until nothing of it is left."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _run(command: Sequence[str]) -> int:
    child = psutil.Popen(command, stdin=subprocess.DEVNULL)
    stopping = threading.Event()
    arguments = (child, stopping)
    stopper = threading.Thread(target=_stop_at_end_of_input, args=arguments, daemon=True)
    stopper.start()
    returncode: int = child.wait()
    if stopping.is_set():
        stopper.join()  # it knows the children that lost their parent just now
    _kill(_descendants(psutil.Process()))
    return returncode


def _stop_at_end_of_input(child: psutil.Popen, stopping: threading.Event) -> None:
    sys.stdin.buffer.read()
    stopping.set()
    family = [child, *_descendants(child)]
    child.terminate()
    _, left = psutil.wait_procs(family, timeout=GRACE_S)
    _kill(left)
    os._exit(0)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(processes, timeout=KILL_S)


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
