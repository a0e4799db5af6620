"""The actor of a pool: a process that holds the stages and runs one unit at a time."""

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from cluster.errors import ErrorClass, classify, describe
from cluster.work import Done, Problem, Work
from stages.commits import Commit, commit
from stages.storage import Output

Stage: TypeAlias = Callable[[Any], tuple[Any, ...]]
"""Does the work of one unit: publishes its files and returns their records."""

StageFactory: TypeAlias = Callable[[], Stage]
"""Makes a stage on the worker, models loaded; travels by pickle (a class, a partial of one)."""

logger = logging.getLogger(__name__)


class Worker:
    """Loads the stages of a pool once, then runs its units; unaware of Ray."""

    def __init__(self, *, name: str, stages: Mapping[str, StageFactory], output_url: str) -> None:
        self._name = f"{name}@{socket.gethostname()}"
        self._factories = stages
        self._output = Output(output_url)
        self._stages: dict[str, Stage] = {}

    def load(self) -> str | Problem:
        """Construct the stages; returns the worker's name with its node, or what went wrong."""
        try:
            self._stages = {name: factory() for name, factory in self._factories.items()}
        except Exception as error:  # whatever a model raises while it loads is told to the pool
            logger.exception("%s: cannot load its stages", self._name)
            return Problem(error_class=ErrorClass.MODEL_LOAD, message=describe(error))
        return self._name

    def run(self, work: Work, attempts: int) -> Done | Problem:
        """Do one unit and commit it: its record is published after its files.

        Args:
            work: the unit.
            attempts: how often it was tried, this time included.
        """
        try:
            records = self._stages[work.unit.stage](work.argument)
            made = Commit(records=records, attempts=attempts, worker=self._name)
            commit(self._output, work.unit, made)
        except Exception as error:  # the boundary of a unit: its failure is an answer, not an end
            logger.exception("%s: %s failed", self._name, work.unit)
            return Problem(error_class=classify(error), message=describe(error))
        return Done(records=records)
