"""What an operator's Prometheus is told of a run."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks import simulated
from storyreel.cluster.config import PoolConfig
from storyreel.cluster.pool import Pool
from storyreel.cluster.work import Work
from storyreel.flows.job.config import MetricsConfig
from storyreel.flows.job.lock import held
from storyreel.flows.job.status import count_units, counted_status
from storyreel.flows.run.metrics import Metrics, served
from storyreel.stages.output.commits import Commit, UnitId
from storyreel.stages.output.manifests import Shard
from storyreel.stages.output.records import Failure, File
from storyreel.stages.output.storage import Output
from tests.cluster.nodes import free_port
from tests.cluster.toys import CopyStage, Order
from tests.flows.conftest import ROOT, wait_until
from tests.flows.inline import lay_out, render_inline
from tests.flows.simulation import NUM_STORIES, Simulation, end_of

DEPLOY = ROOT / "deploy" / "prometheus"
FILE = File(path="copies/a.txt", size=10, sha256="")
MADE = Commit(records=(FILE,), attempts=2, worker="", seconds=1.5, hardware="cpu")
FAILURE = Failure(
    story_id="fox",
    stage="motion",
    unit_id="fox.0000",
    error_class="timeout",
    message="",
    attempts=3,
    worker="",
    source_file="",
    source_row=1,
)


def documented() -> set[str]:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(storyreel_\w+)`", page, re.MULTILINE))


def scrape(port: int) -> dict[tuple[str, str], float]:
    """The samples, by name and by the values of their labels, in the order of the labels' names."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return {(s.name, " ".join(map(str, s.labels.values()))): s.value for s in samples}


def names_of(samples: dict[tuple[str, str], float]) -> set[str]:
    """The names of the metrics, as people write them: a histogram's without its endings."""
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name, _ in samples}
    return {name for name in names if not name.endswith("_created")}


@pytest.mark.usefixtures("local_ray")
def test_every_documented_metric_says_what_the_run_knows(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    lay_out(output, tmp_path, 2)
    (tmp_path / "toys").mkdir()
    with held(output, "night") as mine:
        job = render_inline(mine)
        metrics = Metrics(job)
        pool = Pool(
            name="render",
            stages={"copies": partial(CopyStage, output_url=str(tmp_path / "toys"))},
            output=Output(str(tmp_path / "toys")),
            config=PoolConfig(num_actors=1, num_cpus=0.1),
            num_threads=1,
            admit=lambda _stage: False,
        )
        unit = UnitId(stage="copies", shard=Shard(index=0, count=1), story_id="fox")
        with served(metrics, MetricsConfig(port=(port := free_port()))):
            pool.submit(Work(unit=unit, argument=Order(text="fox")), priority=(0,))
            metrics.watch({"render": pool})
            metrics.show(counted_status(job, count_units(job), "night"))
            metrics.took("motion", 1.5)
            metrics.ended("motion", MADE)
            metrics.ended("motion", FAILURE)
            time.sleep(0.1)
            found = scrape(port)
        pool.close(cancel=True)
    later = {"storyreel_units_per_second", "storyreel_eta_seconds"}  # once they can be told
    assert names_of(found) | later == documented()
    assert found["storyreel_units", "films done"] == 2
    assert found["storyreel_unit_attempts_total", "motion"] == 5
    assert found["storyreel_unit_failures_total", "timeout motion"] == 1
    assert found["storyreel_published_bytes_total", "motion"] == 10
    assert found["storyreel_unit_duration_seconds_sum", "motion"] == 1.5
    assert found["storyreel_queue_units", "render"] == 1
    assert found["storyreel_queue_oldest_seconds", "render"] >= 0.1
    assert found["storyreel_lock_age_seconds", ""] < 60


def test_a_port_that_is_taken_does_not_keep_the_films_from_being_rendered(tmp_path: Path) -> None:
    output = Output(str(tmp_path / "job"))
    metrics = Metrics(lay_out(output, tmp_path, 1))
    config = MetricsConfig(port=free_port())
    with served(metrics, config), served(metrics, config):
        assert config.port is not None
        assert scrape(config.port)


def test_every_query_of_the_dashboard_and_the_alerts_is_of_a_documented_metric() -> None:
    dashboard = json.loads((DEPLOY / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries.append((DEPLOY / "alerts.yml").read_text())
    asked = {name for query in queries for name in re.findall(r"storyreel_\w+", query)}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked} <= documented()


@pytest.mark.slow
def test_a_prometheus_scrapes_a_run_and_answers_every_query_of_the_dashboard(
    tmp_path: Path, prefect_url: str
) -> None:
    """Needs `prometheus` and `promtool`, as the distribution packages them."""
    promtool = shutil.which("promtool")
    assert promtool, "install the package `prometheus`"
    rules = subprocess.run([promtool, "test", "rules", str(DEPLOY / "alerts_test.yml")], check=True)
    assert rules.returncode == 0
    (tmp_path / "config.toml").write_text(simulated.CONFIG)
    (tmp_path / "stories.jsonl").write_text("\n".join(simulated.make_rows(NUM_STORIES)))
    port = free_port()
    simulation = Simulation(folder=tmp_path, prefect_url=prefect_url)
    with prometheus(tmp_path, port) as ask:
        run = simulation.start("--set", f"metrics.port={port}")
        wait_until(lambda: ask('storyreel_units{stage="motion",state="done"} > 3'), run)
        dashboard = json.loads((DEPLOY / "dashboard.json").read_text())
        for panel in dashboard["panels"]:
            query = panel["targets"][0]["expr"]
            if "failures" not in query:  # none has failed
                wait_until(partial(ask, query), run)
        assert end_of(run).startswith("COMPLETED|")


@contextmanager
def prometheus(folder: Path, scraped: int) -> Iterator[Any]:
    """A Prometheus of its own; yields what asks it a query and returns the results."""
    config = (DEPLOY / "prometheus.yml").read_text().replace("15s", "1s").replace("[alerts", "[a")
    config = config.replace("[a.yml]", f"[{DEPLOY / 'alerts.yml'}]").replace("9464", str(scraped))
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip

    def ask(query: str) -> list[Any]:
        url = f"http://127.0.0.1:{port}/api/v1/query"
        answer = httpx.get(url, params={"query": query}, trust_env=False).json()
        assert answer["status"] == "success", answer
        found: list[Any] = answer["data"]["result"]
        return found

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                try:
                    ask("up")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield ask
        finally:
            process.kill()
