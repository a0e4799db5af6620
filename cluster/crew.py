"""The actors of one pool: started, counted, killed; of units it only knows who has which."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import ray

from cluster.config import PoolConfig
from cluster.work import Work
from cluster.worker import StageFactory, Worker

MAX_BACKOFF_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """A unit on its way through a pool."""

    work: Work
    key: tuple[tuple[int, ...], int]
    future: Future[Any]
    attempts: int
    failed_on: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One actor: loading until `loaded`, then idle or busy with `entry`."""

    name: str
    label: str
    actor: Any
    deadline: float
    loaded: bool = False
    entry: Entry | None = None
    failed_units: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What the actors of a pool are made of."""

    name: str
    stages: Mapping[str, StageFactory]
    output_url: str
    num_threads: int


Answered = Callable[[Member, Future[Any]], None]
"""Called from one of Ray's threads when an actor has answered, or has died."""


class Crew:
    """The actors of one pool. All its methods are called from the pool's thread."""

    def __init__(self, contents: Contents, config: PoolConfig, answered: Answered) -> None:
        self._contents = contents
        self._config = config
        self._answered = answered
        self._members: list[Member] = []
        self._num_started = 0
        self._start_after = 0.0
        self.load_failures = 0
        """Actors that failed to load since one last did."""

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members))

    def idle(self) -> list[Member]:
        """The actors that can take a unit, in the order of their start."""
        return [m for m in self._members if m.loaded and m.entry is None]

    def entries(self) -> list[Entry]:
        """The units in flight."""
        return [m.entry for m in self._members if m.entry is not None]

    def next_deadline(self) -> float:
        """When, on the monotonic clock, something here is due at the latest."""
        due = [m.deadline for m in self._members]
        if self._start_after > time.monotonic():
            due.append(self._start_after)
        return min(due, default=math.inf)

    def fill(self, num_units: int) -> None:
        """Start the actors that are missing for so many open units, unless it is too early."""
        wanted = min(self._config.num_actors, num_units)
        while len(self._members) < wanted and time.monotonic() >= self._start_after:
            self._start()

    def hand(self, member: Member, entry: Entry) -> None:
        """Give a unit to an idle actor."""
        answer = member.actor.run.remote(entry.work, entry.attempts)
        member.entry = entry
        member.deadline = time.monotonic() + self._config.unit_timeout_s
        self._listen(member, answer)

    def take(self, member: Member) -> Entry:
        """Take from an actor the unit that it has."""
        entry, member.entry, member.deadline = member.entry, None, math.inf
        assert entry is not None
        return entry

    def welcome(self, member: Member, label: str) -> None:
        """An actor has loaded its stages."""
        member.loaded, member.label, member.deadline = True, label, math.inf
        self.load_failures = 0
        self._start_after = 0.0

    def reject(self, member: Member) -> None:
        """An actor could not load its stages; the next one waits the longer, the more did not."""
        self.remove(member)
        self._start_after = time.monotonic() + min(MAX_BACKOFF_S, 0.5 * 2.0**self.load_failures)
        self.load_failures += 1

    def remove(self, member: Member) -> None:
        """Kill an actor, dead or alive; what it still answers is nobody's."""
        self._members.remove(member)
        ray.kill(member.actor)

    def _start(self) -> None:
        self._num_started += 1
        name = f"{self._contents.name}-{self._num_started}"
        actor_class: Any = ray.remote(Worker)
        options = actor_class.options(
            num_cpus=self._config.num_cpus,
            num_gpus=self._config.num_gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": environment(self._contents.num_threads)},
        )
        actor = options.remote(
            name=name, stages=self._contents.stages, output_url=self._contents.output_url
        )
        deadline = time.monotonic() + self._config.load_timeout_s
        member = Member(name=name, label=name, actor=actor, deadline=deadline)
        self._members.append(member)
        self._listen(member, actor.load.remote())
        logger.debug("%s: started", name)

    def _listen(self, member: Member, reference: Any) -> None:
        reference.future().add_done_callback(lambda answer: self._answered(member, answer))


def environment(num_threads: int) -> dict[str, str]:
    """The environment of an actor: with it, the bytes made do not depend on `num_cpus`."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return dict.fromkeys(names, str(num_threads)) | {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "TOKENIZERS_PARALLELISM": "false",
    }


def check_placeable(name: str, config: PoolConfig) -> None:
    """Raise ValueError where no node of the cluster could ever hold an actor of the pool."""
    nodes = [
        node["Resources"]
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]
    needs = {"CPU": config.num_cpus, "GPU": config.num_gpus}
    if not any(all(node.get(key, 0) >= need for key, need in needs.items()) for node in nodes):
        have = [{key: node.get(key, 0) for key in needs} for node in nodes]
        raise ValueError(f"pool {name}: an actor needs {needs}, the cluster's nodes have {have}")
