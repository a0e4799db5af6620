"""Names of the Prefect work pool, its queues and its deployments."""

POOL = "storyreel"
DEPLOYMENT = "storyreel"
"""Both deployments are called so, each after its flow."""

JOB_FLOW = "job"
NIGHT_FLOW = "night"

NIGHT_QUEUE = "night"
"""Nights come after all that was submitted to run at once."""

PRIORITIES = range(1, 10)
"""9 goes first."""


def queue_name(priority: int) -> str:
    """The work queue of a priority."""
    return f"priority-{priority}"


def queue_names() -> list[str]:
    """All queues, the first to be served first."""
    return [*(queue_name(priority) for priority in reversed(PRIORITIES)), NIGHT_QUEUE]
