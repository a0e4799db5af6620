"""A job: a dataset of stories, one configuration, one output folder."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from storyreel.flows.job.config import OPERATION, RenderConfig, make_config
from storyreel.flows.job.description import (
    JOB,
    JobRecord,
    census_of,
    check_no_other_job,
    claim,
    describe,
    differences_from,
    read_description,
)
from storyreel.flows.job.environments import ENVIRONMENTS
from storyreel.flows.job.generations import GENERATIONS, Generations, read_state
from storyreel.flows.job.layout import (
    Sharding,
    checked_rows,
    discard_picture,
    is_laid_out,
    read_rows,
    reading_version,
    take_census,
    write_stories,
)
from storyreel.flows.job.lock import held
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.errors import InputError
from storyreel.stages.input.parsing import Rejection
from storyreel.stages.output.manifests import STORIES, Shard
from storyreel.stages.output.records import Story
from storyreel.stages.output.storage import Output

FOLDERS = ("manifests", "units", "references", "removed", "control", "scoring", "revisions")
FILES = (GENERATIONS, ENVIRONMENTS, "rates.json", "plan.json", "status.json", "index.html")
PAGE = re.compile(r"page-[0-9]{4,}\.html")
"""What belongs to a job at its output, beside `job.json` and the folders of its stages.

The lock's files do not: whoever discards a job holds the lock meanwhile.
"""


@dataclass(frozen=True, kw_only=True)
class Job(Sharding):
    """A job that is laid out at its output.

    Attributes:
        fingerprint: hash of everything that shapes pixels.
        num_rejected: input rows that are not valid stories.
        revision: how often its stories or settings were edited.
        state: the generations of its shards.
        stages: the stages that its shards go through.
    """

    output: Output
    fingerprint: str
    num_rejected: int
    revision: int = 0
    state: Generations = field(default_factory=Generations)
    stages: StageTable = field(default=STAGES, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The last part of the output's URL and the start of the fingerprint."""
        return f"{self.output.url.rstrip('/').rsplit('/', 1)[-1]} {self.fingerprint[:8]}"

    @property
    def shards(self) -> list[Shard]:
        """The shards, each in its newest generation."""
        return [self.state.of(shard) for shard in self.first_shards]

    def unfinished(self) -> list[Shard]:
        """The shards whose last manifest is not written yet."""
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
    """Lay a job out at `output`, or continue the same job there.

    Args:
        limit: read only that many rows of the input.
        sample_size: number of stories, spread evenly over the input, that form the first shard.
        replace: delete another job that the output contains.

    Raises:
        InputError: the input cannot be read, contains no valid story, or changes while it is read;
            the output cannot be written, or contains another job.
        LockedError: a run works on the job there, or another command lays a job out.
    """
    output.check_writable()
    version = reading_version(input_url, limit, config)
    if (unchanged := _laid_out_from(output, version, config, sample_size)) is not None:
        return unchanged
    rows = partial(read_rows, input_url, limit, config)
    census = take_census(rows(discard_picture))
    census.check_accepted(input_url)
    description = describe(config, census, sample_size, version)
    if not replace:
        check_no_other_job(output, description)
    if (there := _laid_out(output, description)) is not None:
        return there
    # One lock for all of it: another command must not discard a job that is being laid out.
    with held(output, "a command that lays a job out") as mine:
        if replace and differences_from(mine, description):
            discard_job(mine)
        claim(mine, description)
        _lay_out(mine, lambda: checked_rows(rows(mine.publish), census, input_url))
    return read_job(output)


def _laid_out_from(
    output: Output, version: str, config: RenderConfig, sample_size: int
) -> Job | None:
    """Return the job at the output if it was laid out from this input, without reading the input.

    Reading 100,000 stories and their pictures takes an hour, and a picture may be gone by now.
    """
    if not version or not output.exists(JOB):
        return None
    there = read_description(output)
    if there.input_version != version:
        return None
    return _laid_out(output, describe(config, census_of(there), sample_size, version))


def _laid_out(output: Output, description: JobRecord) -> Job | None:
    """Return the job at the output if it is this one, completely laid out."""
    if not output.exists(JOB) or differences_from(output, description):
        return None
    job = read_job(output)
    return job if is_laid_out(output, job.shards, job.num_rejected) else None


def _lay_out(output: Output, rows: Callable[[], Iterator[Story | Rejection]]) -> None:
    """Write the stories of the job at an output, unless they are there."""
    job = read_job(output)
    if is_laid_out(output, job.shards, job.num_rejected):
        return
    try:
        write_stories(output, job, job.fingerprint, rows())
    except ValueError:
        output.remove_folder(f"manifests/{STORIES}")
        raise


def read_job(output: Output, stages: StageTable = STAGES) -> Job:
    """Read the job that `open_job` laid out at `output`.

    Args:
        stages: the table that the job is rendered with, if not the standard one.

    Raises:
        InputError: there is none, or it is not readable.
    """
    there, state = read_description(output), read_state(output)
    return Job(
        output=output,
        fingerprint=there.fingerprint,
        num_stories=there.num_stories - sum(state.removed.values()),
        num_rejected=there.num_rejected,
        shard_size=there.shard_size,
        sample_size=there.sample_size,
        additions=there.additions,
        removed=state.removed,
        revision=there.revision,
        state=state,
        stages=stages,
    )


def read_laid_out_job(output: Output, config: RenderConfig) -> Job:
    """Read the job at `output`, which this version can continue with the job's configuration.

    Raises:
        InputError: there is none, it is not readable, the command that laid it out was ended before
            it was done, or models or code are others now and would render other pixels.
    """
    there = read_description(output)
    if differences := differences_from(output, describe(config, census_of(there), 0)):
        raise InputError(
            f"output {output.url}: its job cannot be continued here ({'; '.join(differences)}):"
            " only with the models and the version of Storyreel that it was laid out with"
        )
    job = read_job(output)
    if not is_laid_out(output, job.shards, job.num_rejected):
        raise InputError(
            f"output {output.url}: its job is not laid out completely; run `storyreel render` with"
            " the same input again"
        )
    return job


def read_config(output: Output, overrides: Sequence[str] = ()) -> RenderConfig:
    """Read the configuration that a job was laid out with, and apply `key=value` overrides.

    Raises:
        InputError: there is no job, its configuration is not readable, or an override is not
            allowed: values that shape pixels cannot change, a job never mixes two looks.
    """
    there = read_description(output)
    place, settings = f"{JOB} in {output.url}", there.rendering | there.operation
    config = make_config(place, settings, overrides)
    if config.rendering() != make_config(place, settings).rendering():
        allowed = ", ".join(f"{section}.*" for section in sorted(OPERATION))
        raise InputError(
            f"--set {' '.join(overrides)}: shapes pixels, which must stay as the job was"
            f" laid out with; allowed are {allowed}"
        )
    return config


def discard_job(output: Output, stages: StageTable = STAGES) -> None:
    """Remove all files of a job from its output."""
    for folder in (*FOLDERS, *(spec.files.folder for spec in stages if spec.files)):
        output.remove_folder(folder)
    pages = filter(PAGE.fullmatch, output.names(""))
    for name in (*pages, *FILES, JOB):
        output.remove(name)
