"""`storyreel submit`: a flow run of the deployment `job`, in the queue of its priority."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect.states import Scheduled
from prefect.utilities.urls import url_for

from storyreel.flows.job.config import load_config
from storyreel.flows.job.control import DEFAULT_PRIORITY
from storyreel.flows.job.window import Window
from storyreel.flows.night.work_pool import DEPLOYMENT, JOB_FLOW, PRIORITIES, queue_name
from storyreel.flows.server.server_client import connected_to
from storyreel.flows.server.server_config import ServerConfig
from storyreel.stages.errors import InputError
from storyreel.stages.output.urls import check_no_credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The parameters of a job's flow run (`storyreel.flows.night.deployment.job`)."""

    input_url: str
    output_url: str
    config_name: str
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    limit: int | None = None
    sample: int | None = None
    priority: int | None = None
    window: str | None = None

    def parameters(self) -> dict[str, Any]:
        """Plain values; local files by absolute paths, since the worker stands elsewhere.

        Raises:
            ValueError: a value is not allowed.
        """
        if self.priority is not None and self.priority not in PRIORITIES:
            raise InputError(f"priority {self.priority}: must be from 1 to 9; 9 goes first")
        # Prefect keeps and shows the parameters of its runs.
        check_no_credentials("input", self.input_url)
        check_no_credentials("output", self.output_url)
        load_config(self.config_name, profile=self.profile, overrides=self.overrides)
        return {
            "input_url": _absolute(self.input_url),
            "output_url": _absolute(self.output_url),
            "config_name": _absolute_file(self.config_name),
            "profile": self.profile and _absolute_file(self.profile),
            "overrides": list(self.overrides),
            "limit": self.limit,
            "sample": self.sample,
            "priority": self.priority,
            "window": self.window and str(Window.parse(self.window)),
        }

    def waits_until(self, now: datetime) -> datetime | None:
        """Return when the render window opens; `None` if there is none, or it is open.

        The run lays the job out at once, and continues by itself at the opening.
        """
        config = load_config(self.config_name, profile=self.profile, overrides=self.overrides)
        stated = self.window or config.execution.window
        if stated is None:
            return None
        opens = Window.parse(stated).next_opening(now).start
        return opens if opens > now else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A submission's flow run, where to watch it, and when its window opens if it is closed."""

    flow_run_id: str
    url: str
    starts: str | None = None


def submit(submission: Submission, server: ServerConfig | None) -> Receipt:
    """Put a job into the server's queue.

    Raises:
        ValueError: a value is not allowed.
        ConnectionError: no Storyreel server answers.
    """
    parameters = submission.parameters()
    starts = submission.waits_until(datetime.now(UTC))
    with connected_to(server) as client:
        deployment = client.read_deployment_by_name(f"{JOB_FLOW}/{DEPLOYMENT}")
        run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters=parameters,
            state=Scheduled(),
            work_queue_name=queue_name(submission.priority or DEFAULT_PRIORITY),
        )
        url = url_for("flow-run", run.id)
    assert url is not None
    opens = f"{starts:%Y-%m-%d %H:%M} UTC" if starts else None
    return Receipt(flow_run_id=str(run.id), url=url, starts=opens)


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).expanduser().resolve())


def _absolute_file(name: str) -> str:
    """A configuration's file by its absolute path; a bundled name as it is."""
    return str(Path(name).resolve()) if Path(name).is_file() else name
