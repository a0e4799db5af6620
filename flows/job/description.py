"""`job.json`: what a job consists of and what its pixels depend on.

The fingerprint is a hash of everything that shapes pixels. A job is continued only with the same
fingerprint, so that one output never mixes two looks.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from storyreel.flows.job.config import RenderConfig, digest, make_config
from storyreel.flows.job.layout import Census
from storyreel.stages.errors import InputError
from storyreel.stages.models.config import model_revisions
from storyreel.stages.output.serialization import to_json
from storyreel.stages.output.storage import Output

JOB = "job.json"

RENDERING_VERSION = 4
"""Raised whenever the same job would give other pixels, or other records, than before."""

SHAPING = ("rendering_version", "input_sha256", "models", "rendering")
"""Fields of `JobRecord` that pixels depend on."""

FIXED = ("rendering_version", "models")
"""Those that a job cannot be edited in."""

MAX_SHARDS = 1_000_000
"""A `job.json` with more shards is refused, since listing them would take too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRecord:
    """The content of `job.json`.

    Attributes:
        rendering_version: `RENDERING_VERSION` of the program that laid the job out.
        input_sha256: hash of the input's rows; their places do not matter.
        models: what pins the weights, by their paths (see `model_revisions`).
        rendering: the sections of the configuration that affect pixels.
        operation: the other sections.
        fingerprint: hash of all of these but `operation`, when the job was laid out; it stays when
            the job is edited.
        num_stories: stories that the job ever had.
        num_rejected, shard_size, sample_size, additions: as of `Job`.
        input_version: hash of all that decides which rows are read, without reading them (see
            `reading_version`); "" if that is not known.
        revision: how often its stories or settings were edited.
    """

    rendering_version: int
    input_sha256: str
    models: dict[str, str]
    rendering: dict[str, Any]
    operation: dict[str, Any]
    fingerprint: str
    num_stories: int
    num_rejected: int
    shard_size: int
    sample_size: int
    input_version: str = ""
    additions: tuple[int, ...] = ()
    revision: int = 0

    def __post_init__(self) -> None:
        """Check the counts: anybody who can write at an output could have made the file."""
        if not (
            0 <= self.sample_size <= self.num_stories - sum(self.additions)
            and all(added > 0 for added in self.additions)
            and self.num_rejected >= 0
            and self.shard_size >= 1
            and self.num_stories <= MAX_SHARDS * self.shard_size
        ):
            raise ValueError(
                f"num_stories {self.num_stories}, num_rejected {self.num_rejected}, shard_size"
                f" {self.shard_size}, sample_size {self.sample_size}: do not fit together"
            )


def describe(
    config: RenderConfig, census: Census, sample_size: int, input_version: str = ""
) -> JobRecord:
    """Return the content of `job.json` for an input and a configuration."""
    shaping: dict[str, Any] = {
        "rendering_version": RENDERING_VERSION,
        "input_sha256": census.sha256,
        "models": model_revisions(config.prompts, config.keyframes, config.motion),
        "rendering": config.rendering(),
    }
    return JobRecord(
        **shaping,
        fingerprint=digest(shaping),
        num_stories=census.num_stories,
        num_rejected=census.num_rejected,
        shard_size=config.execution.stories_per_shard(census.num_stories),
        operation=config.operation(),
        sample_size=min(sample_size, census.num_stories),
        input_version=input_version,
    )


def census_of(description: JobRecord) -> Census:
    """Return the census of the input that a job was laid out from."""
    return Census(
        num_stories=description.num_stories,
        num_rejected=description.num_rejected,
        sha256=description.input_sha256,
    )


def claim(output: Output, description: JobRecord) -> None:
    """Write `job.json`, unless the output contains the same job already.

    Raises:
        InputError: see `check_no_other_job`.
    """
    check_no_other_job(output, description)
    if output.exists(JOB):
        return
    if not output.publish_new(JOB, to_json(description)):
        claim(output, description)  # another command was faster; it must have the same job


def check_no_other_job(output: Output, description: JobRecord) -> None:
    """Check that the output contains this job or none.

    Raises:
        InputError: the output contains another job; the message lists the differences.
    """
    if differences := differences_from(output, description):
        raise InputError(
            f"output {output.url}: holds a different job ({'; '.join(differences)});"
            " choose another --output, continue it as it is with `storyreel continue`, or pass"
            " --discard-other-job to delete it"
        )


def differences_from(output: Output, description: JobRecord) -> list[str]:
    """Return the differences of the job at an output; `[]` if there is none or it is the same."""
    if output.exists(JOB):
        found = find_differences(read_description(output), description)
        same = not any(key.split(".")[0] in SHAPING for key in found)
        return [] if same else list(map(_told, found.items()))
    if output.exists("manifests") or output.exists("units"):
        return [f"files of a job without its {JOB}"]
    return []


def find_differences(there: JobRecord, wanted: JobRecord) -> dict[str, str]:
    """Return the differences of two jobs, by key."""
    return dict(_differences(asdict(with_todays_settings(there)), asdict(wanted)))


def edited_settings(output: Output, wanted: JobRecord) -> tuple[str, ...]:
    """Return the settings that the job at an output would have to be edited in to be as wanted.

    Raises:
        InputError: other weights or another version of the program would render it.
    """
    found = find_differences(read_description(output), wanted)
    fixed = [item for item in found.items() if item[0].split(".")[0] in FIXED]
    if fixed:
        raise InputError(
            f"output {output.url}: holds a different job ({'; '.join(map(_told, fixed))}); choose"
            " another --output, or pass --discard-other-job to delete it"
        )
    return tuple(_told(item) for item in found.items() if item[0].startswith("rendering."))


def _told(difference: tuple[str, str]) -> str:
    key, values = difference
    return f"{key.removeprefix('rendering.')}: {values}"


def with_todays_settings(there: JobRecord) -> JobRecord:
    """The record with the defaults of settings that the version that wrote it did not have.

    A setting that is added to the configuration has a default that leaves pixels as they were, or
    `RENDERING_VERSION` is raised.
    """
    try:
        config = make_config(JOB, there.rendering | there.operation)
    except InputError:  # of a version whose settings are not understood: compared as it is
        return there
    return replace(there, rendering=config.rendering())


def _differences(there: Any, wanted: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(there, dict) and isinstance(wanted, dict):
        for name in sorted(there.keys() | wanted.keys()):
            if name not in ("fingerprint", "operation", "input_version", "additions", "revision"):
                inner = f"{key}.{name}" if key else name
                yield from _differences(there.get(name), wanted.get(name), inner)
    elif there != wanted:
        yield key, f"{there!r} there, {wanted!r} here"


def read_description(output: Output) -> JobRecord:
    """Read `job.json`.

    Raises:
        InputError: there is none, or a value is missing, of the wrong type or out of range.
    """
    try:
        return output.read_record(JOB, JobRecord)
    except FileNotFoundError:
        raise InputError(f"output {output.url}: holds no job") from None
    except InputError as error:
        raise InputError(f"output {output.url}: {error}") from error
