"""The gallery as a browser shows it: films that play and seek, and text that stays text."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import uvicorn

from storyreel.flows.job.job import read_job
from storyreel.flows.server.server_config import ServerConfig
from storyreel.flows.views.gallery import gallery_app, write_gallery
from storyreel.stages.output.manifests import manifest_path, read_manifest, write_manifest
from storyreel.stages.output.records import Failure, Story
from storyreel.stages.output.storage import Output
from tests.cluster.nodes import free_port
from tests.flows.browser import browser
from tests.flows.inline import lay_out, render_inline

EVIL = """<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> & </p>"""


@contextmanager
def served(config: ServerConfig) -> Iterator[None]:
    settings = uvicorn.Config(
        gallery_app(config), host=config.host, port=config.gallery_port, log_level="error"
    )
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        yield
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def root(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of outputs with one job, whose stories and failures hold hostile text."""
    folder = tmp_path_factory.mktemp("gallery") / "films"
    output = Output(str(folder / "team" / "job"))
    shutil.copytree(rendered, output.url)
    job = read_job(output)
    shard = job.shards[0]
    stories = manifest_path("stories", shard)
    hostile = [replace(s, text=EVIL) for s in read_manifest(output, stories, Story)]
    write_manifest(output, stories, Story, hostile, fingerprint="")
    failure = Failure(
        story_id="ghost",
        stage="keyframes",
        unit_id="keyframes/ghost",
        error_class="bad_input",
        message=EVIL,
        attempts=3,
        worker="w",
        source_file=f"{EVIL}.jsonl",
        source_row=4,
    )
    write_manifest(output, manifest_path("failures", shard), Failure, [failure], fingerprint="")
    write_gallery(job)
    return folder


def test_a_browser_plays_and_seeks_the_films_and_runs_nothing_of_a_story(
    root: Path, tmp_path: Path
) -> None:
    config = ServerConfig(outputs=(str(root),), gallery_port=free_port())
    with served(config), browser(tmp_path / "profile") as page:
        page.open(config.gallery_url)
        page.click(read_job(Output(str(root / "team" / "job"))).name)
        page.wait_for_text("Failures")
        assert EVIL in page.evaluate("document.body.innerText")
        page.wait_for("[...document.images].every(i => (i.scrollIntoView(), i.naturalWidth > 0))")
        page.wait_for("document.querySelector('video').duration > 0")
        page.wait_for("""new Promise(done => {
            const film = document.querySelector('video');
            film.onseeked = () => done(film.videoWidth > 0);
            film.currentTime = film.duration / 2;
        })""")
        assert page.evaluate("window.pwned") is None
        assert page.console == []


def test_a_part_of_a_film_can_be_asked_for(root: Path) -> None:
    config = ServerConfig(outputs=(str(root),), gallery_port=free_port())
    film = next((root / "team" / "job" / "films").glob("*.mp4"))
    with served(config):
        url = f"{config.gallery_url}/films/team/job/films/{film.name}"
        answer = httpx.get(url, headers={"range": "bytes=100-199"}, trust_env=False)
    assert (answer.status_code, answer.content) == (206, film.read_bytes()[100:200])


def test_the_gallery_asks_for_the_password_and_leaves_its_folder_to_nobody(
    root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "auth"
    secret.write_text("team:open sesame?\n".replace(" ", "-"))
    secret.chmod(0o600)
    (root.parent / "outside.txt").write_text("secret")
    (root / "link.txt").symlink_to(root.parent / "outside.txt")
    config = ServerConfig(outputs=(str(root),), gallery_port=free_port(), auth_file=secret)
    with served(config), httpx.Client(base_url=config.gallery_url, trust_env=False) as client:
        assert client.get("/").status_code == 401
        assert client.get("/", auth=("team", "wrong")).status_code == 401
        client.auth = httpx.BasicAuth("team", "open-sesame?")
        assert client.get("/").status_code == 200
        for path in ("/films/../outside.txt", "/films/%2e%2e/outside.txt", "/films/link.txt"):
            assert client.get(path).status_code == 404


def test_a_damaged_job_is_told_in_the_index_and_the_others_are_there(tmp_path: Path) -> None:
    root = tmp_path / "films"
    for name in ("whole", "damaged"):
        output = Output(str(root / name))
        lay_out(output, tmp_path / name, 2)
        render_inline(output)
    (root / "damaged" / "job.json").write_text('{"<img>"')
    config = ServerConfig(outputs=(str(root),), gallery_port=free_port())
    with served(config):
        answer = httpx.get(config.gallery_url, trust_env=False)
    assert answer.status_code == 200
    assert read_job(Output(str(root / "whole"))).name in answer.text
    assert "films/damaged" in answer.text
    assert "job.json: not readable" in answer.text
