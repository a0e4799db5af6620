"""Lays the accepted stories of an input out in shards: the `stories` manifests of a job.

The input is read twice: once to count and hash it, before anything is written, and once to copy it
into the job, so that later runs do not need it.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from storyreel.flows.job.config import RenderConfig, digest
from storyreel.stages.errors import InputError
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.input.references import References
from storyreel.stages.input.refusals import Refusals
from storyreel.stages.input.stories import input_version, read_stories
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, write_manifest
from storyreel.stages.output.records import Failure, Story
from storyreel.stages.output.serialization import to_row
from storyreel.stages.output.storage import Output
from storyreel.stages.output.urls import without_credentials

REJECTED = "manifests/failures/input.parquet"
"""Manifest of the input rows that are not valid stories."""


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """The division of a job's stories into shards.

    Attributes:
        num_stories: stories of the job.
        shard_size: stories of a shard; the last one may have fewer.
        sample_size: stories of shard 0, spread evenly over the input, which are rendered first so
            that a person can judge them; 0 if the job has no sample.
        additions: the numbers of stories that each later edit of the input added; they are in
            shards of their own, so that the names and stories of the others stay.
        removed: stories that were removed since, by the names of the shards.
    """

    num_stories: int
    shard_size: int
    sample_size: int
    additions: tuple[int, ...] = ()
    removed: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self.sizes)

    @property
    def first_shards(self) -> list[Shard]:
        """The first generation of the shards, in the order of the input."""
        return list(self.sizes)

    @cached_property
    def sizes(self) -> Mapping[Shard, int]:
        """The number of stories of each shard when it was laid out.

        The number of shards in a shard's name is that of the job when the shard was laid out.
        """
        first = self.num_stories + sum(self.removed.values()) - sum(self.additions)
        sample = [self.sample_size] if self.sample_size else []
        sizes: dict[Shard, int] = {}
        for of_batch in (
            sample + self._full(first - self.sample_size),
            *map(self._full, self.additions),
        ):
            start, count = len(sizes), len(sizes) + len(of_batch)
            for index, size in enumerate(of_batch, start):
                sizes[Shard(index=index, count=count)] = size
        return sizes

    def _full(self, num_stories: int) -> list[int]:
        """The sizes of the shards of so many stories: as few as possible, the last one smaller."""
        starts = range(0, num_stories, self.shard_size)
        return [min(self.shard_size, num_stories - start) for start in starts]

    def size_of(self, shard: Shard) -> int:
        """Number of stories of a shard."""
        laid_out = self.sizes[Shard(index=shard.index, count=shard.count)]
        return laid_out - self.removed.get(str(shard), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Number of accepted and of rejected rows of an input, a hash of both, and why some are."""

    num_stories: int
    num_rejected: int
    sha256: str
    refusals: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        counts = f"{self.num_stories} stories and {self.num_rejected} rejected rows"
        return f"{counts} (sha256 {self.sha256[:8]})"

    def check_accepted(self, input_url: str) -> None:
        """Check that there is a story, so that a job without one claims no output.

        Raises:
            InputError: says why the rows were refused, each reason once.
        """
        if not self.num_stories:
            place = f"input {without_credentials(input_url)}"
            raise InputError("\n  ".join([f"{place}: contains no valid story", *self.refusals]))


def read_rows(
    input_url: str,
    limit: int | None,
    config: RenderConfig,
    keep: Callable[[str, bytes], Any],
) -> Iterator[Story | Rejection]:
    """Read the input; pictures that a story names are given to `keep` with their new path."""
    rows = islice(read_stories(input_url, config.input), limit)
    references = References(input_url, config.references, keep)
    return (_with_pictures(row, references, config.keyframes) for row in rows)


def reading_version(input_url: str, limit: int | None, config: RenderConfig) -> str:
    """Return a hash that is the same as long as `read_rows` gives the same rows; "" if unknown.

    The pictures that stories name do not count: a job has copies of them.
    """
    version = input_version(input_url, config.input)
    rules = [config.input.model_dump(mode="json"), config.references.model_dump(mode="json")]
    return digest([version, limit, *rules]) if version else ""


def _with_pictures(
    row: Story | Rejection, references: References, config: KeyframesConfig
) -> Story | Rejection:
    if isinstance(row, Rejection):
        return row
    try:
        check_panels(row, config)
        return references.adopt(row)
    except ValueError as error:
        return Rejection(
            source_file=row.source_file,
            source_row=row.source_row,
            story_id=row.story_id,
            message=str(error),
        )


def check_panels(story: Story, config: KeyframesConfig) -> None:
    """Refuse what the configuration would ignore.

    Raises:
        InputError: a panel has a control image and there is no ControlNet, or a layout or a place
            and panels read each other whole; names the panel.
    """
    for index, panel in enumerate(story.panels):
        if panel.control_image is not None and config.controlnet is None:
            raise InputError(
                f"panels[{index}]: control_image {panel.control_image[:200]!r}: must be left out,"
                " the configuration has no keyframes.controlnet"
            )
        for key, value in (("layout", panel.layout), ("place", panel.place)):
            if value and not config.consistency.subject:
                raise InputError(
                    f"panels[{index}]: {key}: must be left out, the configuration has"
                    " keyframes.consistency.subject = false"
                )


def discard_picture(path: str, content: bytes) -> None:
    """Do not copy a picture: what `read_rows` calls while the input is only counted."""


class Counter:
    """Counts and hashes rows; the hash does not depend on where the input lies."""

    def __init__(self) -> None:
        self._counts = {Story: 0, Rejection: 0}
        self._refusals = Refusals()
        self._content = hashlib.sha256()

    def add(self, row: Story | Rejection) -> None:
        self._counts[type(row)] += 1
        if isinstance(row, Rejection):
            self._refusals.add(row)
        # The message of a rejection may contain the input's path too.
        content = {**to_row(row), "source_file": "", "message": ""}
        if content.get("language", "") is None:
            del content["language"]  # jobs of version 0.1 have none
        for panel in content.get("panels", ()):
            del panel["markup"]  # follows from the text; jobs of version 0.1 have none
            for name in ("motion", "motion_guidance", "layout", "place"):
                if panel[name] in (None, [], ()):  # jobs of earlier versions have none of them
                    del panel[name]
        self._content.update(digest(content).encode())

    def census(self) -> Census:
        return Census(
            num_stories=self._counts[Story],
            num_rejected=self._counts[Rejection],
            sha256=self._content.hexdigest(),
            refusals=tuple(self._refusals.lines()),
        )


def take_census(rows: Iterator[Story | Rejection]) -> Census:
    """Count and hash all rows."""
    counter = Counter()
    for row in rows:
        counter.add(row)
    return counter.census()


def checked_rows(
    rows: Iterator[Story | Rejection], census: Census, input_url: str
) -> Iterator[Story | Rejection]:
    """Yield the rows, and raise ValueError after the last one if they differ from the census."""
    counter = Counter()
    for row in rows:
        counter.add(row)
        yield row
    if (found := counter.census()) != census:
        raise InputError(
            f"input {without_credentials(input_url)}: changed while it was read: {census} at first,"
            f" then {found}; run the command again when nothing writes to the input"
        )


def is_laid_out(output: Output, shards: Iterable[Shard], num_rejected: int) -> bool:
    """True if the stories of the shards and the rejected rows are there."""
    there = set(output.names(f"manifests/{STORIES}"))
    wanted = (PurePosixPath(manifest_path(STORIES, shard)).name for shard in shards)
    return there.issuperset(wanted) and (not num_rejected or output.exists(REJECTED))


def write_stories(
    output: Output, sharding: Sharding, fingerprint: str, rows: Iterator[Story | Rejection]
) -> None:
    """Copy the accepted stories into manifests, holding one or two shards in memory.

    The first shard is written last: it is there only if all rows were read without an error.
    """
    write = partial(write_manifest, output, fingerprint=fingerprint)
    rejected: list[Failure] = []
    sample: list[Story] = []
    others = _without_sample(sharding, _accepted(rows, rejected), sample)
    first = sample if sharding.sample_size else list(islice(others, sharding.shard_size))
    for shard in sharding.first_shards[1:]:
        of_shard = list(islice(others, sharding.shard_size))
        write(manifest_path(STORIES, shard), Story, of_shard)
    deque(others, maxlen=0)  # the last of the sample may come after the last full shard
    if rejected:
        write(REJECTED, Failure, rejected)
    if first:
        write(manifest_path(STORIES, sharding.first_shards[0]), Story, first)


def _without_sample(
    sharding: Sharding, stories: Iterator[Story], sample: list[Story]
) -> Iterator[Story]:
    """Yield the stories that are not in the sample; append the others, evenly spread, to it."""
    odd = range(1, 2 * sharding.sample_size, 2)
    chosen = {i * sharding.num_stories // (2 * sharding.sample_size) for i in odd}
    for position, story in enumerate(stories):
        if position in chosen:
            sample.append(story)
        else:
            yield story


def _accepted(rows: Iterator[Story | Rejection], rejected: list[Failure]) -> Iterator[Story]:
    for row in rows:
        if isinstance(row, Story):
            yield row
        else:
            rejected.append(failure_of(row))


def failure_of(row: Rejection) -> Failure:
    """The failure of a row that is not a valid story."""
    return Failure(
        story_id=row.story_id,
        stage="input",
        unit_id="",
        error_class="bad_input",
        message=row.message,
        attempts=0,
        worker="",
        source_file=row.source_file,
        source_row=row.source_row,
    )
