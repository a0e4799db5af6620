"""Prefect artifacts of a running job: progress, failures, contact sheets, summary.

Everything is computed from the job's output (its published status while it runs, its manifests at
the end), never counted here, so that whatever the Prefect server missed is put right by the next
update. The server is a view: while it is away the render continues.
"""

import base64
import html
import io
import json
import logging
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any
from uuid import UUID

import httpx
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.job import Job
from storyreel.flows.job.status import STATUS, StageStatus, count_units, read_published
from storyreel.flows.plans.plan import read_plan
from storyreel.flows.plans.rates import StageRate, read_rates
from storyreel.flows.run.task_runs import TaskRuns
from storyreel.flows.server.server_config import load_server_config
from storyreel.flows.views.figures import format_duration, format_rate
from storyreel.flows.views.gallery import write_gallery
from storyreel.flows.views.plans import actor_time, plan_against_actual
from storyreel.flows.views.summary import Summary, summarize
from storyreel.stages.output.records import Failure, File, Film

UPDATE_S = 5.0
"""Time between two looks at the job, seconds."""

PATIENCE_S = 900.0
"""How long the end of a run waits for a server that is away, seconds."""

RETRY_S = 2.0

SHEETS_SHOWN = 6
SHEET_WIDTH = 720
SHEET_QUALITY = 70

_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|~:/@])")

logger = logging.getLogger(__name__)


@contextmanager
def shown(job: Job, config: RenderConfig, flow_run_id: UUID, task_runs: TaskRuns) -> Iterator[None]:
    """Show a job in the UI while a flow run works on it, and what it has come to at the end."""
    page = _Page(job, config, flow_run_id, task_runs)
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(UPDATE_S):
            try:
                page.try_to(page.show_progress)
            except ValueError as error:  # others can write at the output too
                logger.warning("progress cannot be shown: %s", error)

    # A thread has no part in Prefect's settings, the server's address among them, but by this.
    context = copy_context()
    thread = threading.Thread(target=context.run, args=(follow,), name="artifacts", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        write_gallery(job)
        page.show_end()


class _Page:
    """The artifacts of one flow run."""

    def __init__(
        self, job: Job, config: RenderConfig, flow_run_id: UUID, task_runs: TaskRuns
    ) -> None:
        self._job = job
        self._config = config
        self._flow_run_id = flow_run_id
        self._task_runs = task_runs
        self._artifacts: dict[str, UUID] = {}
        self._shown: dict[str, Any] = {}
        self._summary = Summary(job.output)
        self._began = time.monotonic()
        self._rates = read_rates(job.output)

    def try_to(self, show: Any) -> bool:
        """Show something, or nothing while the server is away.

        Returns:
            True if nothing is left to do: it is shown, or its run was deleted in the UI.
        """
        try:
            with get_client(sync_client=True) as client:
                show(client)
        except httpx.HTTPError as error:
            logger.debug("the Prefect server does not show the job: %s", error)
            return _is_missing(error)
        return True

    def show_end(self) -> None:
        """Put everything right from the manifests; waits for a server that is away."""
        if self.try_to(self._show_end):
            return
        logger.warning(
            "the Prefect server does not answer: waiting for at most %.0f s to show the end of %s",
            PATIENCE_S,
            self._job.name,
        )
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and not self.try_to(self._show_end):
            time.sleep(RETRY_S)

    def show_progress(self, client: SyncPrefectClient) -> None:
        """Update the artifacts from the published status and the finished films."""
        if self._job.output.exists(STATUS):
            self._show_stages(client, read_published(self._job.output).stages)
        self._summary.read_on()
        self._show_results(client, self._summary)

    def _show_end(self, client: SyncPrefectClient) -> None:
        stages = count_units(self._job).stages()
        self._task_runs.settle(client, self._flow_run_id)
        self._show_stages(client, stages)
        summary = summarize(self._job)
        self._show_results(client, summary)
        self._put(client, "summary", "markdown", self._summary_text(stages, summary))

    def _show_stages(self, client: SyncPrefectClient, stages: Sequence[StageStatus]) -> None:
        for stage in stages:
            over = stage.done + stage.failed
            percent = 100.0 * over / stage.total if stage.total else 0.0
            self._put(client, stage.stage, "progress", min(100.0, percent), _describe(stage))

    def _show_results(self, client: SyncPrefectClient, summary: Summary) -> None:
        if summary.num_failures:
            rows = [self._failure_row(failure) for failure in summary.first_failures]
            described = f"{summary.num_failures} failures; all are in manifests/failures"
            self._put(client, "failures", "table", json.dumps(rows), described)
        if summary.num_films and self._shown.get("films") != summary.num_films:
            newest = list(summary.newest_films)[-SHEETS_SHOWN:]
            self._put(client, "sheets", "markdown", self._sheets(newest))
            self._shown["films"] = summary.num_films

    def _put(
        self, client: SyncPrefectClient, name: str, kind: str, data: Any, description: str = ""
    ) -> None:
        """Create an artifact, or change it if it shows something else."""
        if self._shown.get(name) == (data, description):
            return
        change = ArtifactUpdate(data=data, description=description)
        if not self._change(client, name, change):
            key = f"job-{self._job.fingerprint[:8]}-{name}"
            artifact = ArtifactCreate(
                key=key,
                type=kind,
                data=data,
                description=description,
                flow_run_id=self._flow_run_id,
            )
            self._artifacts[name] = client.create_artifact(artifact).id
        self._shown[name] = (data, description)

    def _change(self, client: SyncPrefectClient, name: str, change: ArtifactUpdate) -> bool:
        """Update an artifact; returns False if it was deleted in the UI."""
        if name not in self._artifacts:
            return False
        try:
            client.update_artifact(self._artifacts[name], change)
        except httpx.HTTPError as error:
            if not _is_missing(error):
                raise
            return False
        return True

    def _failure_row(self, failure: Failure) -> dict[str, Any]:
        where = f"{failure.source_file}, row {failure.source_row}"
        page = self._page_url()
        return {
            "story": f"[{failure.story_id}]({page}#failures)" if page else failure.story_id,
            "stage": failure.stage,
            "class": failure.error_class,
            "attempts": failure.attempts,
            "why": escape_markdown(failure.message),
            "input": escape_markdown(where),
        }

    def _sheets(self, films: Sequence[Film]) -> str:
        """The newest contact sheets, small and inside the text: they show wherever the UI does."""
        page = self._page_url()
        parts = [f"[All films]({page})"] if page else []
        for film in reversed(films):
            name = film.story_id  # letters, digits and `._-` only
            title = f"[{name}]({page}{film.path})" if page else name
            parts.append(f"### {title}, {film.duration_s:.1f} s\n\n{self._sheet(film)}")
        return "\n\n".join(parts)

    def _sheet(self, film: Film) -> str:
        """The picture, or what is wrong with its file, which must not end the run."""
        file = File(path=film.sheet_path, size=film.sheet_size, sha256=film.sheet_sha256)
        try:
            sheet = self._job.output.read_checked(file)
        except ValueError as error:
            return escape_markdown(str(error))
        return f"![{film.story_id}]({small_picture(sheet)})"

    def _summary_text(self, stages: Sequence[StageStatus], summary: Summary) -> str:
        remaining = len(self._job.unfinished())
        wall_s = time.monotonic() - self._began
        lines = [
            f"## {escape_markdown(self._job.name)}",
            "",
            f"{summary}, {remaining} of {self._job.num_shards} shards left; this run took"
            f" {format_duration(wall_s)}.",
            "",
            "| stage | done | failed | of | actors' time |",
            "|---|---:|---:|---:|---:|",
        ]
        rates = read_rates(self._job.output)
        for stage in stages:
            time_taken = actor_time(rates.get(stage.stage))
            total = f"about {stage.total}" if stage.estimated else f"{stage.total}"
            lines.append(
                f"| {stage.stage} | {stage.done} | {stage.failed} | {total} | {time_taken} |"
            )
        lines += ["", *self._efficiency(rates, wall_s)]
        if plan := read_plan(self._job.output):
            lines += ["", "### Plan against actual", "", plan_against_actual(plan, rates)]
        if page := self._page_url():
            lines += ["", f"[Films, sheets and manifests]({page})"]
        else:
            lines += ["", f"Films: {escape_markdown(self._job.output.location('films'))}"]
        return "\n".join(lines)

    def _efficiency(self, rates: dict[str, StageRate], wall_s: float) -> Iterator[str]:
        """The share of its actors' time in which each pool was at work in this run."""
        for pool in dict.fromkeys(spec.pool for spec in self._job.stages):
            num_actors = getattr(self._config.pools, pool).num_actors
            busy_s = sum(
                _actor_seconds(rates.get(spec.name)) - _actor_seconds(self._rates.get(spec.name))
                for spec in self._job.stages.in_pool(pool)
            )
            share = 100 * busy_s / (num_actors * wall_s)
            yield f"- pool {pool}: {num_actors} actors, busy {share:.0f} % of this run"

    def _page_url(self) -> str | None:
        return load_server_config().gallery_page(self._job.output.url)


def escape_markdown(text: str) -> str:
    """Untrusted text as one line that neither markdown nor HTML takes for its own."""
    return _MARKDOWN.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _is_missing(error: httpx.HTTPError) -> bool:
    missing = httpx.codes.NOT_FOUND
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code == missing


def _describe(stage: StageStatus) -> str:
    total = f"about {stage.total}" if stage.estimated else f"{stage.total}"
    parts = [f"{stage.stage}: {stage.done} of {total}"]
    if stage.failed:
        parts.append(f"{stage.failed} failed")
    if stage.rate:
        parts.append(format_rate(stage.rate))
    if stage.eta_s is not None:
        parts.append(f"{format_duration(stage.eta_s)} left")
    return ", ".join(parts)


def _actor_seconds(rate: StageRate | None) -> float:
    return rate.num_units * rate.mean_s if rate else 0.0


def small_picture(png: bytes) -> str:
    """A picture as a data URI that Prefect's UI shows, scaled down."""
    with Image.open(io.BytesIO(png)) as sheet:
        small = sheet.convert("RGB")
    small.thumbnail((SHEET_WIDTH, 2 * SHEET_WIDTH))
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=SHEET_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
