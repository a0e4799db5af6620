"""Metrics of a run, served at `/metrics` in the format of Prometheus.

What the run counts anyway is read when it is asked for; only durations, attempts, failures and
bytes are counted here, from the start of the process on, as Prometheus expects of counters.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric

from storyreel.cluster.pool import Pool
from storyreel.flows.job.config import MetricsConfig
from storyreel.flows.job.job import Job
from storyreel.flows.job.lock import HeldOutput
from storyreel.flows.job.status import JobStatus
from storyreel.flows.run.controller import Phase
from storyreel.stages.output.commits import Commit
from storyreel.stages.output.records import Failure, files_of

BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Upper bounds of the histogram of unit durations, seconds."""

logger = logging.getLogger(__name__)


class Metrics:
    """The metrics of one run; its methods may be called from any thread."""

    def __init__(self, job: Job) -> None:
        """Start with counters at zero."""
        self.registry = CollectorRegistry()
        self._job = job
        self._status: JobStatus | None = None
        self._pools: Mapping[str, Pool] = {}
        self._durations = Histogram(
            "storyreel_unit_duration_seconds",
            "Time that the stage of a committed unit took on its worker.",
            ["stage"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._attempts = self._counter("unit_attempts", "Attempts of the units that ended.")
        self._bytes = self._counter("published_bytes", "Size of the files of committed units.")
        self._failures = self._counter("unit_failures", "Units given up.", "error_class")
        self.registry.register(self)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"storyreel_{name}", meaning, ["stage", *labels], registry=self.registry)

    def watch(self, pools: Mapping[str, Pool]) -> None:
        """Tell of these pools from now on."""
        self._pools = pools

    def show(self, status: JobStatus) -> None:
        """Tell of this status from now on."""
        self._status = status

    def took(self, stage: str, seconds: float) -> None:
        """Add the duration of a committed unit."""
        self._durations.labels(stage).observe(seconds)

    def ended(self, stage: str, result: Commit[Any] | Failure) -> None:
        """Add a unit that has ended."""
        self._attempts.labels(stage).inc(result.attempts)
        if isinstance(result, Failure):
            self._failures.labels(stage, result.error_class).inc()
        else:
            sizes = (file.size for record in result.records for file in files_of(record))
            self._bytes.labels(stage).inc(sum(sizes))

    def collect(self) -> Iterator[Metric]:
        """Yield what is read at each scrape (see `prometheus_client.registry.Collector`)."""
        job = {"name": self._job.name, "fingerprint": self._job.fingerprint[:8]}
        yield InfoMetricFamily("storyreel_job", "The job that is rendered.", job)
        output = self._job.output
        if isinstance(output, HeldOutput):
            age = time.time() - output.renewed_at
            yield GaugeMetricFamily(
                "storyreel_lock_age_seconds", "Time since the job's lock was renewed.", age
            )
        yield from self._of_pools()
        if self._status is not None:
            yield from _of_status(self._status)

    def _of_pools(self) -> Iterator[Metric]:
        actors = _gauge("actors", "Actors of a pool by state.", "pool", "state")
        waiting = _gauge("queue_units", "Units that wait for an actor.", "pool")
        oldest = _gauge("queue_oldest_seconds", "Age of the unit that waits longest.", "pool")
        for name, pool in self._pools.items():
            census = pool.census()
            for state, count in census.actors.items():
                actors.add_metric([name, state], count)
            waiting.add_metric([name], census.waiting)
            oldest.add_metric([name], census.oldest_s)
        yield from (actors, waiting, oldest)


def _of_status(status: JobStatus) -> Iterator[Metric]:
    units = _gauge("units", "Units that ended.", "stage", "state")
    expected = _gauge("units_expected", "Units of a stage, estimated until all are known.", "stage")
    rate = _gauge("units_per_second", "Rate of a stage.", "stage")
    eta = _gauge("eta_seconds", "Time until a stage is done, at the present rate.", "stage")
    for stage in status.stages:
        units.add_metric([stage.stage, "done"], stage.done)
        units.add_metric([stage.stage, "failed"], stage.failed)
        expected.add_metric([stage.stage], stage.total)
        for metric, value in ((rate, stage.rate), (eta, stage.eta_s)):
            if value is not None:
                metric.add_metric([stage.stage], value)
    phase = _gauge("phase", "1 for what the run is doing.", "phase")
    for one in Phase:
        phase.add_metric([one], float(status.phase == one))
    yield from (units, expected, rate, eta, phase)
    yield GaugeMetricFamily(
        "storyreel_failed_stories", "Stories and input rows given up.", status.num_failures
    )
    yield GaugeMetricFamily(
        "storyreel_waiting_actors", "Actors that wait for storage.", len(status.waits)
    )


def _gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"storyreel_{name}", meaning, labels=labels)


@contextmanager
def served(metrics: Metrics, config: MetricsConfig) -> Iterator[None]:
    """Serve metrics while the context lasts, if a port is configured and free."""
    if config.port is None:
        yield
        return
    try:
        server, thread = start_http_server(config.port, config.host, metrics.registry)
    except OSError as error:  # a view must not keep the films from being rendered
        logger.warning("metrics.port %d: metrics are not served: %s", config.port, error)
        yield
        return
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
