"""Jobs from notebooks and scripts: open one that was rendered, submit another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from storyreel.flows.audit.problems import Audit
from storyreel.flows.audit.verify import verify as audit
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.status import JobStatus, read_status
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import newest_manifests, read_manifests
from storyreel.stages.output.records import Failure, Film
from storyreel.stages.output.storage import Output


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
        return read_status(self._job)

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

        Raises:
            ValueError: the job has no such manifest yet.
        """
        output = self._job.output
        paths = newest_manifests(output, name)
        if not paths:
            there = ", ".join(output.names("manifests"))
            raise InputError(f"table {name!r}: no manifest at {self.url}; there are {there}")
        tables = [pq.read_table(pa.BufferReader(output.read(path))) for path in paths]
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


def submit(
    input_url: str,
    output_url: str,
    *,
    config: str = "pocket",
    profile: str | None = None,
    overrides: Sequence[str] = (),
    server: str | Path | None = None,
) -> str:
    """Queue a job at a running `storyreel serve`.

    Args:
        input_url: stories: a file, folder or URL.
        output_url: folder or object-store URL of the job.
        config, profile, overrides: as for `Renderer`.
        server: TOML file of the server; default: the variable STORYREEL_SERVER, else this machine.

    Returns:
        The address of the job's flow run in the Prefect UI.

    Raises:
        ValueError: a value is not allowed.
        ConnectionError: no Storyreel server answers.
    """
    # Prefect takes a second to import; reading a job does not need it.
    from storyreel.flows.night.server_config import server_to_talk_to  # noqa: PLC0415
    from storyreel.flows.night.submit import Submission  # noqa: PLC0415
    from storyreel.flows.night.submit import submit as submit_to  # noqa: PLC0415

    submission = Submission(
        input_url=input_url,
        output_url=output_url,
        config_name=config,
        profile=profile,
        overrides=tuple(overrides),
    )
    return submit_to(submission, server_to_talk_to(Path(server) if server else None)).url
