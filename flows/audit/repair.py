"""Repairs an output: forgets the units that made damaged files or records.

Storage may lose or change bytes long after they were written. Whoever reads such a file refuses it
by its checksum, so that no film is made from it. Here the units that made it are forgotten, with
whatever their stories were given up for, and the next run of the job makes them again.
"""

from storyreel.flows.audit.problems import Audit
from storyreel.flows.audit.verify import verify
from storyreel.flows.job.generations import complete_opening, open_again
from storyreel.flows.job.lock import held
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.stages.errors import InputError
from storyreel.stages.output.manifests import STORIES
from storyreel.stages.output.storage import Output


def open_for_repair(output: Output, stages: StageTable = STAGES) -> tuple[str, ...]:
    """Let the next run of the job make again what an audit finds damaged.

    Returns:
        The paths of the damaged files, records and manifests.

    Raises:
        LockedError: a run works on the job.
        ValueError: there is no job, or the stories that it was laid out with are damaged: they
            cannot be made again.
    """
    with held(output, "a command that repairs damage") as mine:
        complete_opening(mine)
        audit = verify(mine, stages)
        _check_stories(mine, audit)
        repairable = list(audit.repairable())
        if repairable:
            units = dict.fromkeys(unit for problem, _ in repairable for unit in problem.units)
            open_again(mine, dict.fromkeys(shard for _, shard in repairable), units)
    return tuple(problem.place for problem, _ in repairable)


def _check_stories(output: Output, audit: Audit) -> None:
    for problem in audit.problems:
        if problem.place.startswith(f"manifests/{STORIES}/") and problem.kind == "manifest":
            raise InputError(
                f"output {output.url}: {problem.place}: {problem.message}; the stories of a job"
                " cannot be made again, render the input to another output"
            )
