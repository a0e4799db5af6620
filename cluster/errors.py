"""Why a unit failed, in the few classes that decide what happens next."""

from enum import StrEnum

from storyreel.stages.errors import LockedError, StorageError, StoryreelError

MAX_MESSAGE = 1000
"""Characters of an error's message that are kept."""

STICKY_CUDA = (
    "device-side assert",
    "illegal memory access",
    "an illegal instruction",
    "misaligned address",
    "unspecified launch failure",
    "uncorrectable ecc",
    "cublas_status_execution_failed",
    "cudnn_status_execution_failed",
)
"""After one of these, in lower case, every later CUDA call of the process fails as well."""


class ErrorClass(StrEnum):
    """The classes of failed attempts; each has its own consequence."""

    BAD_INPUT = "bad_input"
    OUT_OF_MEMORY = "out_of_memory"
    CUDA_STICKY = "cuda_sticky"
    EXCEPTION = "exception"
    WORKER_DIED = "worker_died"
    TIMEOUT = "timeout"
    MODEL_LOAD = "model_load"
    NODE_LOST = "node_lost"
    """The worker went with its whole machine; no unit is blamed for that."""
    STORAGE = "storage"
    """Storage has failed for too long, or another run holds the output; no unit is blamed."""


class PoolEndedError(StoryreelError, RuntimeError):
    """The pool was closed or cannot continue; the message says why."""


class PoolCancelledError(PoolEndedError):
    """The pool was closed while units were open."""


class StorageGoneError(PoolEndedError):
    """The output cannot be written: storage has failed for too long, or another run holds it."""


def classify(error: Exception) -> ErrorClass:
    """The class of an exception that a stage raised.

    torch is not imported for this: its out-of-memory error is known by its name, the CUDA errors
    that leave a process unusable by their message.
    """
    text = str(error).lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return ErrorClass.OUT_OF_MEMORY
    if isinstance(error, StorageError | LockedError):
        return ErrorClass.STORAGE
    if isinstance(error, RuntimeError):
        if "out of memory" in text or "can't allocate memory" in text:
            return ErrorClass.OUT_OF_MEMORY
        if any(sign in text for sign in STICKY_CUDA):
            return ErrorClass.CUDA_STICKY
    return ErrorClass.BAD_INPUT if isinstance(error, ValueError) else ErrorClass.EXCEPTION


def describe(error: BaseException) -> str:
    """Type and message of an error on one line, cut to `MAX_MESSAGE` characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."
