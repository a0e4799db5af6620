"""The whole product on simulated stages: what Prefect records of a large job, and how it scales.

    python -m benchmarks.scale --stories 10000 --actors 16
    python -m benchmarks.scale --efficiency 1,2,4,8,16,32,64

The first renders one job and checks that every task run was recorded, that the UI's counts are the
manifests', how long the UI lags behind, what the orchestration costs, and whether the driver's
memory stays flat. The second renders a job per number of actors and draws how busy they were.

Definitions: `lag` is the time from the end of the run until the server has recorded the end of
every task run. `orchestration` is the share of the render actors' time, between warm-up and tail,
in which they wait although units are ready. `growth` is the driver's memory at the end over its
memory at a quarter of the time.
"""

import argparse
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from PIL import Image, ImageDraw
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from benchmarks import simulated
from benchmarks.timeline import Efficiency, measure, read_work
from storyreel.flows.job.config import load_config
from storyreel.flows.job.job import Job, open_job
from storyreel.flows.job.stages import STAGES
from storyreel.flows.run.prefect_server import prefect_api
from storyreel.flows.run.render import run_render
from storyreel.flows.run.task_runs import read_task_runs
from storyreel.flows.views.summary import summarize
from storyreel.stages.output.storage import Output
from storyreel.stages.output.unit_records import UnitRecords

MAX_LAG_S = 120.0
RENDER_STAGES = ("keyframes", "motion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One large job: what the server and the manifests say of it, and what it cost."""

    stories: int
    actors: int
    seconds: float
    task_runs_expected: int
    task_runs_recorded: int
    lag_s: float
    films: int
    failures: int
    ui_units: dict[str, int]
    manifest_units: dict[str, int]
    orchestration: float
    tail: float
    driver_mb: tuple[float, float]
    growth: float


def main() -> None:
    """Run the benchmark and print what it measured, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--stories", type=int, default=1000)
    parser.add_argument("--actors", type=int, default=16)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--efficiency", help="numbers of actors, such as 1,2,4,8")
    parser.add_argument("--units-per-actor", type=int, default=20)
    parser.add_argument("--plot", type=Path, default=Path("efficiency.png"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, prefect_api():
        if asked.efficiency is None:
            found = record(Path(folder), asked.stories, asked.actors, asked.speed)
            print(json.dumps(asdict(found), indent=1))  # noqa: T201
            return
        counts = [int(count) for count in asked.efficiency.split(",")]
        curve = {
            count: scale(Path(folder) / str(count), count, asked.units_per_actor, asked.speed)
            for count in counts
        }
    print(json.dumps({count: asdict(point) for count, point in curve.items()}, indent=1))  # noqa: T201
    draw({count: point.busy for count, point in curve.items()}).save(asked.plot)


def record(folder: Path, num_stories: int, num_actors: int, speed: float) -> Recorded:
    """Render one job, and compare what the server recorded with the manifests."""
    with memory() as samples:
        job, seconds, run_id = run_job(folder, num_stories, num_actors, speed)
    ended = time.monotonic()
    expected = job.num_shards * len(STAGES)
    with get_client(sync_client=True) as client:
        while time.monotonic() < ended + MAX_LAG_S:
            runs = read_task_runs(client, run_id)
            done = [run for run in runs if run.state_type is StateType.COMPLETED]
            if len(done) >= expected:
                break
            time.sleep(0.5)
        lag_s = time.monotonic() - ended
        ui = _units_in_ui(client, job)
    summary = summarize(job)
    used = measure(read_work(Path(job.output.url), RENDER_STAGES), num_actors)
    quarter, last = samples[len(samples) // 4], samples[-1]
    return Recorded(
        stories=num_stories,
        actors=num_actors,
        seconds=seconds,
        task_runs_expected=expected,
        task_runs_recorded=len(done),
        lag_s=lag_s,
        films=summary.num_films,
        failures=summary.num_failures,
        ui_units=ui,
        manifest_units=dict(_units_done(job)),
        orchestration=1 - used.busy,
        tail=used.tail,
        driver_mb=(quarter, last),
        growth=last / quarter,
    )


def scale(folder: Path, num_actors: int, units_per_actor: int, speed: float) -> Efficiency:
    """Render a job in which every actor gets about so many units."""
    units_per_story = 6  # keyframes of a story, and its shots
    num_stories = max(4, num_actors * units_per_actor // units_per_story)
    job, _, _ = run_job(folder, num_stories, num_actors, speed)
    return measure(read_work(Path(job.output.url), RENDER_STAGES), num_actors)


def run_job(
    folder: Path, num_stories: int, num_actors: int, speed: float
) -> tuple[Job, float, Any]:
    """Render a job of simulated stages; how long it took, and its flow run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(simulated.CONFIG)
    (folder / "stories.jsonl").write_text("\n".join(simulated.make_rows(num_stories)))
    config = load_config(
        str(folder / "config.toml"),
        overrides=[
            f"pools.render.num_actors={num_actors}",
            f"pools.assembly.num_actors={max(1, num_actors // 8)}",
            "pools.render.num_cpus=0.001",
            "pools.assembly.num_cpus=0.001",
            "execution.poll_s=2.0",
        ],
    )
    job = open_job(Output(str(folder / "job")), str(folder / "stories.jsonl"), config)
    start = time.monotonic()
    state = run_render(replace(job, stages=simulated.stage_table(speed=speed)), config)
    return job, time.monotonic() - start, state.state_details.flow_run_id


@contextmanager
def memory() -> Iterator[list[float]]:
    """Samples of this process's memory, MB, one a second."""
    process = psutil.Process()
    samples = [process.memory_info().rss / 2**20]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(1.0):
            samples.append(process.memory_info().rss / 2**20)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


def _units_in_ui(client: Any, job: Job) -> dict[str, int]:
    """The units done that the progress artifacts tell, by stage."""
    told = {}
    for stage in STAGES.names:
        key = f"job-{job.fingerprint[:8]}-{stage}"
        artifact = client.request("GET", "/artifacts/{key}/latest", path_params={"key": key}).json()
        told[stage] = int(artifact["description"].split()[1])  # "motion: 34 of 34"
    return told


def _units_done(job: Job) -> Counter[str]:
    return Counter(
        {
            stage: sum(len(UnitRecords.find(job.output, stage, s).done) for s in job.shards)
            for stage in STAGES.names
        }
    )


def draw(busy: dict[int, float]) -> Image.Image:
    """A plot of how busy the actors were, by their number."""
    width, height, margin = 640, 360, 48
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)

    def place(index: int, share: float) -> tuple[float, float]:
        x = margin + index * (width - 2 * margin) / max(1, len(busy) - 1)
        return x, height - margin - share * (height - 2 * margin)

    for share in (0.0, 0.25, 0.5, 0.75, 0.95, 1.0):
        left, right = place(0, share), place(len(busy) - 1, share)
        pen.line([left, right], fill="#c0392b" if share == 0.95 else "#dddddd")
        pen.text((8, left[1] - 6), f"{share:.2f}", fill="black")
    points = [place(index, share) for index, share in enumerate(busy.values())]
    pen.line(points, fill="#1f4e79", width=3)
    for (x, y), (count, share) in zip(points, busy.items(), strict=True):
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill="#1f4e79")
        pen.text((x - 6, height - margin + 8), str(count), fill="black")
        pen.text((x - 12, y - 20), f"{share:.3f}", fill="black")
    pen.text((width // 2 - 20, height - 20), "actors", fill="black")
    pen.text((8, 8), "share of the actors' time in a stage", fill="black")
    return picture


if __name__ == "__main__":
    main()
