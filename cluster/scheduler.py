"""The rules of a pool: which unit goes to which actor, and what follows from a failure."""

import logging
import time
from bisect import insort
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ray.exceptions import RayActorError

from cluster.config import PoolConfig
from cluster.crew import Contents, Crew, Entry, Member
from cluster.errors import ErrorClass, PoolEndedError, describe
from cluster.work import Done, Problem
from stages.commits import commit_failure, record_attempt
from stages.records import Failure
from stages.storage import Output

MAX_LOAD_FAILURES = 3
"""Failures to load in a row, while no actor is alive, after which a pool gives up."""

MAX_FAILED_UNITS = 3
"""Different units that an actor may fail before it is replaced."""

MIN_UNITS = 20
"""Units that a pool counts with at least before the share of failed ones says anything."""

UNUSABLE = frozenset({ErrorClass.WORKER_DIED, ErrorClass.TIMEOUT, ErrorClass.CUDA_STICKY})
"""Failures after which the actor is replaced at once."""

logger = logging.getLogger(__name__)


class Scheduler:
    """Runs a pool in one thread, which alone touches its state.

    Other threads leave messages: calls that the pool's thread makes, one after the other.
    """

    def __init__(self, contents: Contents, config: PoolConfig) -> None:
        self._name = contents.name
        self._config = config
        self._output = Output(contents.output_url)
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._crew = Crew(contents, config, self._post_answer)
        self._pending: list[Entry] = []
        self._open: set[Entry] = set()
        self._num_over = 0
        self._num_failed = 0
        self._draining = False
        self._ended: Exception | None = None

    def post(self, entry: Entry) -> None:
        """Leave a unit with the pool; may be called from any thread."""
        self._messages.put(partial(self._accept, entry))
        if self._ended is not None:  # set before the thread's last look at its messages
            self._drain_messages()

    def post_close(self, *, cancel: bool) -> None:
        """Ask the pool to end: now if `cancel`, else when no unit is open."""
        self._messages.put(self._cancel if cancel else self._drain)

    def run(self) -> None:
        """Work until the pool is closed or cannot go on; the body of the pool's thread."""
        try:
            while self._open or not self._draining:
                self._crew.fill(len(self._open))
                self._dispatch()
                self._next_message()
                self._expire()
            self._end(PoolEndedError(f"pool {self._name}: is closed"))
        except _CancelledError as error:
            self._end(error)
        except PoolEndedError as error:
            logger.error("%s", error)
            self._end(error)
        except Exception as error:  # storage or Ray is gone: whoever waits for a unit is told
            logger.exception("pool %s: cannot go on", self._name)
            ended = PoolEndedError(f"pool {self._name}: cannot go on: {describe(error)}")
            ended.__cause__ = error
            self._end(ended)

    def _next_message(self) -> None:
        timeout = min(self._crew.next_deadline() - time.monotonic(), 3600.0)
        try:
            message = self._messages.get(timeout=max(timeout, 0.0))
        except Empty:
            return
        message()

    def _drain_messages(self) -> None:
        while True:
            try:
                self._messages.get_nowait()()
            except Empty:
                return

    def _post_answer(self, member: Member, answer: Future[Any]) -> None:
        self._messages.put(partial(self._answered, member, answer))

    def _accept(self, entry: Entry) -> None:
        if self._ended is not None:
            _refuse(entry, self._ended)
            return
        self._open.add(entry)
        if entry.attempts >= self._config.max_attempts:
            message = f"was tried {entry.attempts} times by runs that never saw its end"
            problem = Problem(error_class=ErrorClass.WORKER_DIED, message=message)
            self._give_up(entry, problem, worker="")
        else:
            self._enqueue(entry)

    def _enqueue(self, entry: Entry) -> None:
        insort(self._pending, entry, key=lambda e: e.key)

    def _drain(self) -> None:
        self._draining = True

    def _cancel(self) -> None:
        if self._ended is None:
            raise _CancelledError(f"pool {self._name}: is closed")

    def _dispatch(self) -> None:
        for given_up in [entry for entry in self._pending if entry.future.cancelled()]:
            self._pending.remove(given_up)
            self._open.remove(given_up)
        for member in self._crew.idle():
            fit = (e for e in self._pending if member.name not in e.failed_on)
            if (entry := next(fit, None)) is not None:
                self._try(entry, member)
        self._make_room()

    def _try(self, entry: Entry, member: Member) -> None:
        entry.attempts += 1
        record_attempt(self._output, entry.work.unit, entry.attempts)
        self._crew.hand(member, entry)
        self._pending.remove(entry)

    def _make_room(self) -> None:
        """Replace an idle actor where a unit has failed on all there are."""
        names = {member.name for member in self._crew}
        idle = self._crew.idle()
        if idle and any(names <= entry.failed_on for entry in self._pending):
            self._crew.remove(idle[0])
            self._crew.fill(len(self._open))

    def _answered(self, member: Member, answer: Future[Any]) -> None:
        if member not in self._crew:
            return  # it was killed meanwhile; if it did its unit, the commit says the same
        outcome = _outcome(answer)
        if not member.loaded:
            self._loaded(member, outcome)
        elif isinstance(outcome, Done):
            self._resolve(self._crew.take(member), outcome.records)
        else:
            self._failed(member, outcome)

    def _loaded(self, member: Member, outcome: str | Problem) -> None:
        if isinstance(outcome, str):
            self._crew.welcome(member, outcome)
            return
        self._crew.reject(member)
        logger.warning("%s: cannot load its stages: %s", member.label, outcome.message)
        alive = any(other.loaded for other in self._crew)
        if self._crew.load_failures >= MAX_LOAD_FAILURES and not alive:
            raise PoolEndedError(
                f"pool {self._name}: {self._crew.load_failures} actors in a row could not load"
                f" their stages, and none is left: {outcome.message}"
            )

    def _failed(self, member: Member, problem: Problem) -> None:
        entry = self._crew.take(member)
        unit = entry.work.unit
        entry.failed_on.add(member.name)
        bad_input = problem.error_class is ErrorClass.BAD_INPUT
        if not bad_input:
            member.failed_units.add(str(unit))
        if problem.error_class in UNUSABLE or len(member.failed_units) >= MAX_FAILED_UNITS:
            self._crew.remove(member)
        if bad_input or entry.attempts >= self._config.max_attempts:
            self._give_up(entry, problem, worker=member.label)
        else:
            logger.info("%s: attempt %d failed: %s", unit, entry.attempts, problem.message)
            self._enqueue(entry)

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

    def _resolve(self, entry: Entry, result: tuple[Any, ...] | Failure) -> None:
        self._num_over += 1
        self._open.remove(entry)
        if entry.future.set_running_or_notify_cancel():
            entry.future.set_result(result)

    def _expire(self) -> None:
        now = time.monotonic()
        for member in self._crew:
            if now < member.deadline:
                continue
            if member.loaded:
                limit = f"no end after {self._config.unit_timeout_s:g} s"
                self._failed(member, Problem(error_class=ErrorClass.TIMEOUT, message=limit))
            else:
                limit = f"not placed and loaded after {self._config.load_timeout_s:g} s"
                self._loaded(member, Problem(error_class=ErrorClass.MODEL_LOAD, message=limit))

    def _end(self, ended: Exception) -> None:
        in_flight = self._crew.entries()
        for member in self._crew:
            self._crew.remove(member)
        for entry in self._open:
            _refuse(entry, ended)
        self._ended = ended
        self._drain_messages()
        for entry in in_flight:  # it was we who ended the attempt
            record_attempt(self._output, entry.work.unit, entry.attempts - 1)


class _CancelledError(PoolEndedError):
    """The pool was closed while units were open."""


def _refuse(entry: Entry, ended: Exception) -> None:
    if isinstance(ended, _CancelledError):
        entry.future.cancel()
    elif entry.future.set_running_or_notify_cancel():
        entry.future.set_exception(ended)


def _outcome(answer: Future[Any]) -> Any:
    """What an actor answered; a Problem if the answer is that there is none."""
    error = answer.exception()
    if error is None:
        return answer.result()
    died = isinstance(error, RayActorError)
    error_class = ErrorClass.WORKER_DIED if died else ErrorClass.EXCEPTION
    return Problem(error_class=error_class, message=describe(error))
