"""The gallery: static HTML pages of a job's films, sheets and failures, and who serves them.

The pages stand at the output beside the films and need nothing else: no script, no font, no other
host. Story text is untrusted: templates escape it, and the pages' policy lets nothing run.
"""

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import jinja2
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storyreel.flows.job.description import JOB
from storyreel.flows.job.job import Job, read_job
from storyreel.flows.server.own_origin import OwnOriginOnly
from storyreel.flows.server.server_config import ServerConfig
from storyreel.flows.views.summary import Summary, summarize
from storyreel.stages.output.manifests import (
    STORIES,
    Shard,
    manifest_path,
    newest_manifests,
    read_manifest,
)
from storyreel.stages.output.records import Film, Story
from storyreel.stages.output.storage import Output

INDEX = "index.html"
FILMS_PER_PAGE = 100
TEXT_SHOWN = 300
JOB_DEPTH = 3
"""How deep below an allowed output the index looks for jobs."""

STYLE = """
body { font: 16px/1.5 sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }
video, img { max-width: 100%; height: auto; vertical-align: top; }
section { border-top: 1px solid #ccc; }
table { border-collapse: collapse; }
td, th { border: 1px solid #ccc; padding: .3rem .6rem; text-align: left; vertical-align: top; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'sha256-{_STYLE_HASH}';"
    " base-uri 'none'; form-action 'none'"
)


def write_gallery(job: Job) -> None:
    """Publish the pages of what is finished, `index.html` last; the old ones are replaced."""
    summary = summarize(job)
    pages = max(1, -(-summary.num_films // FILMS_PER_PAGE))
    failures = sorted(summary.first_failures, key=lambda f: (f.stage, f.story_id))
    films = _films(job)
    for page in range(1, pages + 1):
        first = page == 1
        content = _render(
            title=job.name,
            summary=str(summary),
            page=page,
            pages=pages,
            films=list(islice(films, FILMS_PER_PAGE)),
            failures=failures if first else [],
            manifests=_manifests(job) if first else [],
        )
        job.output.publish(_page_name(page), content.encode())


def gallery_app(config: ServerConfig) -> ASGIApp:
    """Serves the allowed outputs that are folders, and an index of the jobs in them."""
    roots = {name: Path(root) for name, root in config.roots().items() if "://" not in root}

    summaries = _Summaries()

    def index(_: Request) -> HTMLResponse:
        jobs = [job for name, root in roots.items() for job in _jobs_below(name, root, summaries)]
        return HTMLResponse(_render(title="Storyreel", summary=f"{len(jobs)} jobs", jobs=jobs))

    mounts = [
        Mount(f"/{quote(name)}", StaticFiles(directory=root, html=True, check_dir=False))
        for name, root in roots.items()
    ]
    guarded = _Guard(Starlette(routes=[Route("/", index), *mounts]), config.auth_string())
    return OwnOriginOnly(guarded, config.host_names)


class _Guard:
    """Asks for the password if there is one, and sends the policy with every answer."""

    def __init__(self, app: ASGIApp, auth_string: str | None) -> None:
        self._app = app
        self._expected = None
        if auth_string is not None:
            self._expected = f"Basic {base64.b64encode(auth_string.encode()).decode()}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["content-security-policy"] = POLICY
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "no-referrer"
            await send(message)

        app = self._app
        if scope["type"] == "http" and not self._may_pass(Headers(scope=scope)):
            challenge = {"www-authenticate": 'Basic realm="storyreel", charset="UTF-8"'}
            app = PlainTextResponse("password needed", status_code=401, headers=challenge)
        await app(scope, receive, send_guarded)

    def _may_pass(self, headers: Headers) -> bool:
        given = headers.get("authorization", "").encode()
        return self._expected is None or hmac.compare_digest(given, self._expected.encode())


def _render(**values: Any) -> str:
    empty: dict[str, Any] = {"jobs": [], "films": [], "failures": [], "manifests": [], "pages": 1}
    source = (
        resources.files("storyreel.flows.views")
        .joinpath("gallery.html")
        .read_text(encoding="utf-8")
    )
    # Everything is escaped but our own constants.
    template = jinja2.Environment(autoescape=True).from_string(source)
    constants = {"policy": POLICY, "style": STYLE, "page_href": _page_name}
    return template.render(**empty | values, **constants)


def _page_name(page: int) -> str:
    return INDEX if page == 1 else f"page-{page:04d}.html"


def _films(job: Job) -> Iterator[dict[str, Any]]:
    """The rows of the films table."""
    for path in newest_manifests(job.output, "films"):
        yield from _films_of_shard(job.output, path)


def _films_of_shard(output: Output, path: str) -> Iterator[dict[str, Any]]:
    shard = Shard.of_manifest(PurePosixPath(path).name)
    assert shard is not None, path
    stories = read_manifest(output, manifest_path(STORIES, shard), Story)
    texts = {story.story_id: _text(story) for story in stories}
    for film in read_manifest(output, path, Film):
        yield {
            "story_id": film.story_id,
            "text": texts[film.story_id],
            "video": quote(film.path),
            "sheet": quote(film.sheet_path),
            "subtitles": quote(film.subtitles_path),
            "width": film.width,
            "height": film.height,
            "duration_s": film.duration_s,
            "fps": film.fps,
        }


def _text(story: Story) -> str:
    text = story.text or " / ".join(panel.text for panel in story.panels)
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]} ..."


def _manifests(job: Job) -> list[str]:
    tables = job.output.names("manifests")
    return [
        f"manifests/{table}/{name}"
        for table in tables
        for name in job.output.names(f"manifests/{table}")
        if name.endswith(".parquet")
    ]


class _Summaries:
    """The summaries of jobs: a request reads what was finished since the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Any, Summary]] = {}

    def of(self, job: Job) -> Summary:
        """Return the summary of a job, in its present generations."""
        state = (job.fingerprint, dict(job.state.generations))
        with self._lock:  # requests are answered in several threads
            known, summary = self._known.get(job.output.url, (None, None))
            if summary is None or known != state:
                summary = Summary(job.output)
                self._known[job.output.url] = (state, summary)
            summary.read_on()
            return summary


def _jobs_below(name: str, root: Path, summaries: _Summaries) -> list[dict[str, Any]]:
    """The jobs in a folder, the newest first."""
    patterns = ("/".join(["*"] * depth + [JOB]) for depth in range(1, JOB_DEPTH + 1))
    found = [path for pattern in patterns for path in root.glob(pattern)]
    newest_first = sorted(found, key=lambda path: -path.stat().st_mtime)
    return [
        _job_row(path.parent, f"{name}/{path.parent.relative_to(root)}", summaries)
        for path in newest_first
    ]


def _job_row(folder: Path, place: str, summaries: _Summaries) -> dict[str, Any]:
    """The row of a job in the index, or of the reason why it cannot be read."""
    try:
        job = read_job(Output(str(folder)))
        summary = summaries.of(job)
    except (OSError, ValueError) as error:
        return {"name": place, "error": str(error)}
    return {
        "href": quote(f"{place}/"),
        "name": job.name,
        "films": summary.num_films,
        "hours": summary.duration_s / 3600,
        "failures": summary.num_failures,
        "stories": job.num_stories + job.num_rejected,
    }
