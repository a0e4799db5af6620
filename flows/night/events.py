"""Events for Prefect automations: a job finished, a job failed, a render window ended.

The resource of each is `storyreel.job.<fingerprint>`; the payload says where the output is and what
it holds.
"""

from typing import Any

from prefect.events import emit_event

from storyreel.flows.job.job import Job
from storyreel.flows.views.summary import summarize

JOB_FINISHED = "storyreel.job.finished"
JOB_FAILED = "storyreel.job.failed"
WINDOW_ENDED = "storyreel.window.ended"


def tell_job_ended(job: Job, error: Exception | None = None) -> None:
    """A job is finished, or its run ended with an error."""
    if error is None:
        _emit(JOB_FINISHED, job)
    else:
        _emit(JOB_FAILED, job, error=f"{type(error).__name__}: {error}")


def tell_window_ended(job: Job) -> None:
    """A job's window closed before the job was finished."""
    stories_left = sum(job.size_of(shard) for shard in job.unfinished())
    _emit(WINDOW_ENDED, job, stories_left=stories_left)


def _emit(event: str, job: Job, **more: Any) -> None:
    summary = summarize(job)
    emit_event(
        event,
        resource={
            "prefect.resource.id": f"storyreel.job.{job.fingerprint}",
            "prefect.resource.name": job.name,
        },
        payload={
            "output": job.output.url,
            "films": summary.num_films,
            "failures": summary.num_failures,
            **more,
        },
    )
