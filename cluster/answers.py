"""The outcome of a call to an actor, or of its death."""

from concurrent.futures import Future
from typing import Any

from ray.exceptions import ActorUnavailableError, RayActorError

from storyreel.cluster.errors import ErrorClass, describe
from storyreel.cluster.nodes import is_alive
from storyreel.cluster.work import Problem

OUT_OF_MEMORY_SIGN = "running low on memory"
"""Part of Ray's message about an actor that it killed because its node ran out of memory."""


def has_died(answer: Future[Any]) -> bool:
    """True if there is no answer because the actor died or cannot be reached."""
    return isinstance(answer.exception(), RayActorError)


def outcome(answer: Future[Any], node: str) -> Any:
    """The result of a call to an actor on `node`, or a `Problem` if the actor is lost."""
    error = answer.exception()
    if error is None:
        return answer.result()
    return Problem(error_class=_class_of(error, node), message=describe(error))


def _class_of(error: BaseException, node: str) -> ErrorClass:
    if not isinstance(error, RayActorError):
        return ErrorClass.EXCEPTION
    if OUT_OF_MEMORY_SIGN in str(error):
        return ErrorClass.OUT_OF_MEMORY
    # Whatever still lives reports its workers' deaths; one that is only out of reach has no report.
    if isinstance(error, ActorUnavailableError) or (node and not is_alive(node)):
        return ErrorClass.NODE_LOST
    return ErrorClass.WORKER_DIED
