"""What a sealed shard leaves at the output, and what a run does with earlier records."""

from pathlib import Path

from storyreel.cluster.work import Work
from storyreel.flows.audit.retry import Selection, open_for_retry
from storyreel.flows.audit.verify import verify
from storyreel.flows.job.job import read_job
from storyreel.stages.output.storage import Output
from tests.flows.inline import SIMULATED, InlineRunner, lay_out, render_inline

KEPT = ("films", "keyframes", "clips", "sheets")


def test_a_finished_job_has_few_files_beside_what_people_keep(tmp_path: Path) -> None:
    """One file a unit was 3.4 million at 100,000 stories."""
    folder = tmp_path / "job"
    output = Output(str(folder))
    lay_out(output, tmp_path, 40, shard_size=20)
    render_inline(output)
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    others = [path for path in files if path.parts[0] not in KEPT]
    assert len(others) < 40, others
    assert verify(output).problems == []


def test_a_stage_that_was_killed_between_packing_and_sealing_does_no_unit_again(
    tmp_path: Path,
) -> None:
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)
    render_inline(output)
    last = [str(path) for path in (tmp_path / "job/manifests").glob("f*/*-of-*.parquet")]
    for path in last:  # the manifests of films and failures
        Path(path).unlink()
    job = read_job(output, SIMULATED)
    runner = InlineRunner(job)
    runner.render(job.shards[0])
    assert runner.tried == []
    assert len(last) == 2
    assert all(Path(path).exists() for path in last)
    assert verify(output).problems == []


def test_a_retry_does_what_failed_and_reads_the_rest_from_packed_records(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    job = lay_out(output, tmp_path, 4)

    def fails(work: Work) -> bool:
        return work.unit.name == "s001.0001"

    render_inline(output, fails)
    assert open_for_retry(output, Selection()) == ("s001",)
    job = read_job(output, SIMULATED)
    runner = InlineRunner(job)
    for shard in job.unfinished():
        runner.render(shard)
    assert runner.tried == ["motion/s001.0001", "films/s001"]
    audit = verify(output)
    assert (audit.num_films, audit.problems) == (4, [])
    assert not read_job(output, SIMULATED).unfinished()
