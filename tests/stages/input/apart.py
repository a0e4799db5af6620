"""Reads stories in a process of its own, whose memory can be measured."""

import os
import subprocess
import sys
from pathlib import Path

READ = """
import resource, sys
from storyreel.stages.errors import InputError
from storyreel.stages.input.config import InputConfig
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.stories import read_stories

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for row in read_stories(sys.argv[1], InputConfig()):
        print(row.message if isinstance(row, Rejection) else f"story {row.story_id}")
except InputError as error:
    print(error)
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(own >> 10, child >> 10)
"""


def read_apart(path: Path) -> tuple[list[str], int]:
    """Return what a file or folder of stories gives, and the MiB that reading it took.

    A fresh process, since the peak that the kernel tells of children contains the memory of the
    process that started them, here pytest with all that its tests have loaded.
    """
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:backslashreplace"},
    )
    *rows, memory = done.stdout.splitlines()
    return rows, max(map(int, memory.split()))
