"""Shows in the log of a flow run, and so in the Prefect UI, what a night's render waits for."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

SHOWN = ("storyreel.stages.output.patience", "storyreel.cluster.crew")
"""Loggers whose warnings are shown: storage that is waited for, actors that wait or are lost."""

RunLogger: TypeAlias = "logging.Logger | logging.LoggerAdapter[Any]"


class _ToRunLog(logging.Handler):
    """Repeats records in the log of a flow run; threads without its context have no other way."""

    def __init__(self, run_logger: RunLogger) -> None:
        super().__init__(logging.WARNING)
        self._run_logger = run_logger

    def emit(self, record: logging.LogRecord) -> None:
        self._run_logger.log(record.levelno, "%s", record.getMessage())


@contextmanager
def warnings_in(run_logger: RunLogger) -> Iterator[None]:
    """Repeat the warnings of `SHOWN` in `run_logger` (that of `prefect.get_run_logger`)."""
    handler = _ToRunLog(run_logger)
    loggers = [logging.getLogger(name) for name in SHOWN]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
