"""`storyreel schedule`: the nightly deployment, by cron in a named time zone, with a window."""

import asyncio
from dataclasses import dataclass
from datetime import datetime

from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import CronSchedule as ServerCronSchedule
from prefect.utilities.urls import url_for
from pydantic import ValidationError

from storyreel.flows.job.window import Window
from storyreel.flows.night.deployment import apply_deployment, night
from storyreel.flows.night.work_pool import NIGHT_QUEUE
from storyreel.flows.server.server_client import connected_to
from storyreel.flows.server.server_config import ServerConfig
from storyreel.stages.errors import InputError
from storyreel.stages.validation import explain

NUM_CRON_FIELDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """When nights start, and when the last unit of each must be over."""

    cron: str
    timezone: str
    window_end: str

    def schedule(self) -> CronSchedule:
        """The starts, in wall-clock time.

        Raises:
            ValueError: no cron expression of five fields, or no IANA time zone.
        """
        # Prefect takes six fields too, the first for seconds, and then starts a run each second.
        if len(self.cron.split()) != NUM_CRON_FIELDS:
            raise InputError(
                f"--cron {self.cron!r}: must have {NUM_CRON_FIELDS} fields, minute hour day month"
                " weekday, such as '0 22 * * *'"
            )
        try:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError as error:
            raise InputError(f"schedule: {explain(error)}") from error

    def next_start(self) -> datetime:
        """The next start, computed by the library that starts the runs.

        Raises:
            ValueError: see `schedule`; or the expression never fires.
        """
        schedule = self.schedule()
        fires = ServerCronSchedule(cron=schedule.cron, timezone=schedule.timezone)
        starts = asyncio.run(fires.get_dates(n=1))
        if not starts:
            raise InputError(f"--cron {self.cron!r}: never fires")
        return starts[0]

    def window(self) -> str:
        """The hours from the cron's start to the window's end.

        Raises:
            ValueError: see `schedule`; or the cron does not start at one time of the day.
        """
        self.schedule()
        minute, hour = self.cron.split()[:2]
        if not (minute.isdigit() and hour.isdigit()):
            raise InputError(
                f"--cron {self.cron!r}: a night starts at one time of the day, such as '0 22 * * *'"
            )
        text = f"{int(hour):02d}:{int(minute):02d}-{self.window_end} {self.timezone}"
        return str(Window.parse(text))


def schedule_nights(nights: Nights, server: ServerConfig | None) -> str:
    """Make or change the nightly deployment; returns its link.

    Raises:
        ValueError: a value is not allowed.
        ConnectionError: no Storyreel server answers.
    """
    window = nights.window()
    schedule = nights.schedule()
    with connected_to(server):
        deployment_id = apply_deployment(
            night,
            description="Renders what is left of the submitted jobs, every night.",
            schedules=[schedule],
            parameters={"window": window},
            work_queue_name=NIGHT_QUEUE,
        )
        url = url_for("deployment", deployment_id)
    assert url is not None
    return url
