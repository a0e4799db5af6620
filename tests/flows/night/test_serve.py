"""`storyreel serve` as a team uses it: submit, watch, approve, and what survives a restart."""

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from storyreel.flows.job.control import read_control
from storyreel.flows.night.work_pool import POOL
from storyreel.flows.server.server_config import load_server_config
from storyreel.stages.output.storage import Output
from tests.cluster.nodes import free_port
from tests.flows.browser import browser
from tests.flows.server import Server, log_in, serving, stop
from tests.records import commit_records

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def mixed(stories: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stories, and one that fails for a reason with hostile text in it."""
    faceless = {
        "name": "Nobody",
        "description": "a ghost",
        "reference_image": "/no/<img src=x onerror=window.pwned=1>.png",
    }
    ghost = {"story_id": "ghost", "panels": ["[Nobody] waves"], "characters": [faceless]}
    path = tmp_path_factory.mktemp("mixed") / "stories.jsonl"
    lines = [*stories.read_text(encoding="utf-8").splitlines(), json.dumps(ghost)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(server: Server, mixed: Path, shared_config: Path) -> str:
    """The flow run of a job that was submitted and rendered."""
    run = server.wait_until_final(server.submit(mixed, "watched", shared_config))
    assert run["state_type"] == "COMPLETED", run["state"]
    return str(run["id"])


def test_what_the_ui_counts_is_what_the_manifests_hold(server: Server, finished: str) -> None:
    (render,) = server.children(finished)
    assert re.fullmatch(r"watched [0-9a-f]{8} \d{4}-\d\d-\d\d", render["name"])
    shards = len(list((server.films / "watched/manifests/films").iterdir()))
    runs = server.task_runs(render["id"])
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    assert len(runs) == 4 * shards
    shown = server.artifacts(render["id"])
    films = len(list((server.films / "watched/films").glob("*.mp4")))
    assert shown["films"]["description"].startswith(f"films: {films} of {films}")
    assert f"{films} films" in shown["summary"]["data"]
    assert [row["story"].split("]")[0] for row in json.loads(shown["failures"]["data"])] == [
        "[ghost"
    ]


def test_a_browser_shows_the_pictures_and_runs_nothing_of_a_story(
    server: Server, finished: str, tmp_path: Path
) -> None:
    (render,) = server.children(finished)
    shown = server.artifacts(render["id"])
    with browser(tmp_path / "profile") as page:
        log_in(page, server)
        for name in ("sheets", "failures", "summary"):
            ui = f"http://127.0.0.1:{server.port}"
            page.open(f"{ui}/artifacts/artifact/{shown[name]['id']}")
            page.wait_for_text({"sheets": "bear", "failures": "ghost", "summary": "films"}[name])
            pictures = "[...document.images].filter(i => i.src.startsWith('data:image/jpeg'))"
            if name == "sheets":
                page.wait_for(f"{pictures}.length && {pictures}.every(i => i.naturalWidth > 100)")
            assert page.evaluate("window.pwned") is None


@pytest.mark.slow
def test_jobs_that_wait_start_in_the_order_of_their_priority(
    server: Server, tiny_config: Path, tmp_path: Path
) -> None:
    server.api("PATCH", f"/work_pools/{POOL}", is_paused=True)
    missing = tmp_path / "nothing.jsonl"
    runs = {p: server.submit(missing, f"p{p}", tiny_config, "--priority", str(p)) for p in (2, 9)}
    server.api("PATCH", f"/work_pools/{POOL}", is_paused=False)
    ended = {p: server.wait_until_final(run) for p, run in runs.items()}
    assert ended[9]["start_time"] < ended[2]["start_time"]
    assert all("nothing.jsonl" in run["state"]["message"] for run in ended.values())


def test_an_output_elsewhere_is_refused(server: Server, stories: Path, tiny_config: Path) -> None:
    run = server.wait_until_final(server.submit(stories, "../elsewhere", tiny_config))
    assert run["state_type"] == "FAILED"
    assert "must be a folder below" in run["state"]["message"]
    assert not (server.folder / "elsewhere").exists()


@pytest.mark.slow
def test_a_job_submitted_again_keeps_its_priority_and_its_window(
    server: Server, stories: Path, tiny_config: Path
) -> None:
    stated = ("--priority", "7", "--window", "03:00-03:01 Pacific/Kiritimati")
    for options in (stated, ()):
        run = server.submit(stories, "again", tiny_config, "--limit", "1", *options)
        assert server.wait_until_final(run)["state_name"] == "CarriedOver"
        control = read_control(Output(str(server.films / "again")))
        assert (control.priority, control.window) == (7, stated[-1])


@pytest.mark.slow
def test_a_sample_waits_for_approval_without_a_process_and_goes_on_by_command(
    server: Server, stories: Path, shared_config: Path
) -> None:
    run = server.submit(stories, "sampled", shared_config, "--sample", "2")
    server.wait_for(lambda: server.flow_run(run)["state_name"] == "Suspended")
    films = server.films / "sampled/films"
    assert len(list(films.glob("*.mp4"))) == 2
    server.wait_for(lambda: not _flow_processes(server))
    server.storyreel("approve", str(server.films / "sampled"))
    ended = server.wait_until_final(run)
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert len(list(films.glob("*.mp4"))) == 3


def _flow_processes(server: Server) -> list[psutil.Process]:
    """The processes of flow runs that the server's worker has started."""
    family = psutil.Process(server.process.pid).children(recursive=True)
    return [process for process in family if "prefect.engine" in _command_of(process)]


def _command_of(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):  # it may have ended since
        return list(process.cmdline())
    return []


def test_a_night_drains_the_queue_and_says_what_remains(
    server: Server, stories: Path, shared_config: Path
) -> None:
    closed = ("--window", "03:00-03:01 Pacific/Kiritimati")
    submitted = server.submit(stories, "nightly", shared_config, *closed)
    assert server.wait_until_final(submitted)["state_name"] == "CarriedOver"
    # It continues by itself when its window opens, also where nobody schedules nights.
    scheduled = {"state": {"type": {"any_": ["SCHEDULED"]}}}
    (later,) = server.api("POST", "/flow_runs/filter", flow_runs=scheduled)
    assert later["parameters"]["output_url"] == str(server.films / "nightly")
    assert later["expected_start_time"][11:16] == "13:00"
    zone = ("--timezone", "UTC", "--window-end", "23:59")
    for _ in range(2):  # a change of mind leaves one schedule
        said = server.storyreel("schedule", "--cron", "0 0 * * *", *zone)
    deployment = server.api("GET", f"/deployments/{said.splitlines()[0].rsplit('/', 1)[-1]}")
    (schedule,) = deployment["schedules"]
    assert schedule["schedule"]["timezone"] == "UTC"
    of_nights = {"deployments": {"id": {"any_": [deployment["id"]]}}}
    coming = server.wait_for(lambda: server.api("POST", "/flow_runs/filter", **of_nights))
    assert {night["state_name"] for night in coming} == {"Scheduled"}
    assert {night["expected_start_time"][11:19] for night in coming} == {"00:00:00"}
    run = server.api("POST", f"/deployments/{deployment['id']}/create_flow_run")
    ended = server.wait_until_final(run["id"])
    assert ended["state_type"] == "COMPLETED", ended["state"]
    assert ended["name"].startswith("night 20")
    assert "nightly" in ended["state"]["message"]
    assert len(list((server.films / "nightly/films").glob("*.mp4"))) == 3


@pytest.mark.slow
def test_a_priority_that_changes_while_a_job_runs_changes_which_is_next(
    server: Server, stories: Path, shared_config: Path
) -> None:
    closed = ("--window", "03:00-03:01 Pacific/Kiritimati", "--limit", "1")
    for name, priority in (("goes-on", "7"), ("was-next", "6"), ("overtakes", "5")):
        run = server.submit(stories, name, shared_config, *closed, "--priority", priority)
        assert server.wait_until_final(run)["state_name"] == "CarriedOver"
    zone = ("--timezone", "UTC", "--window-end", "23:59")
    said = server.storyreel("schedule", "--cron", "0 0 * * *", *zone)
    deployment = said.splitlines()[0].rsplit("/", 1)[-1]
    night = server.api("POST", f"/deployments/{deployment}/create_flow_run")
    server.wait_for(lambda: commit_records(server.films / "goes-on", "prompts"))
    server.storyreel("set", str(server.films / "goes-on"), "--priority", "1")
    server.storyreel("set", str(server.films / "overtakes"), "--priority", "9")
    ended = server.wait_until_final(night["id"])
    assert ended["state_type"] == "COMPLETED", ended["state"]
    ours = re.findall(r"^(goes-on|was-next|overtakes)", ended["state"]["message"], re.MULTILINE)
    assert ours == ["goes-on", "overtakes", "was-next"]
    for name in ours:
        assert len(list((server.films / name / "films").glob("*.mp4"))) == 1


@pytest.mark.slow
def test_a_stop_in_the_middle_leaves_no_process_and_the_next_start_goes_on(
    stories: Path, tiny_config: Path, tmp_path: Path
) -> None:
    with serving(tmp_path) as first:
        run = first.submit(stories, "stopped", tiny_config)
        first.wait_for(lambda: commit_records(first.films / "stopped", "keyframes"))
        assert stop(first.process) == []
    with serving(tmp_path) as second:
        ended = second.wait_until_final(run)
        assert ended["state_type"] == "COMPLETED", ended["state"]
        assert len(second.api("POST", "/deployments/filter")) == 1
        states = [child["state_type"] for child in second.children(run)]
        assert states[-1] == "COMPLETED"
        assert not {"RUNNING", "PENDING"} & set(states)
    assert len(list(first.films.glob("stopped/films/*.mp4"))) == 3


@pytest.mark.slow
def test_jobs_may_write_below_output_where_a_server_was_started_that_says_nothing_else(
    tiny_config: Path, tmp_path: Path
) -> None:
    ports = f"port = {free_port()}\ngallery_port = {free_port()}"
    (tmp_path / "server.toml").write_text(f'[server]\n{ports}\nhome = "home"')
    with serving(tmp_path) as server:
        run = server.submit(tmp_path / "nothing.jsonl", "../output/job", tiny_config)
        assert "nothing.jsonl" in server.wait_until_final(run)["state"]["message"]


@pytest.mark.slow
def test_a_server_with_a_password_of_ones_own_lets_nobody_else_in(tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("team:secret")
    (tmp_path / "auth").chmod(0o600)
    nights = ["schedule", "--cron", "0 22 * * *", "--timezone", "Europe/Berlin"]
    with serving(tmp_path, 'auth_file = "auth"') as server:
        url = f"http://127.0.0.1:{server.port}/api/flow_runs/filter"
        assert httpx.post(url, json={}, trust_env=False).status_code == 401
        allowed = httpx.post(url, json={}, auth=("team", "secret"), trust_env=False)
        assert allowed.status_code == 200
        assert "every night" in server.storyreel(*nights, "--window-end", "06:00")


def test_the_first_start_makes_a_password_and_only_the_owner_can_read_what_is_kept(
    server: Server,
) -> None:
    kept = {path.name: path.stat().st_mode & 0o777 for path in (server.folder / "home").iterdir()}
    files = {name for name in kept if name.startswith(("auth", "prefect.db", "serving.toml"))}
    assert files >= {"auth", "prefect.db", "serving.toml"}
    assert {kept[name] for name in files} == {0o600}
    assert len(server.auth[1]) >= 24
    url = f"http://127.0.0.1:{server.port}/api/admin/version"
    assert httpx.get(url, trust_env=False).status_code == 401


ATTACK = """
(async () => {{
    const answers = [];
    for (const [path, more] of {requests}) {{
        try {{
            const answer = await fetch("http://127.0.0.1:{port}/api" + path, more);
            answers.push(answer.status);
        }} catch (error) {{
            answers.push(error.name);
        }}
    }}
    return answers;
}})()
"""


def test_a_page_of_another_origin_can_neither_read_nor_change_anything(
    server: Server, tmp_path: Path
) -> None:
    """By its three requests it had created a deployment whose command the worker ran."""
    secret = base64.b64encode(":".join(server.auth).encode()).decode()
    post = {"method": "POST", "headers": {"content-type": "application/json"}}
    known = {**post, "headers": post["headers"] | {"authorization": f"Basic {secret}"}}  # type: ignore[operator]
    flow = json.dumps({"name": "stranger"})
    requests: list[list[Any]] = [
        ["/health", {}],
        ["/flows/", post | {"body": flow}],
        ["/flows/", known | {"body": flow}],  # even a page that knows the password
        ["/flows/", {"method": "POST", "mode": "no-cors", "body": flow}],
    ]
    with page_elsewhere(tmp_path) as url, browser(tmp_path / "profile") as page:
        page.open(url)
        page.wait_for("document.readyState === 'complete' && location.port")
        script = ATTACK.format(port=server.port, requests=json.dumps(requests))
        assert page.evaluate(script) == ["TypeError", "TypeError", "TypeError", 0]
    flows = server.api("POST", "/flows/filter", flows={"name": {"any_": ["stranger"]}})
    assert flows == []


@contextmanager
def page_elsewhere(folder: Path) -> Iterator[str]:
    """The URL of an empty page of another origin on this machine."""
    (folder / "index.html").write_text("<!doctype html><title>elsewhere</title>")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        thread = threading.Thread(target=elsewhere.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{elsewhere.server_port}/index.html"
        elsewhere.shutdown()
        thread.join()


@pytest.mark.parametrize("gallery", [False, True])
def test_a_name_that_somebody_else_points_at_this_machine_is_refused(
    server: Server, gallery: bool
) -> None:
    """DNS rebinding: a page of that name would be of the same origin."""
    port = load_server_config(server.toml).gallery_port if gallery else server.port
    url = f"http://127.0.0.1:{port}/"
    named = {"host": f"rebound.example:{port}"}
    refused = httpx.get(url, headers=named, auth=server.auth, trust_env=False)
    assert refused.status_code == 403
    assert httpx.get(url, auth=server.auth, trust_env=False).status_code == 200


def test_who_knows_the_password_can_run_jobs_and_no_commands(
    server: Server, tmp_path: Path
) -> None:
    touched, imported, pulled = (tmp_path / name for name in ("touched", "imported", "pulled"))
    evil = tmp_path / "evil.py"
    evil.write_text(
        "from pathlib import Path\nfrom prefect import flow\n"
        f"Path({str(imported)!r}).touch()\n\n@flow(name='job')\ndef job(**_): pass\n"
    )
    pull = {"prefect.deployments.steps.run_shell_script": {"script": f"touch {pulled}"}}
    for name in ("job", "stranger"):
        flow = server.api("POST", "/flows/", name=name)["id"]
        deployment = server.api(
            "POST", "/deployments/",
            name="evil", flow_id=flow, work_pool_name=POOL, enforce_parameter_schema=False,
            entrypoint=f"{evil}:job", path=str(tmp_path), pull_steps=[pull],
            job_variables={
                "command": f"touch {touched}",
                "env": {"PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(evil)},
                "working_dir": str(tmp_path),
            },
        )["id"]  # fmt: skip
        parameters = {"input_url": str(tmp_path / "nothing.jsonl"), "output_url": "elsewhere"}
        path = f"/deployments/{deployment}/create_flow_run"
        run = server.api("POST", path, parameters=parameters)["id"]
        ended = server.wait_until_final(run)
        # The job is ours and refuses its output; the stranger is not run at all.
        reason = "must be a folder below" if name == "job" else "must be one of job, night"
        assert reason in ended["state"]["message"], ended["state"]
    assert not any(path.exists() for path in (touched, imported, pulled))
