"""Jobs from notebooks and scripts: open one that was rendered, submit another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from storyreel.flows.audit.problems import Audit
from storyreel.flows.audit.verify import verify as audit
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.status import JobStatus, read_status
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import STORIES, newest_manifests, read_manifests, read_table
from storyreel.stages.output.records import Failure, Film, Story
from storyreel.stages.output.serialization import schema_of
from storyreel.stages.output.storage import Output

SEALS = "scores"
"""A folder beside the tables: the seals of evaluations, which are not Parquet."""


@dataclass(frozen=True, slots=True)
class OpenedJob:
    """A job at its output, which may be running, stopped or finished. Everything here reads only.

    Storage that does not answer raises `StorageError`; damaged files raise `ValueError`.
    """

    _job: Job

    @property
    def url(self) -> str:
        """The output's folder or object-store URL."""
        return self._job.output.url

    @property
    def name(self) -> str:
        """The last part of the output's URL and the start of the job's fingerprint."""
        return self._job.name

    @property
    def num_stories(self) -> int:
        """The number of accepted stories."""
        return self._job.num_stories

    def status(self) -> JobStatus:
        """The progress of each stage in units, the job's phase, and its latest failures."""
        # Read anew: `retry` opens further generations of the job's shards.
        return read_status(read_job(self._job.output))

    def films(self) -> list[Film]:
        """The films of the finished shards; their paths are relative to the output."""
        return list(read_manifests(self._job.output, "films", Film))

    def failures(self) -> list[Failure]:
        """The failed stories of the finished shards, and the refused input rows."""
        return list(read_manifests(self._job.output, "failures", Failure))

    def location(self, path: str) -> str:
        """The local path or URL of a file, given its path relative to the output."""
        return self._job.output.location(path)

    def table(self, name: str) -> pa.Table:
        """A manifest of all finished shards as one table.

        Args:
            name: stories, panels, shots, keyframes, clips, films, failures, or after `evaluate`
                scores_panels, scores_clips, scores_films.

        Returns:
            One row per record; no rows while no shard has finished that stage.

        Raises:
            ValueError: there is no such table, or a manifest cannot be read.
        """
        output = self._job.output
        records = {STORIES: Story, **self._job.stages.records}
        known = records.keys() | set(output.names("manifests")) - {SEALS}
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise InputError(f"table {name!r}: not at {self.url}; there are {allowed}")
        paths = newest_manifests(output, name)
        if not paths:
            return schema_of(records[name]).empty_table()
        tables = [read_table(output, path) for path in paths]
        # Shards that an earlier version sealed may have fewer columns.
        return pa.concat_tables(tables, promote_options="default")

    def verify(self) -> Audit:
        """Check every record and checksum; reads every file of the job."""
        return audit(self._job.output)


def open_job(url: str) -> OpenedJob:
    """Open the job at a folder or object-store URL.

    Raises:
        ValueError: there is no job, or its `job.json` cannot be read.
    """
    return OpenedJob(read_job(Output(url)))


def submit(  # noqa: PLR0913, the options of the command
    input_url: str,
    output_url: str,
    *,
    config: str = "pocket",
    profile: str | None = None,
    overrides: Sequence[str] = (),
    limit: int | None = None,
    sample: int | None = None,
    priority: int | None = None,
    window: str | None = None,
    server: str | Path | None = None,
) -> str:
    """Queue a job at a running `storyreel serve`.

    Args:
        input_url: stories: a file, folder or URL.
        output_url: folder or object-store URL of the job.
        config, profile, overrides: as for `Renderer`.
        limit: take only that many input rows.
        sample: render that many stories first, then wait for approval.
        priority: 1 to 9; 9 runs first, the default is 5.
        window: hours in which the job may run, such as `"22:00-06:00 Europe/Berlin"`.
        server: TOML file of the server; default: the variable STORYREEL_SERVER, else this machine.

    Returns:
        The address of the job's flow run in the Prefect UI.

    Raises:
        ValueError: a value is not allowed.
        ConnectionError: no Storyreel server answers.
    """
    # Prefect takes a second to import; reading a job does not need it.
    from storyreel.flows.night.submit import Submission  # noqa: PLC0415
    from storyreel.flows.night.submit import submit as submit_to  # noqa: PLC0415
    from storyreel.flows.server.server_config import server_to_talk_to  # noqa: PLC0415

    submission = Submission(
        input_url=input_url,
        output_url=output_url,
        config_name=config,
        profile=profile,
        overrides=tuple(overrides),
        limit=limit,
        sample=sample,
        priority=priority,
        window=window,
    )
    return submit_to(submission, server_to_talk_to(Path(server) if server else None)).url
