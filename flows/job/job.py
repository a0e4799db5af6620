"""A job: a dataset of stories, one configuration, one output folder.

What shapes the pixels is fingerprinted in `job.json` at the output; the accepted stories are copied
into the `stories` manifests, shard by shard, so that the input is not needed again.
"""

import dataclasses
import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from storyreel.flows.job.config import OPERATION, RenderConfig, digest, make_config
from storyreel.flows.job.generations import GENERATIONS, read_generations
from storyreel.flows.job.lock import held
from storyreel.stages.input.references import References
from storyreel.stages.input.stories import Rejection, read_stories
from storyreel.stages.keyframes.config import KeyframesConfig
from storyreel.stages.models.config import model_revisions
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, write_manifest
from storyreel.stages.output.records import Failure, Story, to_row
from storyreel.stages.output.storage import Output
from storyreel.stages.output.urls import without_credentials

RENDERING_VERSION = 2
"""Raised whenever the same job would give other pixels, or other records, than before."""

JOB = "job.json"
REJECTED = "manifests/failures/input.parquet"

MAX_SHARDS = 1_000_000

FOLDERS = ("manifests", "units", "keyframes", "clips", "films", "references", "removed", "control")
FILES = (GENERATIONS, "rates.json", "plan.json", "status.json", "index.html")
PAGE = re.compile(r"page-[0-9]{4,}\.html")
"""What belongs to a job at its output, beside its `job.json`; the claims on the output do not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job that is laid out at its output."""

    output: Output
    fingerprint: str
    num_stories: int
    num_rejected: int
    shard_size: int
    sample_size: int
    """Stories that are rendered first, so that a person can judge them; they fill shard 0."""
    generations: Mapping[str, int] = field(default_factory=dict)
    """By the shards' names, how often they were opened again for stories that are tried again."""

    @property
    def name(self) -> str:
        """What people call the job: its output's last part and the start of its fingerprint."""
        return f"{self.output.url.rstrip('/').rsplit('/', 1)[-1]} {self.fingerprint[:8]}"

    @property
    def num_shards(self) -> int:
        """How many shards the stories fill; the last one may be smaller."""
        return bool(self.sample_size) - (self.sample_size - self.num_stories) // self.shard_size

    @property
    def shards(self) -> list[Shard]:
        """The shards in the order of the input, after the sample if there is one."""
        shards = (Shard(index=i, count=self.num_shards) for i in range(self.num_shards))
        return [dataclasses.replace(s, generation=self.generations.get(str(s), 0)) for s in shards]

    def size_of(self, shard: Shard) -> int:
        """How many stories a shard has."""
        if self.sample_size and not shard.index:
            return self.sample_size
        before = (shard.index - bool(self.sample_size)) * self.shard_size
        return min(self.shard_size, self.num_stories - self.sample_size - before)

    def unfinished(self) -> list[Shard]:
        """The shards whose last manifest is not there yet."""
        names = self.output.names("manifests/failures")
        finished = {Shard.of_manifest(name) for name in names}
        return [shard for shard in self.shards if shard not in finished]


def open_job(
    output: Output,
    input_url: str,
    config: RenderConfig,
    *,
    limit: int | None = None,
    sample_size: int = 0,
    replace: bool = False,
) -> Job:
    """Lay a job out at `output`, or go on with the one that is there if it is the same.

    Args:
        limit: take only that many input rows.
        sample_size: let that many stories, spread over the input, be the first shard.
        replace: delete another job that the output holds.

    Raises:
        ValueError: the input cannot be read, holds no story, or changes while it is read; the
            output cannot be written, or it holds another job.
    """
    output.check_writable()
    rows = partial(_rows, input_url, limit, config)
    census = _take_census(rows(_not_kept))
    if not census.num_stories and not census.num_rejected:
        raise ValueError(f"input {input_url}: holds no story")
    description = _describe(config, census)
    description["sample_size"] = min(sample_size, census.num_stories)
    if replace and _differences_from(output, description):
        with held(output, "a command that discards the job"):
            discard_job(output)
    _claim(output, description)
    job = read_job(output)
    if not _is_laid_out(job):
        try:
            _write_stories(job, _unchanged(rows(output.publish), census, input_url))
        except ValueError:
            output.remove_folder(f"manifests/{STORIES}")
            raise
    return job


def read_job(output: Output) -> Job:
    """The job that `open_job` laid out at `output`.

    Raises:
        ValueError: there is none, or what is there is not readable.
    """
    there = _read_description(output)
    return Job(
        output=output,
        fingerprint=there["fingerprint"],
        num_stories=there["num_stories"],
        num_rejected=there["num_rejected"],
        shard_size=there["shard_size"],
        sample_size=there["sample_size"],
        generations=read_generations(output),
    )


def read_config(output: Output, overrides: Sequence[str] = ()) -> RenderConfig:
    """The configuration that a job was laid out with, `key=value` overrides laid over it.

    Raises:
        ValueError: there is no job, its configuration is not readable, or an override is not
            allowed, as those are that shape pixels: one job never mixes two looks.
    """
    there = _read_description(output)
    place, settings = f"{JOB} in {output.url}", there["rendering"] | there["operation"]
    config = make_config(place, settings, overrides)
    if config.rendering() != make_config(place, settings).rendering():
        allowed = ", ".join(f"{section}.*" for section in sorted(OPERATION))
        raise ValueError(
            f"--set {' '.join(overrides)}: shapes pixels, which stay as the job was"
            f" laid out with; allowed are {allowed}"
        )
    return config


def discard_job(output: Output) -> None:
    """Remove everything that a job left at its output."""
    for folder in FOLDERS:
        output.remove_folder(folder)
    pages = filter(PAGE.fullmatch, output.names(""))
    for name in (*pages, *FILES, JOB):
        output.remove(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Census:
    num_stories: int
    num_rejected: int
    sha256: str

    def __str__(self) -> str:
        counts = f"{self.num_stories} stories and {self.num_rejected} refused rows"
        return f"{counts} (sha256 {self.sha256[:8]})"


def _rows(
    input_url: str,
    limit: int | None,
    config: RenderConfig,
    keep: Callable[[str, bytes], Any],
) -> Iterator[Story | Rejection]:
    """The input's rows, with the paths of their pictures below the output."""
    rows = islice(read_stories(input_url), limit)
    references = References(input_url, config.references, keep)
    return (_with_pictures(row, references, config.keyframes) for row in rows)


def _with_pictures(
    row: Story | Rejection, references: References, config: KeyframesConfig
) -> Story | Rejection:
    if isinstance(row, Rejection):
        return row
    try:
        check_control_images(row, config)
        return references.adopt(row)
    except ValueError as error:
        return Rejection(
            source_file=row.source_file,
            source_row=row.source_row,
            story_id=row.story_id,
            message=str(error),
        )


def check_control_images(story: Story, config: KeyframesConfig) -> None:
    """Refuse control images that the configuration would ignore.

    Raises:
        ValueError: a panel has a control image and there is no ControlNet; names the panel.
    """
    for index, panel in enumerate(story.panels):
        if panel.control_image is not None and config.controlnet is None:
            raise ValueError(
                f"panels[{index}]: control_image {panel.control_image[:200]!r}: nothing would"
                " follow it, the configuration has no keyframes.controlnet"
            )


def _not_kept(path: str, content: bytes) -> None:
    """An image that is only counted is not copied yet."""


class _Counter:
    """Counts and hashes rows; where they were read from does not matter."""

    def __init__(self) -> None:
        self._counts = {Story: 0, Rejection: 0}
        self._content = hashlib.sha256()

    def add(self, row: Story | Rejection) -> None:
        self._counts[type(row)] += 1
        # Why a row was refused may tell where it was read from too, and shapes no picture.
        placeless = {**to_row(row), "source_file": "", "message": ""}
        self._content.update(digest(placeless).encode())

    def census(self) -> _Census:
        return _Census(
            num_stories=self._counts[Story],
            num_rejected=self._counts[Rejection],
            sha256=self._content.hexdigest(),
        )


def _take_census(rows: Iterator[Story | Rejection]) -> _Census:
    counter = _Counter()
    for row in rows:
        counter.add(row)
    return counter.census()


def _unchanged(
    rows: Iterator[Story | Rejection], census: _Census, input_url: str
) -> Iterator[Story | Rejection]:
    """The rows; a ValueError after the last of them if they are not those of the census."""
    counter = _Counter()
    for row in rows:
        counter.add(row)
        yield row
    if (found := counter.census()) != census:
        raise ValueError(
            f"input {without_credentials(input_url)}: changed while it was read: {census} at first,"
            f" then {found}; start again once it stays as it is"
        )


def _describe(config: RenderConfig, census: _Census) -> dict[str, Any]:
    shaping = {
        "rendering_version": RENDERING_VERSION,
        "input_sha256": census.sha256,
        "models": model_revisions(config.prompts, config.keyframes, config.motion),
        "rendering": config.rendering(),
    }
    return {
        **shaping,
        "fingerprint": digest(shaping),
        "num_stories": census.num_stories,
        "num_rejected": census.num_rejected,
        "shard_size": config.execution.stories_per_shard(census.num_stories),
        "operation": config.operation(),
    }


def _claim(output: Output, description: dict[str, Any]) -> None:
    if differences := _differences_from(output, description):
        raise ValueError(
            f"output {output.url}: holds a different job ({'; '.join(differences)});"
            " choose another --output, or pass --discard-other-job to delete it"
        )
    if output.exists(JOB):
        return
    if not output.publish_new(JOB, json.dumps(description, indent=1, sort_keys=True).encode()):
        _claim(output, description)  # another command was faster: it must be the same job


def _differences_from(output: Output, description: dict[str, Any]) -> list[str]:
    """What tells the job that the output holds, if any, from the described one."""
    if output.exists(JOB):
        there = _read_description(output)
        same = there["fingerprint"] == description["fingerprint"]
        return [] if same else list(_differences(there, description))
    if output.exists("manifests") or output.exists("units"):
        return [f"files of a job without its {JOB}"]
    return []


def _differences(there: Any, wanted: Any, key: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in sorted(there.keys() | wanted.keys()):
            if name not in ("fingerprint", "operation"):
                inner = f"{key}.{name}" if key else name
                yield from _differences(there.get(name), wanted.get(name), inner)
    elif there != wanted:
        yield f"{key.removeprefix('rendering.')}: {there!r} there, {wanted!r} here"


def _read_description(output: Output) -> dict[str, Any]:
    """The content of `job.json`, as far as a job is read from it."""
    counts = ("num_stories", "num_rejected", "shard_size", "sample_size")
    kinds = dict.fromkeys(counts, int) | {"fingerprint": str, "rendering": dict, "operation": dict}

    def parse(content: Any) -> dict[str, Any]:
        wrong = [key for key, kind in kinds.items() if not isinstance(content[key], kind)]
        if wrong or not _are_sane(*(content[key] for key in counts)):
            raise ValueError(", ".join(wrong) or "its counts")
        return dict(content)

    try:
        return output.read_json(JOB, parse)
    except FileNotFoundError:
        raise ValueError(f"output {output.url}: holds no job") from None
    except ValueError as error:
        raise ValueError(f"output {output.url}: {error}") from error


def _are_sane(num_stories: int, num_rejected: int, shard_size: int, sample_size: int) -> bool:
    """Whether counts made by others are of a job, and do not keep us busy for ever."""
    return (
        0 <= sample_size <= num_stories
        and num_rejected >= 0
        and shard_size >= 1
        and num_stories <= MAX_SHARDS * shard_size
    )


def _is_laid_out(job: Job) -> bool:
    there = job.output.names(f"manifests/{STORIES}")
    return len(there) == job.num_shards and (not job.num_rejected or job.output.exists(REJECTED))


def _write_stories(job: Job, rows: Iterator[Story | Rejection]) -> None:
    """Copy the accepted stories to their manifests, a shard or two in memory at a time.

    The first shard comes last: without it the job is not laid out, and with it all rows were read.
    """
    rejected: list[Failure] = []
    sample: list[Story] = []
    others = _without_sample(job, _accepted(rows, rejected), sample)
    first = sample if job.sample_size else list(islice(others, job.shard_size))
    for shard in job.shards[1:]:
        of_shard = list(islice(others, job.shard_size))
        write_manifest(job.output, manifest_path(STORIES, shard), Story, of_shard)
    deque(others, maxlen=0)  # the last of the sample may come after the last full shard
    if rejected:
        write_manifest(job.output, REJECTED, Failure, rejected)
    if first:
        write_manifest(job.output, manifest_path(STORIES, job.shards[0]), Story, first)


def _without_sample(job: Job, stories: Iterator[Story], sample: list[Story]) -> Iterator[Story]:
    """The stories that are not in the job's sample; those that are go there, evenly spread."""
    odd = range(1, 2 * job.sample_size, 2)
    chosen = {i * job.num_stories // (2 * job.sample_size) for i in odd}
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
            rejected.append(_rejection(row))


def _rejection(row: Rejection) -> Failure:
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
