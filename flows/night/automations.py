"""Automations that `storyreel serve` sets up in Prefect."""

from datetime import timedelta

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

ZOMBIES = "storyreel: runs without a heartbeat"

SILENCE = timedelta(minutes=30)
"""A run that is silent for so long is gone; longer than a server may be away for a restart."""

_HEARTBEAT = "prefect.flow-run.heartbeat"
_ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "Suspended", "Paused", "Scheduled")


def watch_heartbeats() -> None:
    """Mark flow runs as crashed whose process went silent on a machine that we cannot see."""
    with get_client(sync_client=True) as client:
        if client.read_automations_by_name(ZOMBIES):
            return
    Automation(
        name=ZOMBIES,
        description="A flow run that sends no heartbeat any more is marked as crashed.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message="No heartbeat; submit the job again to continue it.",
                force=False,
            )
        ],
    ).create()
