"""Problems that an audit finds, each with the units that must be rendered again to solve it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from storyreel.flows.job.generations import Ended
from storyreel.stages.output.manifests import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something at an output that differs from what the job's records say.

    Attributes:
        kind: "file", "record", "manifest", "seal", "accord", "story", "orphan" or "unfinished".
        place: a path below the output, or the id of a story or a shard.
        shard: the shard that has to be opened again to solve the problem; `None` if rendering
            again does not solve it.
        units: units of that shard whose records have to be forgotten, so that they are made again.
    """

    kind: str
    place: str
    message: str
    shard: Shard | None = None
    units: tuple[Ended, ...] = ()


@dataclass(slots=True, kw_only=True)
class Audit:
    """Counts and problems that an audit has found so far."""

    num_stories: int = 0
    num_films: int = 0
    num_failures: int = 0
    num_files: int = 0
    problems: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.num_stories} stories ({self.num_films} films, {self.num_failures} failures),"
            f" {self.num_files} files read, {len(self.problems)} problems"
        )

    def add(self, kind: str, place: str, message: str) -> None:
        """Add a problem that rendering again does not solve."""
        self.problems.append(Problem(kind=kind, place=place, message=message))

    def as_json(self) -> dict[str, Any]:
        """The counts, and kind, place and message of each problem, as plain values."""
        rows = [{"kind": p.kind, "place": p.place, "message": p.message} for p in self.problems]
        return asdict(self) | {"problems": rows}

    def repairable(self) -> Iterator[tuple[Problem, Shard]]:
        """Yield the problems that rendering again solves, with the shard to open again."""
        for problem in self.problems:
            if problem.shard is not None:
                yield problem, problem.shard
