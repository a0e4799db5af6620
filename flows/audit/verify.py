"""Audits an output: each story is there once, each file is whole, records and manifests agree.

Works shard by shard; of the whole output only the names of stories are kept in memory.
"""

from functools import partial
from pathlib import PurePosixPath

from storyreel.flows.audit.problems import Audit
from storyreel.flows.audit.shard_audit import Known, ShardAudit, check_orphans, read_files
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.job.layout import REJECTED
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.input.references import FOLDER as REFERENCES
from storyreel.stages.output.manifests import STORIES, Shard, manifest_path, read_manifest
from storyreel.stages.output.records import Failure, File
from storyreel.stages.output.storage import Output


def verify(output: Output, stages: StageTable = STAGES) -> Audit:
    """Audit the job at an output; reads every file that a record names.

    Raises:
        ValueError: there is no job, or its `job.json` cannot be read.
    """
    job, audit, known = read_job(output, stages), Audit(), Known()
    there = set(output.names(f"manifests/{STORIES}"))
    for shard in job.shards:
        path = manifest_path(STORIES, shard)
        if PurePosixPath(path).name in there:
            ShardAudit(job, shard, audit, known).run()
        else:
            audit.add("manifest", path, "is missing")
    _check_rejected(job, audit)
    _check_names_of_manifests(job, audit)
    _check_folders_of_stages(job, audit, known)
    _check_references(job, audit, known)
    return audit


def _check_rejected(job: Job, audit: Audit) -> None:
    rows: list[Failure] = []
    if job.num_rejected or job.output.exists(REJECTED):
        try:
            rows = read_manifest(job.output, REJECTED, Failure)
        except (FileNotFoundError, ValueError) as error:
            audit.add("manifest", REJECTED, str(error).removeprefix(f"{REJECTED}: "))
    audit.num_failures += len(rows)
    if len(rows) != job.num_rejected:
        message = f"{len(rows)} rejected rows instead of {job.num_rejected}"
        audit.add("manifest", REJECTED, message)


def _check_names_of_manifests(job: Job, audit: Audit) -> None:
    """Check that manifests are of shards of the job; scores and other tables are not looked at."""
    newest = {shard.index: shard for shard in job.shards}
    for table in (STORIES, *job.stages.records):
        place = f"manifests/{table}"
        check_orphans(audit, job.output, place, partial(_is_known_manifest, place, newest))


def _is_known_manifest(place: str, newest: dict[int, Shard], name: str) -> bool:
    return _is_of_shard(name, newest) or f"{place}/{name}" == REJECTED


def _is_of_shard(name: str, newest: dict[int, Shard]) -> bool:
    shard = Shard.of_manifest(name)
    if shard is None or shard.index not in newest:
        return False
    mine = newest[shard.index]
    return shard.count == mine.count and shard.generation <= mine.generation


def _check_folders_of_stages(job: Job, audit: Audit, known: Known) -> None:
    """Check that files and folders of stages are of stories of the job."""
    for spec in job.stages:
        if spec.files is None:
            continue
        names = known.stories | known.earlier
        if spec.files.suffixes:
            names = known.files.get(spec.files.folder, set())
        check_orphans(audit, job.output, spec.files.folder, names.__contains__)


def _check_references(job: Job, audit: Audit, known: Known) -> None:
    """Check the pictures that the job has copied; their names are their checksums."""
    names = {PurePosixPath(path).name for path in known.references}
    check_orphans(audit, job.output, REFERENCES, names.__contains__)
    files = (
        File(path=path, size=0, sha256=PurePosixPath(path).stem)
        for path in sorted(known.references)
    )
    for path, message in read_files(audit, job.output, files):
        audit.add("file", path, message)
