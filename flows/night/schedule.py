"""`storyreel schedule`: the nightly deployment, by cron in a named time zone, with a window."""

from dataclasses import dataclass

from prefect.client.schemas.schedules import CronSchedule
from prefect.utilities.urls import url_for
from pydantic import ValidationError

from storyreel.flows.job.window import Window
from storyreel.flows.night.deployment import apply_deployment, night
from storyreel.flows.night.server_client import connected_to
from storyreel.flows.night.server_config import ServerConfig
from storyreel.flows.night.work_pool import NIGHT_QUEUE
from storyreel.stages.errors import InputError
from storyreel.stages.validation import explain


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """When nights start, and when the last unit of each must be over."""

    cron: str
    timezone: str
    window_end: str

    def schedule(self) -> CronSchedule:
        """The starts, in wall-clock time.

        Raises:
            ValueError: no cron expression, or no IANA time zone.
        """
        try:
            return CronSchedule(cron=self.cron, timezone=self.timezone)
        except ValidationError as error:
            raise InputError(f"schedule: {explain(error)}") from error

    def window(self) -> str:
        """The hours from the cron's start to the window's end.

        Raises:
            ValueError: the cron does not start at one time of the day.
        """
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
