"""Parses files in a process of its own, whose memory and computing time are limited.

A few kilobytes of Parquet or YAML can stand for gigabytes, and the libraries that parse them know
no limit. The process is started with the first such file and parses all of them, one after the
other. It opens nothing: it asks for the bytes of a file, so that storage and its credentials stay
with the process that reads the input.

Each answer is a line that begins with one of the signs below. A process that ends within a file
has reached a limit, or a library has crashed.
"""

import io
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any, Self

import psutil

from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.parsing import Rejection, parse_stories, rejection
from storyreel.stages.output.records import Story
from storyreel.stages.output.serialization import from_json, to_row

MEMORY = 512 << 20
"""Limit of the memory that parsing takes, in bytes."""
CPU_S = 10
"""Limit of the computing time for a file, seconds; as much again for each MiB of the file, and for
each `STORIES` that it has given."""
STORIES = 5_000

_READ, _STORY, _REJECTION, _END = b"?", b"+", b"-", b"."


class ConfinedParser:
    """Parses files in a child process; a context manager that ends the process."""

    def __init__(self, limits: InputConfig) -> None:
        """Start nothing yet."""
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def parse(self, file: IO[bytes], path: str, name: str) -> Iterator[Story | Rejection]:
        """Yield the stories of one open file, as `parse_stories` does.

        A file that takes too much memory or time ends with a rejection of row 0.
        """
        size = file.seek(0, io.SEEK_END)
        if self._process is None:
            self._process = _start(self._limits)
        _, answers = _pipes(self._process)
        try:
            self._send(json.dumps({"path": path, "name": name, "size": size}).encode() + b"\n")
            while (line := answers.readline())[:1] != _END:
                if not line:
                    yield rejection(name, 0, "", self._reason(size))
                    self._stop()
                    return
                if line[:1] == _READ:
                    self._send(_bytes_of(file, *json.loads(line[1:])))
                else:
                    yield _decoded(line, name)
        except BaseException:  # an answer may be on its way: the next file would get it
            self._stop()
            raise

    def _send(self, content: bytes) -> None:
        assert self._process is not None
        requests, _ = _pipes(self._process)
        try:
            requests.write(content)
            requests.flush()
        except BrokenPipeError:
            return  # the process has ended, which the next answer shows

    def _reason(self, size: int) -> str:
        """Why the process has ended within a file."""
        assert self._process is not None
        if self._process.wait() == -signal.SIGXCPU:
            return f"takes more than {CPU_S * _units(size)} s of computing time to parse"
        return f"takes more than {MEMORY >> 20} MiB of memory to parse"

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in _pipes(self._process):
                _close(pipe)
        self._process = None


def _start(limits: InputConfig) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603, our own module
        [sys.executable, "-P", "-m", "storyreel.stages.input.confined", limits.model_dump_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except BrokenPipeError:
        return  # what is left to write cannot be written


def _bytes_of(file: IO[bytes], offset: int, size: int) -> bytes:
    """A part of the file, after its length."""
    file.seek(offset)
    content = file.read(size)
    return len(content).to_bytes(8) + content


def _decoded(line: bytes, name: str) -> Story | Rejection:
    if line[:1] == _STORY:
        return replace(from_json(Story, line[1:]), source_file=name)
    return replace(from_json(Rejection, line[1:]), source_file=name)


def _units(size: int) -> int:
    return 1 + (size >> 20)


class _AskedFile(io.RawIOBase):
    """A file whose bytes the other process reads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        _answer(_READ, [self._place, len(buffer)])
        length = int.from_bytes(sys.stdin.buffer.read(8))
        buffer[:length] = sys.stdin.buffer.read(length)
        self._place += length
        return length


def _answer(sign: bytes, content: Any) -> None:
    sys.stdout.buffer.write(sign + json.dumps(content).encode() + b"\n")
    sys.stdout.buffer.flush()


def _parse_requests(limits: InputConfig) -> None:
    """Parse one file after the other until standard input ends."""
    in_use = psutil.Process().memory_info().vms
    _limit(resource.RLIMIT_AS, in_use + MEMORY)
    _limit(resource.RLIMIT_CORE, 0)
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        _parse_file(limits, request["path"], request["name"], request["size"])


def _parse_file(limits: InputConfig, path: str, name: str, size: int) -> None:
    deadline = _cpu_time() + CPU_S * _units(size)
    _limit(resource.RLIMIT_CPU, deadline)
    num_stories = 0
    file = io.BufferedReader(_AskedFile(size), 1 << 20)
    for row in parse_stories(limits, file, path, name):
        sign = _STORY if isinstance(row, Story) else _REJECTION
        # The name of a file may contain bytes that a record in JSON cannot have.
        _answer(sign, to_row(row) | {"source_file": ""})
        num_stories += isinstance(row, Story)
        if num_stories == STORIES:
            num_stories, deadline = 0, deadline + CPU_S
            _limit(resource.RLIMIT_CPU, deadline)
    _answer(_END, None)


def _cpu_time() -> int:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int(usage.ru_utime + usage.ru_stime)


def _limit(kind: int, value: int) -> None:
    """Set a limit of this process that the kernel holds, whatever code runs."""
    _, most = resource.getrlimit(kind)
    soft = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(kind, (soft, most))


if __name__ == "__main__":
    _parse_requests(InputConfig.model_validate_json(sys.argv[1]))
