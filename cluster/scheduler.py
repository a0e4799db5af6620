"""The rules of a pool: assignment of units to actors, and the consequences of failures."""

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from storyreel.cluster.answers import has_died, outcome
from storyreel.cluster.config import PoolConfig
from storyreel.cluster.crew import Call, Contents, Crew, Member, suits
from storyreel.cluster.errors import (
    ErrorClass,
    PoolCancelledError,
    PoolEndedError,
    StorageGoneError,
    classify,
    describe,
)
from storyreel.cluster.queue import Entry, Queue
from storyreel.cluster.work import Callbacks, Census, Loaded, Problem
from storyreel.stages.heartbeat import Pulse
from storyreel.stages.output.commits import (
    Commit,
    commit_failure,
    excuse_attempt,
    last_attempt,
    read_attempts,
)
from storyreel.stages.output.records import Failure

MAX_LOAD_FAILURES = 3
"""Failures to load in a row after which a pool gives up, if no actor has loaded or still may."""

MAX_FAILED_UNITS = 3
"""Different units that an actor may fail before it is replaced."""

MAX_SPARED = 3
"""Losses of a worker that its unit is not blamed for; later ones count as attempts."""

MIN_UNITS = 20
"""Units that a pool counts with at least before the share of failed ones says anything."""

ASK_AGAIN_S = 1.0
"""Seconds between two checks of whether a stage may start units."""

UNUSABLE = frozenset({ErrorClass.WORKER_DIED, ErrorClass.TIMEOUT, ErrorClass.CUDA_STICKY})
"""Failures after which the actor is replaced at once."""
logger = logging.getLogger(__name__)


class Scheduler:
    """Runs a pool in one thread, which alone touches its state.

    Other threads leave messages: calls that the pool's thread makes, one after the other.
    """

    def __init__(self, contents: Contents, config: PoolConfig, callbacks: Callbacks) -> None:
        self._name = contents.name
        self._config = config
        self._callbacks = callbacks
        self._output = contents.output
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._crew = Crew(contents, config, self._post_answer)
        self._queue = Queue()
        self._open: set[Entry] = set()
        self._num_over = 0
        self._num_failed = 0
        self._listened_at = time.monotonic()
        self._draining = False
        self._ended: Exception | None = None

    def post(self, entry: Entry) -> None:
        """Add a unit to the pool; may be called from any thread."""
        self._messages.put(partial(self._accept, entry))
        if self._ended is not None:  # the thread reads its messages once more after setting this
            self._drain_messages()

    def post_resize(self, num_actors: int) -> None:
        """Ask the pool to have at most so many actors."""
        self._messages.put(partial(self._crew.resize, num_actors))

    def post_close(self, *, cancel: bool) -> None:
        """Ask the pool to end: now if `cancel`, else when no unit is open."""
        self._messages.put(self._cancel if cancel else self._drain)

    def census(self) -> Census:
        """Count actors and waiting units; may be called from any thread."""
        oldest = self._queue.oldest()
        return Census(
            actors=self._crew.count(),
            waiting=len(self._queue),
            oldest_s=time.monotonic() - oldest.accepted_at if oldest else 0.0,
        )

    def waits(self) -> list[str]:
        """Return what actors wait for; may be called from any thread."""
        waits = [(member.label, member.pulse.waits_for) for member in self._crew]
        return [f"{label}: {reason}" for label, reason in waits if reason]

    def run(self) -> None:
        """Run the pool until it is closed or cannot continue; the body of its thread."""
        ended = self._work()
        in_flight = self._crew.entries()
        self._end(ended)
        if not isinstance(ended, StorageGoneError):  # each record would wait for storage again
            for entry in in_flight:  # the pool ended the attempt, so it must not count
                excuse_attempt(self._output, entry.work.unit, entry.attempts)

    def _work(self) -> PoolEndedError:
        """Process messages until the pool is closed or cannot continue; returns the reason."""
        try:
            while self._open or not self._draining:
                self._listen(self._dispatch())
        except PoolCancelledError as error:
            return error
        except PoolEndedError as error:
            logger.error("%s", error)
            return error
        except Exception as error:  # storage or Ray is gone; open futures must be resolved
            logger.exception("pool %s: cannot go on", self._name)
            kind = StorageGoneError if classify(error) is ErrorClass.STORAGE else PoolEndedError
            ended = kind(f"pool {self._name}: cannot go on: {describe(error)}")
            ended.__cause__ = error
            return ended
        return PoolEndedError(f"pool {self._name}: is closed")

    def _listen(self, ask_again_s: float) -> None:
        """Handle the next message, or expired deadlines if there is none."""
        self._crew.excuse(time.monotonic() - self._listened_at)
        timeout = min(self._crew.next_deadline() - time.monotonic(), ask_again_s, 3600.0)
        try:
            react = self._messages.get(timeout=max(timeout, 0.0))
        except Empty:
            react = self._expire
        self._listened_at = time.monotonic()
        react()

    def _drain_messages(self) -> None:
        while True:
            try:
                self._messages.get_nowait()()
            except Empty:
                return

    def _post_answer(self, member: Member, call: Call, answer: Future[Any]) -> None:
        self._messages.put(partial(self._answered, member, call, answer))

    def _accept(self, entry: Entry) -> None:
        if self._ended is not None:
            entry.refuse(self._ended)
            return
        self._open.add(entry)
        if entry.attempts >= self._config.max_attempts:
            message = f"was tried {entry.attempts} times by runs that never saw its end"
            problem = Problem(error_class=ErrorClass.WORKER_DIED, message=message)
            self._give_up(entry, problem, worker="")
        else:
            self._queue.push(entry)

    def _drain(self) -> None:
        self._draining = True

    def _cancel(self) -> None:
        if self._ended is None:
            raise PoolCancelledError(f"pool {self._name}: is closed")

    def _dispatch(self) -> float:
        """Assign waiting units to idle actors; returns the seconds until the next attempt."""
        self._drop_cancelled()
        waiting = self._queue.stages()
        admitted = [stage for stage in waiting if self._callbacks.admit(stage)]
        self._crew.fit(self._queue.count(admitted) + len(self._crew.entries()))
        for member in self._crew.idle():
            entry = self._queue.take(admitted, self._fits(member))
            if entry is not None:
                self._crew.hand(member, entry)
        if self._make_room():
            return 0.0
        return math.inf if admitted == waiting else ASK_AGAIN_S

    def _fits(self, member: Member) -> Callable[[Entry], bool]:
        """Return a predicate: may the actor take this unit now?"""
        placed = self._crew.placed()
        suspected = any(map(self._is_suspect, self._crew.entries()))

        def fits(entry: Entry) -> bool:
            return suits(entry, member, placed) and not (suspected and self._is_suspect(entry))

        return fits

    def _is_suspect(self, entry: Entry) -> bool:
        """True if earlier runs ended while the unit ran, and one more such end would be its last.

        One of several such units may have ended the runs: they go one at a time, so that the others
        do not fail with it.
        """
        return entry.work.attempts > 0 and entry.attempts + 1 >= self._config.max_attempts

    def _drop_cancelled(self) -> None:
        if self._crew.idle() or self._draining:
            self._open.difference_update(self._queue.remove_cancelled())

    def _make_room(self) -> bool:
        """Remove an idle actor if a unit has failed on all of them: a new one takes its place."""
        names = {member.name for member in self._crew.placed()}
        idle = self._crew.idle()
        stuck = bool(idle) and any(names <= entry.failed_on for entry in self._queue.failed())
        if stuck:
            self._crew.remove(idle[0])
        return stuck

    def _answered(self, member: Member, call: Call, answer: Future[Any]) -> None:
        if member not in self._crew:
            return  # it was killed meanwhile; if it finished its unit, there is a commit record
        if has_died(answer):
            member.alive = False
        result = outcome(answer, member.node)
        match call:
            case Call.PLACE:
                self._placed(member, result)
            case Call.LOAD:
                self._loaded(member, result)
            case Call.BEAT:
                self._beaten(member, result)
            case Call.RUN:
                self._ran(member, result)

    def _placed(self, member: Member, result: str | Problem) -> None:
        if isinstance(result, str):
            self._crew.settle(member, result)
        else:
            self._not_loaded(member, result)

    def _loaded(self, member: Member, result: Loaded | Problem) -> None:
        if isinstance(result, Problem):
            self._not_loaded(member, result)
        elif (refusal := self._callbacks.joined(result.environment)) is not None:
            problem = Problem(error_class=ErrorClass.MODEL_LOAD, message=refusal)
            self._not_loaded(member, problem)
        else:
            self._crew.welcome(member, result.label)

    def _not_loaded(self, member: Member, problem: Problem) -> None:
        logger.warning("%s: cannot load its stages: %s", member.label, problem.message)
        if problem.error_class is ErrorClass.NODE_LOST:
            self._crew.remove(member)
            return
        self._crew.reject(member)
        if self._crew.load_failures >= MAX_LOAD_FAILURES and not self._has_hope():
            raise PoolEndedError(
                f"pool {self._name}: {self._crew.load_failures} actors in a row could not load"
                f" their stages, and no other has: {problem.message}"
            )

    def _has_hope(self) -> bool:
        """True if an actor has loaded its stages, or one that is starting still may.

        Those count for as long as one may load: with them, new ones could follow for ever.
        """
        in_time = time.monotonic() < self._crew.failing_since + self._config.load_timeout_s
        return any(member.loaded or in_time for member in self._crew)

    def _beaten(self, member: Member, result: Pulse | Problem) -> None:
        if isinstance(result, Pulse):
            self._crew.follow(member, result)
        elif member.entry is None:  # otherwise the answer of the unit's own call reports the death
            logger.warning("%s: died idle: %s", member.label, result.message)
            self._crew.remove(member)

    def _ran(self, member: Member, result: Commit[Any] | Problem) -> None:
        if isinstance(result, Commit):
            self._done(member, result)
        else:
            self._failed(member, result)
        if not member.alive and member in self._crew:
            self._crew.remove(member)

    def _done(self, member: Member, made: Commit[Any]) -> None:
        entry = self._crew.take(member)
        for node in entry.failed_nodes - {member.node}:
            self._crew.nodes.strike(node, str(entry.work.unit))
        self._callbacks.measured(entry.work.unit.stage, made.seconds)
        self._resolve(entry, made)

    def _failed(self, member: Member, problem: Problem) -> None:
        entry = self._crew.take(member)
        if problem.error_class is ErrorClass.STORAGE:
            raise StorageGoneError(f"pool {self._name}: cannot go on: {problem.message}")
        if problem.error_class in UNUSABLE or not member.alive:
            self._crew.remove(member)
        if entry.spared < MAX_SPARED and self._is_innocent(entry, problem):
            entry.spared += 1
            logger.info("%s: lost with %s: %s", entry.work.unit, member.label, problem.message)
            self._queue.push(entry)
            return
        entry.attempts += 1
        self._blame(member, entry, problem)
        if entry.is_hopeless_after(problem) or entry.attempts >= self._config.max_attempts:
            self._give_up(entry, problem, worker=member.label)
        else:
            unit, attempts = entry.work.unit, entry.attempts
            logger.info("%s: attempt %d failed: %s", unit, attempts, problem.message)
            entry.smaller |= problem.error_class is ErrorClass.OUT_OF_MEMORY
            self._queue.push(entry)

    def _is_innocent(self, entry: Entry, problem: Problem) -> bool:
        """True if the unit is not to blame: its node was lost, or it had not been started."""
        if problem.error_class is ErrorClass.NODE_LOST:
            return True
        lost = problem.error_class in {ErrorClass.WORKER_DIED, ErrorClass.TIMEOUT}
        return lost and self._recorded_attempts(entry) <= entry.attempts

    def _recorded_attempts(self, entry: Entry) -> int:
        unit = entry.work.unit
        return read_attempts(self._output, unit, last_attempt(self._output, unit))

    def _blame(self, member: Member, entry: Entry, problem: Problem) -> None:
        entry.failed(problem, worker=member.name, node=member.node)
        if problem.error_class is not ErrorClass.BAD_INPUT:
            member.failed_units.add(str(entry.work.unit))
        if len(member.failed_units) >= MAX_FAILED_UNITS and member in self._crew:
            self._crew.remove(member)

    def _give_up(self, entry: Entry, problem: Problem, *, worker: str) -> None:
        work = entry.work
        failure = Failure(
            story_id=work.unit.story_id,
            stage=work.unit.stage,
            unit_id=work.unit.name,
            error_class=problem.error_class.value,
            message=problem.message,
            attempts=entry.attempts,
            worker=worker,
            source_file=work.source_file,
            source_row=work.source_row,
        )
        commit_failure(self._output, work.unit, failure)
        logger.warning("%s: given up: %s", work.unit, problem.message)
        self._num_failed += 1
        self._resolve(entry, failure)
        self._check_failed_share(failure)

    def _check_failed_share(self, last: Failure) -> None:
        limit = self._config.max_failed_share
        if self._num_failed > limit * max(self._num_over, MIN_UNITS):
            raise PoolEndedError(
                f"pool {self._name}: {self._num_failed} of {self._num_over} units failed, more"
                f" than the allowed {limit:.0%}; the last, {last.unit_id}: {last.message}"
            )

    def _resolve(self, entry: Entry, result: Commit[Any] | Failure) -> None:
        self._num_over += 1
        self._open.remove(entry)
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_result(result)

    def _expire(self) -> None:
        now = time.monotonic()
        if now >= self._crew.stranded_by:
            raise PoolEndedError(
                f"pool {self._name}: no actor found a place in"
                f" {self._config.placement_timeout_s:g} s: {self._crew.nodes.explain()}"
            )
        for member in self._crew:
            if now >= member.deadline:
                self._hangs(member, is_silent=now >= member.heard_by)

    def _hangs(self, member: Member, *, is_silent: bool) -> None:
        if not member.loaded:
            limit = f"not loaded after {self._config.load_timeout_s:g} s"
            self._not_loaded(member, Problem(error_class=ErrorClass.MODEL_LOAD, message=limit))
        elif member.entry is None:
            logger.warning("%s: hangs idle", member.label)
            self._crew.remove(member)
        else:
            step, end = self._config.step_timeout_s, self._config.unit_timeout_s
            limit = f"no step for {step:g} s" if is_silent else f"no end after {end:g} s"
            self._failed(member, Problem(error_class=ErrorClass.TIMEOUT, message=limit))

    def _end(self, ended: Exception) -> None:
        self._crew.disband()
        for entry in self._open:
            entry.refuse(ended)
        self._ended = ended
        self._drain_messages()
