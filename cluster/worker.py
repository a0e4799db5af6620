"""The actor of a pool: a process that holds the stages and runs one unit at a time."""

import logging
import socket
import time
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import ray

from storyreel.cluster.errors import ErrorClass, classify, describe
from storyreel.cluster.work import Attempt, Loaded, Problem, Work
from storyreel.stages.hardware import environment_class, hardware_class
from storyreel.stages.heartbeat import Pulse, followed
from storyreel.stages.output.attempts import fail, finish
from storyreel.stages.output.commits import (
    Commit,
    begin_attempt,
    commit,
    find_commit,
)
from storyreel.stages.output.copies import published_as_copy
from storyreel.stages.output.storage import Output
from storyreel.stages.units import Stage, StageFactory


@runtime_checkable
class Shrinkable(Protocol):
    """A stage that can do with less memory."""

    def smaller(self) -> Stage:
        """The same stage on the same models; it needs less memory, and marks what it makes."""
        ...


logger = logging.getLogger(__name__)


class Worker:
    """Loads the stages of a pool once, then runs its units.

    While one thread does that, another one answers `place` and `beat`.
    """

    def __init__(self, *, name: str, stages: Mapping[str, StageFactory], output: Output) -> None:
        self._name = f"{name}@{socket.gethostname()}"
        self._factories = stages
        self._output = output
        self._stages: dict[str, Stage] = {}
        self._pulse = Pulse()

    def place(self) -> str:
        """The id of the node that this process is on."""
        node_id: str = ray.get_runtime_context().get_node_id()
        return node_id

    def beat(self, pause_s: float) -> Pulse:
        """Wait a little, then tell how far the units are."""
        time.sleep(pause_s)
        return self._pulse

    def load(self) -> Loaded | Problem:
        """Construct the stages."""
        try:
            self._stages = {name: factory() for name, factory in self._factories.items()}
        except Exception as error:  # any error of loading is reported to the pool, which decides
            logger.exception("%s: cannot load its stages", self._name)
            return Problem(error_class=ErrorClass.MODEL_LOAD, message=describe(error))
        return Loaded(label=self._name, environment=environment_class())

    def run(self, work: Work, attempt: Attempt) -> Commit[Any] | Problem:
        """Do one unit and commit it.

        The attempt is recorded before the stage is called, so that a unit is known by it that takes
        this process or the pool's along; the commit record is published after the unit's files.
        """
        try:
            # Steps count as heartbeats, so that a slow unit is told from one that hangs.
            with followed(self._pulse):
                return self._attempt(work, attempt)
        except Exception as error:  # the boundary of a unit: its failure is an answer, not an end
            logger.exception("%s: %s failed", self._name, work.unit)
            return Problem(error_class=classify(error), message=describe(error))
        finally:
            self._pulse.waits_for = ""

    def _attempt(self, work: Work, attempt: Attempt) -> Commit[Any]:
        """Return the commit of a unit, which is another worker's if that one was faster."""
        begun = begin_attempt(self._output, work.unit, attempt.number, work.first_copy)
        try:
            # Not before the attempt has a record: another worker might finish in between.
            made = None if begun.is_first else self._made_elsewhere(work)
            if made is None:
                with published_as_copy(begun.record.copy):
                    made = self._make(work, attempt)
                made = commit(
                    self._output, work.unit, made, work.record, first_copy=work.first_copy
                )
        except Exception:
            fail(self._output, begun)
            raise
        finish(self._output, begun)
        return made

    def _made_elsewhere(self, work: Work) -> Commit[Any] | None:
        """Return the commit of a worker that was faster, unless it was made from other inputs."""
        made: Commit[Any] | None = find_commit(self._output, work.unit, work.record)
        return made if made is not None and made.inputs == work.inputs else None

    def _make(self, work: Work, attempt: Attempt) -> Commit[Any]:
        stage = self._stages[work.unit.stage]
        # After out-of-memory: the same models, with smaller calls.
        if attempt.smaller and isinstance(stage, Shrinkable):
            stage = stage.smaller()
        # Only the stage is timed: waiting for storage says nothing about the hardware.
        start = time.perf_counter()
        records = stage(work.argument)
        return Commit(
            records=records,
            attempts=attempt.number,
            worker=self._name,
            seconds=time.perf_counter() - start,
            hardware=hardware_class(),
            fingerprint=work.fingerprint,
            inputs=work.inputs,
            ended_at=time.time(),
        )
