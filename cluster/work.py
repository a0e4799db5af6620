"""The messages between a pool and its workers; a unit that succeeds is answered by its commit."""

from dataclasses import dataclass
from typing import Any

from storyreel.cluster.errors import ErrorClass
from storyreel.stages.output.commits import UnitId


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One unit and what its stage is called with, and the class of the records that it returns.

    `attempts` counts those of earlier runs; `fingerprint` is that of the job, `inputs` that of what
    the unit is made from; the files of copies before `first_copy` belong to earlier generations;
    `source_file` and `source_row` say in a failure where the story was read.
    """

    unit: UnitId
    argument: Any
    record: type = object
    fingerprint: str = ""
    inputs: str = ""
    first_copy: int = 1
    attempts: int = 0
    source_file: str = ""
    source_row: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of a unit: its number, from 1, and whether it must do with less memory."""

    number: int
    smaller: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An actor is ready: its name with its node, and the environment that it works in."""

    label: str
    environment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why an attempt failed, in plain values: the driver has none of the stage's modules."""

    error_class: ErrorClass
    message: str
