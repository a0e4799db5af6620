"""The summary of a job, read from its manifests."""

from collections import deque
from collections.abc import Iterator
from typing import TypeVar

from storyreel.flows.job.job import Job
from storyreel.stages.output.manifests import newest_manifests, read_each
from storyreel.stages.output.records import Failure, Film
from storyreel.stages.output.storage import Output

R = TypeVar("R")


FILMS_KEPT = 100
FAILURES_KEPT = 1000


class Summary:
    """The results of a job; its size does not depend on the job's.

    All films and failures are counted; of the films the newest are kept, of the failures the
    first. Together the counts are every row of the job's input, once it is finished.
    """

    def __init__(self, output: Output) -> None:
        """Know nothing of the job at `output` yet."""
        self.num_films = 0
        self.num_failures = 0
        self.duration_s = 0.0
        self.newest_films: deque[Film] = deque(maxlen=FILMS_KEPT)
        self.first_failures: list[Failure] = []
        self._output = output
        self._read: set[str] = set()

    def read_on(self) -> None:
        """Read the manifests of the shards that were finished since the last call."""
        for film in self._read_new("films", Film):
            self.num_films += 1
            self.duration_s += film.duration_s
            self.newest_films.append(film)
        for failure in self._read_new("failures", Failure):
            self.num_failures += 1
            if len(self.first_failures) < FAILURES_KEPT:
                self.first_failures.append(failure)

    def _read_new(self, table: str, record: type[R]) -> Iterator[R]:
        new = [path for path in newest_manifests(self._output, table) if path not in self._read]
        for path, records in read_each(self._output, new, record):
            yield from records
            self._read.add(path)

    def __str__(self) -> str:
        hours = self.duration_s / 3600
        return f"{self.num_films} films ({hours:.2f} h), {self.num_failures} failures"


def summarize(job: Job) -> Summary:
    """Read the films and the failures of the shards that are finished."""
    summary = Summary(job.output)
    summary.read_on()
    return summary
